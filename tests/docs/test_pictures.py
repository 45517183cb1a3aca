"""The pictures of the pages are those that ``python -m docs.pictures`` writes, and can be read in light and dark."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from docs.pictures import PICTURES
from docs.pictures.drawing import COLOURS, GROUNDS, INKS, Picture
from tests import ROOT
from tests.kit.colours import READABLE, contrast
from tests.language import pages

FOLDER = ROOT / "docs" / "pictures"
SVG = "{http://www.w3.org/2000/svg}"


def named(picture: Picture) -> str:
    return picture.name


@pytest.mark.parametrize("picture", PICTURES, ids=named)
def test_a_picture_in_the_docs_is_the_one_that_its_code_draws(picture: Picture) -> None:
    assert (FOLDER / f"{picture.name}.svg").read_text(encoding="utf-8") == picture.svg()


def test_there_is_no_picture_that_no_code_draws() -> None:
    assert {path.stem for path in FOLDER.glob("*.svg")} == {picture.name for picture in PICTURES}


def test_one_command_writes_all_pictures(tmp_path: Path) -> None:
    copy = tmp_path / "docs"
    (copy / "pictures").mkdir(parents=True)
    for path in [ROOT / "docs" / "__init__.py", *FOLDER.glob("*.py")]:
        (copy / path.relative_to(ROOT / "docs")).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "docs.pictures"], cwd=tmp_path, check=True, capture_output=True)
    written = {path.name: path.read_text(encoding="utf-8") for path in copy.rglob("*.svg")}
    assert written == {f"{picture.name}.svg": picture.svg() for picture in PICTURES}


@pytest.mark.parametrize("picture", PICTURES, ids=named)
def test_a_picture_tells_its_content_to_readers_who_do_not_see_it(picture: Picture) -> None:
    root = ET.fromstring(picture.svg())
    told = [root.find(f"{SVG}{tag}[@id='{key}']") for tag, key in (("title", "title"), ("desc", "about"))]
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-labelledby"] == "title about"
    assert [part is not None and bool(part.text) for part in told] == [True, True]


@pytest.mark.parametrize("picture", PICTURES, ids=named)
def test_a_page_shows_each_picture_with_a_sentence_in_its_place(picture: Picture) -> None:
    texts = [path.read_text(encoding="utf-8") for path in pages()]
    link = re.compile(rf"!\[([^]]+)\]\([./]*pictures/{picture.name}\.svg\)")
    shown = [words for text in texts for words in link.findall(text)]
    assert shown
    assert all(len(words.split()) > 3 for words in shown)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read_on_its_ground(scheme: int) -> None:
    pairs = [(ink, "ground") for ink in INKS] + [("ink", ground) for ground in GROUNDS]
    ratios = {pair: contrast(*(COLOURS[name][scheme] for name in pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in ratios.items() if ratio < READABLE} == {}
