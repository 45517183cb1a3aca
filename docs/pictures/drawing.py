"""The means of all pictures: text, boxes, bars and arrows as SVG, in light and in dark.

A picture is 460 units wide, and its text has 15 units. So the text has 11 pixels where a page leaves 340 of them to the
picture, as on a telephone. A picture has a ground of its own: a page may be dark while the system is light.

Attributes:
    WIDTH: The width of every picture.
    SIZE: The size of its text.
    LINE: The distance from one line of text to the next.
    COLOURS: The colours in light and in dark. Text has those of ``INKS``, and stands on those of ``GROUNDS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from xml.etree import ElementTree as ET

WIDTH: Final = 460
SIZE: Final = 15
LINE: Final = 19
FAMILY: Final = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'

COLOURS: Final[Mapping[str, tuple[str, str]]] = {
    "ground": ("#ffffff", "#171b21"),
    "line": ("#7a848f", "#8d97a3"),
    "ink": ("#1f2328", "#e6e9ed"),
    "faint": ("#57606a", "#a9b3be"),
    "blue": ("#0b5cad", "#86c0ff"),
    "green": ("#1a7040", "#77d49a"),
    "red": ("#b3261e", "#ff9f95"),
    "amber": ("#875400", "#ecc15d"),
    "blue-ground": ("#dcebfb", "#17344f"),
    "green-ground": ("#dbf2e3", "#173d29"),
    "red-ground": ("#fce2df", "#4d2320"),
    "amber-ground": ("#fbeecb", "#423413"),
}
INKS: Final = ("ink", "faint", "blue", "green", "red", "amber")
GROUNDS: Final = tuple(name for name in COLOURS if name.endswith("ground"))

Point: TypeAlias = tuple[float, float]
"""Two lengths, the one across first: a place, or a size."""


def rules(scheme: int, colours: Mapping[str, tuple[str, str]]) -> str:
    """Return a class for each colour as a filling, and one as a line. Simple viewers know no variables of CSS."""
    both = ((name, shades[scheme]) for name, shades in colours.items())
    return " ".join(f".{name} {{ fill: {shade} }} .{name}-line {{ stroke: {shade} }}" for name, shade in both)


STYLE: Final = f"""
text {{ font: {SIZE}px {FAMILY} }}
.code {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace }}
.strong {{ font-weight: 600 }}
{rules(0, COLOURS)}
@media (prefers-color-scheme: dark) {{ {rules(1, COLOURS)} }}
"""


@dataclass(slots=True)
class Picture:
    """A picture that is drawn from above to below.

    Attributes:
        name: The name of its file, without the ending.
        title: Its subject.
        about: What it shows, for readers who do not see it.
        height: Its height.
    """

    name: str
    title: str
    about: str
    height: int
    _parts: list[ET.Element] = field(default_factory=list)

    def text(self, at: Point, *lines: str, look: str = "ink", anchor: str = "start") -> None:
        """Write lines; the first one stands on ``at``. ``look`` is a colour, with "code" or "strong" behind it."""
        for number, line in enumerate(lines):
            place = {"x": f"{at[0]:g}", "y": f"{at[1] + LINE * number:g}"}
            align = {} if anchor == "start" else {"text-anchor": anchor}
            self._add("text", place | align | {"class": look}, line)

    def box(self, at: Point, size: Point, *lines: str, colour: str = "", look: str = "ink") -> None:
        """Draw a box with lines in its middle; without a colour it is empty."""
        (x, y), (width, height) = at, size
        fill = f"{colour}-ground" if colour else "ground"
        self._rectangle(at, size, f"{fill} {colour or 'line'}-line", corner=6)
        first = y + height / 2 - LINE * (len(lines) - 1) / 2 + SIZE / 3
        self.text((x + width / 2, first), *lines, look=look, anchor="middle")

    def bar(self, at: Point, size: Point, colour: str, says: str) -> None:
        """Draw a bar along the time, with words along it."""
        self._rectangle(at, size, f"{colour}-ground {colour}-line", corner=3)
        x, y = at[0] + size[0] / 2 + SIZE / 3, at[1] + size[1] / 2
        turned = {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": "middle", "class": "ink"}
        self._add("text", turned | {"transform": f"rotate(-90 {x:g} {y:g})"}, says)

    def line(self, start: Point, end: Point, colour: str = "line", *, dashed: bool = False) -> None:
        """Draw a straight line."""
        ends = dict(zip(("x1", "y1", "x2", "y2"), (f"{place:g}" for place in (*start, *end)), strict=True))
        self._add("line", ends | {"class": f"{colour}-line"} | ({"stroke-dasharray": "4 4"} if dashed else {}))

    def arrow(self, start: Point, end: Point, colour: str = "line", *, dashed: bool = False) -> None:
        """Draw a straight line with a head at its end; it is level or upright."""
        (x, y), far = end, abs(end[0] - start[0]) + abs(end[1] - start[1])
        across, down = ((end[axis] - start[axis]) / far for axis in (0, 1))
        self.line(start, (x - 6 * across, y - 6 * down), colour, dashed=dashed)
        wings = [(x - 9 * across + side * 4.5 * down, y - 9 * down + side * 4.5 * across) for side in (1, -1)]
        points = " ".join(f"{px:g},{py:g}" for px, py in [(x, y), *wings])
        self._add("polygon", {"points": points, "class": colour})

    def svg(self) -> str:
        """Return the picture as the text of an SVG file."""
        root = ET.Element(
            "svg",
            {"xmlns": "http://www.w3.org/2000/svg", "width": str(WIDTH), "height": str(self.height)}
            | {"viewBox": f"0 0 {WIDTH} {self.height}", "role": "img", "aria-labelledby": "title about"},
        )
        for name, key, words in (("title", "title", self.title), ("desc", "about", self.about)):
            ET.SubElement(root, name, {"id": key}).text = " ".join(words.split())
        ET.SubElement(root, "style").text = STYLE
        ground = {"x": "0.5", "y": "0.5", "width": f"{WIDTH - 1}", "height": f"{self.height - 1}", "rx": "8"}
        ET.SubElement(root, "rect", ground | {"class": "ground line-line"})
        root.extend(self._parts)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode") + "\n"

    def _rectangle(self, at: Point, size: Point, look: str, *, corner: int) -> None:
        place = dict(zip(("x", "y", "width", "height"), (f"{part:g}" for part in (*at, *size)), strict=True))
        self._add("rect", place | {"rx": str(corner), "class": look})

    def _add(self, tag: str, attributes: Mapping[str, str], words: str | None = None) -> None:
        part = ET.Element(tag, dict(attributes))
        part.text = words
        self._parts.append(part)
