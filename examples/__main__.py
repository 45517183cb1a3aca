"""List the examples: what each shows, how to run it, and whether it needs a server."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from typing import Final, NamedTuple

from examples import OF_THE_EXTRA

HERE: Final = Path(__file__).parent


class Example(NamedTuple):
    """One example, as the docstring of its module tells."""

    name: str
    title: str
    shows: str
    run: str
    server: str
    """Whether it needs one."""


def examples() -> list[Example]:
    """Return all examples. None is imported: what they need may be missing."""
    files = [path for path in HERE.glob("*.py") if not path.name.startswith("_")]
    return sorted(map(read, [*files, *HERE.glob("*/__main__.py")]))


def read(path: Path) -> Example:
    """Return the example in the module ``path``.

    Raises:
        ValueError: Its docstring lacks a part.
    """
    name = path.stem if path.stem != "__main__" else path.parent.name
    about = ast.get_docstring(ast.parse((path.parent / "__init__.py" if path.stem == "__main__" else path).read_text()))
    command = ast.get_docstring(ast.parse(path.read_text()))
    story = f"{about}\n\n{command}"
    title = re.match(r"(.+?): (.+)$", story, re.MULTILINE)
    run = re.search(r"^ +(python -m examples\.\S+.*)$", story, re.MULTILINE)
    server = re.search(r"^[A-Z][^.]*\bneeds? [^.]*\bserver\b[^.]*\.", story, re.MULTILINE)
    if title is None or run is None or server is None:
        message = f"the docstring of {path} has to say its title, how to run it, and whether it needs a server"
        raise ValueError(message)
    return Example(name, title[1], title[2], run[1], " ".join(server[0].split()))


def is_there(package: str) -> bool:
    """Tell whether ``package`` is installed."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Print the list."""
    for example in examples():
        print(f"\n{example.name}: {example.title}\n  {example.shows}\n  {example.server}\n\n    {example.run}")
    lacking = sorted(package for package in OF_THE_EXTRA if not is_there(package))
    if lacking:
        print(f"\nNot installed: {', '.join(lacking)}. Write pip install '.[examples]'")


if __name__ == "__main__":
    main()
