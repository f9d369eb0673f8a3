"""Decides which loaded models have to go. Pure.

The eviction rule of a multi-model endpoint, for each instance by itself:

1. A model is unloaded for another one when memory is full, or the count limit is reached. The
   process that waits for the next model takes its part of the memory.
2. The least recently used one goes first.
3. Pinned models, and models with open calls, stay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedModel:
    """One model in memory."""

    name: str
    memory_kib: int
    used_at: float
    """Last call, or the load where there was none: seconds on the monotonic clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What an instance has for models."""

    memory_kib: int
    spare_kib: int = 0
    """What the process that waits for the next model takes of it."""
    max_models: int = 0
    """0: no limit but memory."""
    pinned: frozenset[str] = frozenset()

    @property
    def models_kib(self) -> int:
        """Memory for the models themselves."""
        return self.memory_kib - self.spare_kib


def is_full(models: Sequence[LoadedModel], room: Room, *, loading: int) -> bool:
    """Whether one more model may not fit.

    Args:
        models: Those in memory.
        room: Of the instance.
        loading: How many are being loaded, the one that is asked for among them.

    What a model will take is not known before it is loaded: it is taken to be as large as the
    others are on average.
    """
    if room.max_models and len(models) + loading > room.max_models:
        return True
    if not models:
        return False
    taken = sum(model.memory_kib for model in models)
    return taken + loading * taken // len(models) > room.models_kib


def is_over(models: Sequence[LoadedModel], room: Room) -> bool:
    """Whether those in memory are too many, or too large together."""
    if room.max_models and len(models) > room.max_models:
        return True
    return sum(model.memory_kib for model in models) > room.models_kib


def eviction_order(
    models: Sequence[LoadedModel], room: Room, *, keep: Collection[str] = ()
) -> list[str]:
    """Return the models that may be unloaded, the first to go first.

    Args:
        models: Those in memory.
        room: Of the instance.
        keep: Names that must stay, beside the pinned ones.
    """
    candidates = [m for m in models if m.name not in room.pinned and m.name not in keep]
    return [model.name for model in sorted(candidates, key=lambda model: model.used_at)]
