"""Whether a text can be read on its ground: the ratio of WCAG 2, which is 4.5 at least for text."""

from __future__ import annotations

from typing import Final

READABLE: Final = 4.5


def contrast(one: str, other: str) -> float:
    """Return the ratio of two colours, each as ``#rrggbb``."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Return how light a colour is, from 0 to 1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
