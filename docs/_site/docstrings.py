"""Docstrings as they are: text in single backticks is a name, and ``docs/stale.md`` a link to that page."""

from __future__ import annotations

import re
from typing import Final

from sphinx.application import Sphinx

_PAGE: Final = re.compile(r"(?<![\w/`])docs/([\w/-]+)\.md")
_AS_WRITTEN: Final[dict[str, list[str]]] = {}
_MADE_INSIDE: Final = {
    f"cachekit.{name}"
    for name in (
        *("CachedFunction", "BoundCachedFunction", "CachedManyFunction", "BoundCachedManyFunction", "Put", "Warmed"),
        *("Miss", "stores.RedisStore", "decorators.CachedDecorator", "decorators.ManyDecorator"),
    )
}
"""Classes whose instances no user makes: their parameters are left out."""
_AS_READ: Final = {
    r"\*args: ~typing\.~P, \*\*kwargs: ~typing\.~P": "*args, **kwargs",
    r"\(<class 'Exception'>,\)": "(Exception,)",
    r"\*\*options: ~typing\.Unpack\[~cachekit\._flow\.policy\.CachedManyOptions\]": "**options",
    r"(~cachekit\.events\.\w+ \| )+~cachekit\.events\.\w+": "~cachekit.events.Event",
}
"""Parts of signatures, and how they are written: the last one is the union of all events."""


def before_sections(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep an attribute as it is: napoleon would take the text before its first colon for a type."""
    if what in {"attribute", "data", "property"}:
        _AS_WRITTEN[name] = [*lines]


def behind_sections(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Turn the paths of pages into links."""
    lines[:] = [_PAGE.sub(r":doc:`\1.md </\1>`", line) for line in _AS_WRITTEN.pop(name, lines)]


def tidy(
    app: Sphinx, what: str, name: str, obj: object, options: object, signature: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Leave out what a reader does not need: parameters of classes made inside, addresses and marks of Python."""
    if signature is None:
        return None
    # A protocol has the second one.
    if name in _MADE_INSIDE or (what == "class" and signature == "(*args, **kwargs)"):
        return "", ""
    for found, written in _AS_READ.items():
        signature, returns = re.sub(found, written, signature), re.sub(found, written, returns or "")
    return signature, returns or ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Put them around the extension that reads Google's sections."""
    app.connect("autodoc-process-docstring", before_sections, priority=100)
    app.connect("autodoc-process-docstring", behind_sections, priority=900)
    app.connect("autodoc-process-signature", tidy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
