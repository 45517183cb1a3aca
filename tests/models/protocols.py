"""The models by name, each with its scenes."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from tests.models import batch, clear, near_tags, put, stale, tagged_batch, tagged_put, tags
from tests.models.frame import Frame


@dataclass(frozen=True)
class Protocol:
    """One model.

    Attributes:
        scenes: What must hold, by name.
        large: A scene that is larger than a search.
        broken: By the name of a rule the scene that lacks it, in which a violation must be found.
        extras: By the name of what is done for another reason than the promises a scene that lacks it, and holds.
    """

    scenes: dict[str, Frame[Any]]
    large: Frame[Any]
    broken: dict[str, Frame[Any]]
    extras: dict[str, Frame[Any]]


def _protocol(module: ModuleType) -> Protocol:
    broken = {rule: module.without(rule) for rule in module.BROKEN}
    return Protocol(module.SCENES, module.LARGE, broken, getattr(module, "EXTRAS", {}))


PROTOCOLS: Final = {
    "stale": _protocol(stale),
    "batch": _protocol(batch),
    "put": _protocol(put),
    "tags": _protocol(tags),
    "tagged-batch": _protocol(tagged_batch),
    "tagged-put": _protocol(tagged_put),
    "near-tags": _protocol(near_tags),
    "clear": _protocol(clear),
}
