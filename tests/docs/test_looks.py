"""The rules for the look of the pages find what they are for, and nothing on a page that is as it should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.looks import complaints

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><title>{title}</title>
<style>
body {{ margin: 0; background: #fff; color: #111 }}
body[data-theme=dark] {{ background: #111; color: #eee }}
{style}
</style>
<body><article>{article}</article></body>"""
WIDE = "<div style='width: 600px'>a long line</div>"
SHADE = "overflow: auto; background-image: linear-gradient(#fff, #fff)"
PIXEL = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' width='400' height='9'/>"


def found(folder: Path, article: str, *, title: str = "a page", style: str = "") -> list[str]:
    (folder / "page.html").write_text(PAGE.format(title=title, style=style, article=article))
    return complaints(folder)


def test_a_page_as_it_should_be_has_no_complaint(tmp_path: Path) -> None:
    article = f"<p>text</p><pre style='{SHADE}'>{WIDE}</pre><img src=\"{PIXEL}\" alt='a line' style='max-width: 100%'>"
    assert found(tmp_path, article) == []


@pytest.mark.parametrize(
    ("article", "complaint"),
    [
        (WIDE, "390 px: outside of the window: <div> a long line"),
        (WIDE, "390 px: scrolls sideways: <html> is 600 px wide"),
        (f"<pre style='overflow: auto'>{WIDE}</pre>", "390 px: scrolls, and nothing shows it: <pre> a long line"),
        ("<img src='gone.png' alt='a picture'>", "no picture: "),
        (f'<img src="{PIXEL}">', "no words in place of "),
        (f'<img src="{PIXEL}" alt="a line" width="90">', "a small picture: "),
    ],
    ids=["outside", "sideways", "unseen", "gone", "wordless", "small"],
)
def test_a_fault_is_found(tmp_path: Path, article: str, complaint: str) -> None:
    assert any(complaint in one for one in found(tmp_path, article))


def test_a_page_without_a_title_is_found(tmp_path: Path) -> None:
    assert any(one.endswith("no title") for one in found(tmp_path, "text", title=""))


def test_text_that_is_faint_in_one_scheme_is_found_in_that_scheme_alone(tmp_path: Path) -> None:
    style = "p { transition: color 1s } body[data-theme=dark] p { color: #444 }"
    assert {one.partition("px: ")[2] for one in found(tmp_path, "<p>text</p>", style=style)} == {
        'dark: contrast 1.94: rgb(68, 68, 68) in <p class="">: text'
    }
