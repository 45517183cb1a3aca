"""Lets a drawn chart be read everywhere: in light and dark, by programs, and by readers who do not see it.

matplotlib writes one colour for each line. Here it becomes a class, which has one colour for each scheme: those of the
pictures of the pages, and some more. Text stays text. The figures of a chart stand in its file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree as ET

from docs.pictures.drawing import COLOURS as OF_PICTURES
from docs.pictures.drawing import FAMILY, rules

COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    **OF_PICTURES,
    "purple": ("#7a3fb5", "#cfa8f7"),
    "teal": ("#00708f", "#62cdf0"),
    "pink": ("#b0246f", "#f79ac9"),
    "brown": ("#7a5230", "#d9b48f"),
    "olive": ("#5c6600", "#c3d04a"),
    "grid": ("#e4e7eb", "#2b323b"),
}
LIGHT: Final = {name: light for name, (light, _) in COLOURS.items()}
"""The colours with which matplotlib draws."""

_SVG: Final = "http://www.w3.org/2000/svg"
_NAMES: Final = {light: name for name, light in LIGHT.items()}
_COLOUR: Final = re.compile(r"(fill|stroke): (#\w{6})(?:; )?")
# matplotlib makes them of places, which differ in digits that no drawing shows.
_ID: Final = re.compile(r"(?<=[#\"])[mp][0-9a-f]{10}\b")
_FAMILY: Final = re.compile(r"font-family: [^;]+(?:; )?")
_STYLE: Final = f"""
text {{ font-family: {FAMILY} }}
{rules(0, COLOURS)}
@media (prefers-color-scheme: dark) {{ {rules(1, COLOURS)} }}
"""


def readable(drawn: str, *, title: str, about: str, figures: str) -> str:
    """Return an SVG of matplotlib with classes for colours, its words for readers, and its figures."""
    ET.register_namespace("", _SVG)
    ET.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    root = ET.fromstring(drawn)  # noqa: S314 - drawn here
    for element in root.iter():
        _name_colours(element)
    for old in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(old)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib.update({"width": width, "height": height, "role": "img", "aria-labelledby": "title about"})
    ground = {"x": "0.5", "y": "0.5", "rx": "8", "class": "ground line-line"}
    root.insert(0, ET.Element("rect", ground | {"width": f"{float(width) - 1:g}", "height": f"{float(height) - 1:g}"}))
    parts = {
        "title": ("title", title),
        "desc": ("about", about),
        "metadata": ("figures", figures),
        "style": ("", _STYLE),
    }
    for place, (tag, (key, words)) in enumerate(parts.items()):
        part = ET.Element(tag, {"id": key} if key else {})
        part.text = words
        root.insert(place, part)
    numbers: dict[str, str] = {}
    svg = ET.tostring(root, encoding="unicode")
    return _ID.sub(lambda found: numbers.setdefault(found[0], f"part-{len(numbers)}"), svg) + "\n"


def figures(svg: str) -> str:
    """Return the figures of a chart, as `readable` has written them."""
    found = ET.fromstring(svg).find(f"{{{_SVG}}}metadata[@id='figures']")  # noqa: S314 - a file of ours
    if found is None or not found.text:
        message = "this SVG has no figures: it is no chart of the benchmarks"
        raise ValueError(message)
    return found.text


def _name_colours(element: ET.Element) -> None:
    style = _FAMILY.sub("", element.attrib.pop("style", ""))
    classes = [_NAMES[colour] + ("-line" if what == "stroke" else "") for what, colour in _COLOUR.findall(style)]
    left = _COLOUR.sub("", style).removesuffix("; ")
    element.attrib.update({name: value for name, value in (("style", left), ("class", " ".join(classes))) if value})
