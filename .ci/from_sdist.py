"""Run tests from an sdist as somebody would who has nothing else: unpacked, installed in a new environment.

Usage: ``python from_sdist.py DIST TEST...``; ``DIST`` is the folder with one ``.tar.gz``.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path


def main(dist: Path, tests: list[str]) -> None:
    """Unpack the sdist, install it with what its tests need, and run some of them there."""
    [sdist] = dist.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as scratch:
        with tarfile.open(sdist) as archive:
            archive.extractall(scratch, filter="data")
        [source] = Path(scratch).iterdir()
        environment = Path(scratch) / "environment"
        venv.create(environment)
        python = environment / "bin" / "python"
        # uv installs in seconds what takes pip a minute.
        install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), ".[test]"]
        # The settings of this environment are not those of the other one.
        outside = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
        for command in (install, [str(python), "-m", "pytest", *tests]):
            print("+", *command, flush=True)
            subprocess.run(command, cwd=source, env=outside, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
