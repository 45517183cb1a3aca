"""Anchors of the glossary: each of its rows can be linked to by its word, as a heading can: ``glossary.md#lease``."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

PAGE = "glossary"


class GlossaryAnchors(SphinxTransform):
    """Give each row of the glossary an id, and tell MyST, which checks links to headings."""

    # Behind the transform of MyST that collects headings.
    default_priority = 900

    def apply(self, **kwargs: Any) -> None:
        """Look at the body of each table."""
        if self.env.docname != PAGE:
            return
        slugs = self.env.metadata[PAGE].setdefault("myst_slugs", {})
        for body in self.document.findall(nodes.tbody):
            for row in body.findall(nodes.row):
                word = row[0].astext()
                slug = word.lower().replace(" ", "-")
                row["ids"].append(slug)
                slugs[slug] = (row.line, slug, word)


def setup(app: Sphinx) -> dict[str, bool]:
    """Add it."""
    app.add_transform(GlossaryAnchors)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
