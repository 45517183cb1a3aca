"""Uses of cachekit, each a module to run and to copy from. ``python -m examples`` lists them.

They need what the extra ``examples`` brings: ``pip install '.[examples]'``. Who starts one without is told so.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

OF_THE_EXTRA: Final = frozenset(
    {"rich", "fastapi", "starlette", "uvicorn", "itsdangerous", "sqlalchemy", "aiosqlite", "asyncpg", "webauthn"}
    | {"prometheus_client", "promql_parser", "yaml"}
)
"""The packages that the extra brings, as they are imported."""


class _NameTheExtra:
    """The last finder of modules: it is asked for the modules that no other finder has found."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:  # noqa: ARG004 - as Python calls it
        """Find nothing; say which extra has the module ``name``.

        Raises:
            ModuleNotFoundError: The extra has it.
        """
        if name in OF_THE_EXTRA:
            message = f"No module named {name!r}: the examples need it; write pip install '.[examples]'"
            raise ModuleNotFoundError(message, name=name)
        return None


sys.meta_path.append(_NameTheExtra)
