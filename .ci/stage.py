"""Copy a checkout without the package, so that tests in the copy import the installed wheel.

Usage: ``python stage.py CHECKOUT EMPTY_DIRECTORY``, from an environment that has the wheel.
"""

import shutil
import sys
from pathlib import Path

# The package itself, leftovers of builds, and hidden files of the platform or an editor.
LEFT_BEHIND = ("cachekit", "build", "dist", "__pycache__", "*.egg-info", ".*")
# These are hidden, but tests read them.
BROUGHT = {".ci", ".github", ".pre-commit-config.yaml"}


def main(checkout: Path, target: Path) -> None:
    """Copy ``checkout`` to ``target`` and make sure that cachekit comes from elsewhere."""
    at_the_top = shutil.ignore_patterns(*LEFT_BEHIND)
    everywhere = shutil.ignore_patterns("__pycache__", ".*")

    def ignore(directory: str, names: list[str]) -> set[str]:
        if Path(directory) == checkout:
            return at_the_top(directory, names) - BROUGHT
        return everywhere(directory, names)

    shutil.copytree(checkout, target, ignore=ignore, dirs_exist_ok=True)

    import cachekit  # noqa: PLC0415 - the place of the imported package is the question

    home = Path(cachekit.__file__).resolve()
    if home.is_relative_to(checkout.resolve()) and "site-packages" not in home.parts:
        sys.exit(f"cachekit is imported from the source, not from the wheel: {home}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
