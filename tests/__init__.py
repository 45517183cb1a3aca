"""The tests of cachekit; `README.md` beside this file says which folder answers which question.

Attributes:
    ROOT: The folder in which tests, docs, examples and benchmarks stand.
"""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
