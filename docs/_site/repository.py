"""Links to files of the repository outside of docs/: each such file is a page of the site, with its text as it is.

A link such as ``../examples/error_profile.py`` works where the pages are read as files. Here it leads to a copy that
has the version of the site. A link to a folder leads to a list of its files. A link to what does not exist is a
warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

ROOT: Final = Path(__file__).parents[2]
INCLUDED: Final = {
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "SECURITY.md": "security",
    "README.md": "index",
}
"""Files of the root that have a page here: the first three are included in it."""


class RepositoryLinks(SphinxTransform):
    """Turn links to files outside of docs/ into references to their pages, before Sphinx looks for downloads."""

    default_priority = 400

    def apply(self, **kwargs: Any) -> None:
        """Look at each link."""
        for node in [
            *self.document.findall(addnodes.download_reference),
            *self.document.findall(addnodes.pending_xref),
        ]:
            path = self._outside(node) if node.get("reftype") == "myst" else None
            if path is not None:
                target = addnodes.pending_xref("", *node.children, reftype="repository", reftarget=path)
                node.replace_self(target)

    def _outside(self, node: nodes.Element) -> str | None:
        """Return the path in the repository of what a link leads to; None if that is a page, or is not there."""
        docs = Path(self.env.srcdir)
        target = str(node["reftarget"]).partition("#")[0]
        # A page is named without its ending, and below docs/; or, outside of that, by its whole path.
        page = node.get("refdomain") == "doc"
        places = [docs / f"{target}.md"] if page else [(docs / self.env.docname).parent / target, ROOT / target]
        for place in places if target else []:
            path = place.resolve()
            if path.exists() and path.is_relative_to(ROOT) and not path.is_relative_to(docs):
                return path.relative_to(ROOT).as_posix()
        return None


def resolve(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.Node) -> nodes.Node | None:
    """Return a reference to the page of a file, and remember that the page is needed."""
    if node["reftype"] != "repository":
        return None
    path = node["reftarget"]
    if path not in INCLUDED:
        _wanted(app).add(path)
    page = INCLUDED.get(path) or _page(path)
    uri = app.builder.get_relative_uri(env.current_document.docname or node["refdoc"], page)
    return nodes.reference("", "", content, internal=True, refuri=uri)


def pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Make a page for each file and folder that is linked, and for the files of these folders."""
    wanted = sorted({inside for path in _wanted(app) for inside in [path, *_inside(ROOT / path)]})
    for path in wanted:
        place = ROOT / path
        body = _listing(app, path) if place.is_dir() else _text(app, place)
        yield _page(path), {"title": path, "body": f"<h1>{path}</h1>\n{body}"}, "page.html"


def _page(path: str) -> str:
    return f"repository/{path}"


def _wanted(app: Sphinx) -> set[str]:
    wanted: set[str] = app.env.__dict__.setdefault("repository_pages", set())
    return wanted


def _inside(folder: Path) -> list[str]:
    """Return the files of a folder, those of its folders included."""
    if not folder.is_dir():
        return []
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path.relative_to(ROOT).as_posix() for path in files if _is_text(path)]


def _is_text(path: Path) -> bool:
    return "__pycache__" not in path.parts and not path.name.startswith(".") and b"\0" not in path.read_bytes()[:1024]


def _listing(app: Sphinx, path: str) -> str:
    relative = app.builder.get_relative_uri
    items = [f'<li><a href="{relative(_page(path), _page(file))}">{file}</a></li>' for file in _inside(ROOT / path)]
    return f"<ul>{''.join(items)}</ul>"


def _text(app: Sphinx, path: Path) -> str:
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except (ClassNotFound, IndexError):
        language = "text"
    highlighter: Any = app.builder.highlighter  # type: ignore[attr-defined]
    text: str = highlighter.highlight_block(path.read_text(encoding="utf-8"), language, force=True)
    return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Add both halves."""
    app.add_transform(RepositoryLinks)
    app.connect("missing-reference", resolve)
    app.connect("html-collect-pages", pages)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
