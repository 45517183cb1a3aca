"""The site: `tox -e docs` builds it. Nothing is fetched, neither by the build nor by a page that is read."""

import sys
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).parent
# The modules of the site, and the package itself where it is not installed.
sys.path[:0] = [str(DOCS / "_site"), str(DOCS.parent)]

import cachekit  # noqa: E402 - found by the line above

project = "cachekit"
release = version = cachekit.__version__
project_copyright = "the cachekit authors"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "anchors",
    "docstrings",
    "repository",
    "sections",
]
exclude_patterns = ["_site"]
nitpicky = True
# What stands in single backticks in a docstring is a name.
default_role = "any"
# Names of other libraries, whose inventories would have to be fetched; type variables; parts of a public type that no
# user makes.
nitpick_ignore_regex = [
    ("any|py:.*", r"(asyncio|_asyncio|collections|contextlib|contextvars|datetime|enum|time|typing|types)(\..*)?"),
    ("any|py:.*", r"(opentelemetry|prometheus_client)(\..*)?|CoroutineType|TimeoutError"),
    ("py:class", r"(cachekit\.[\w.]+\.)?[A-Z]\d?|cachekit\.events\.Event"),
    (
        "py:class",
        r"cachekit\.(sealing\.Sealer|stores\.(credentials\.HasCredentials|keyspace\.Keyspace|scripts\.Unexpected))",
    ),
]
autodoc_typehints_format = "short"

myst_enable_extensions = ["colon_fence", "html_image"]
myst_heading_anchors = 4

# One parameter a line where there are many.
python_maximum_signature_line_length = 88

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"cachekit {version}"
html_static_path = ["_site/static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
