"""Pictures and charts of the docs in a real browser: at each width and in both schemes their text is in its place."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from playwright.async_api import Browser

from docs.pictures import PICTURES
from docs.pictures.drawing import COLOURS
from tests import ROOT
from tests.kit.browser import Visitor, artefact

DRAWN = {
    **{picture.name: picture.svg() for picture in PICTURES},
    **{f"chart-{path.stem}": path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.svg"))},
}
"""All of them, by name; the charts of the benchmarks stand beside the pages."""
LEAST = 11
"""Pixels of text that can be read on a telephone."""
MARGIN = 16
"""Pixels that a page leaves free on either side of a picture, as forges do."""

PLACES = """() => {
    const place = element => { const {left, right, top, bottom} = element.getBoundingClientRect();
        return {left, right, top, bottom, says: element.textContent} };
    const all = name => [...document.querySelectorAll(`${name}:not(defs *)`)].map(place);
    return {texts: all('text'), boxes: all('rect')};
}"""
"""A script that tells where each text and each rectangle is."""

PAPER = """async image => {
    await image.decode();
    const context = Object.assign(document.createElement('canvas'), {width: 40, height: 40}).getContext('2d');
    context.drawImage(image, 0, 0);
    return [...context.getImageData(8, 8, 1, 1).data];
}"""
"""A script that tells the colour of a picture's ground."""

SIZES = "texts => texts.map(text => parseFloat(getComputedStyle(text).fontSize))"
"""A script that tells the size of each text."""


def inside(text: dict[str, Any], box: dict[str, Any]) -> bool:
    return bool(
        box["left"] <= text["left"]
        and text["right"] <= box["right"]
        and box["top"] <= text["top"]
        and text["bottom"] <= box["bottom"]
    )


def meets(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether two places have more in common than the blanks above and below their letters."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return bool(across > 0 and down > 3)


async def test_each_text_of_a_picture_stands_in_its_box_or_beside_all_of_them(browser: Browser) -> None:
    page = (await Visitor.arrive(browser)).page
    for name, svg in DRAWN.items():
        await page.set_content(svg)
        found = await page.evaluate(PLACES)
        ground, *boxes = found["boxes"]
        for number, text in enumerate(found["texts"]):
            assert inside(text, ground), (name, text["says"])
            assert all(inside(text, box) or not meets(text, box) for box in boxes), (name, text["says"])
            met = [other["says"] for other in found["texts"][number + 1 :] if meets(text, other)]
            assert met == [], (name, text["says"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
async def test_a_picture_on_a_page_is_large_enough_and_as_dark_as_its_reader_asks(
    browser: Browser, width: int, scheme: Any
) -> None:
    page = (await Visitor.arrive(browser, viewport={"width": width, "height": 860}, color_scheme=scheme)).page
    style = f"<style>body {{ margin: {MARGIN}px }} img {{ max-width: 100% }}</style>"
    for name, svg in DRAWN.items():
        source = base64.b64encode(svg.encode()).decode()
        await page.set_content(f"{style}<img src='data:image/svg+xml;base64,{source}'>")
        image = page.locator("img")
        paper = await image.evaluate(PAPER)
        assert "#{:02x}{:02x}{:02x}".format(*paper) == COLOURS["ground"][scheme == "dark"]
        shrunk = await image.evaluate("image => image.width / image.naturalWidth")
        await page.screenshot(path=artefact(f"picture-{name}-{width}-{scheme}.png"), full_page=True)
        await page.set_content(svg)
        assert min(await page.locator("text").evaluate_all(SIZES)) * shrunk >= LEAST, name
