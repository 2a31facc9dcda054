"""The numbers of tiles and dates that an engine is compiled for, and the shapes that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..plan.payloads import Door

__all__ = ["Profile", "door_shape", "profiles_of"]


@dataclass(frozen=True)
class Profile:
    """One set of shapes of a part.

    Attributes:
        batch: tiles at a time.
        dates: of a series; None for a part that sees no dates.
    """

    batch: int
    dates: int | None = None

    def __str__(self) -> str:
        return f"{self.batch} tiles" if self.dates is None else f"{self.batch} tiles of {self.dates} dates"


def profiles_of(doors: Iterable[Door], *, batches: Sequence[int], dates: Sequence[int]) -> tuple[Profile, ...]:
    """Profiles of a part in their order: for each number of tiles, for each number of dates.

    Args:
        doors: all of the part's.
        batches: numbers of tiles, rising.
        dates: numbers of dates, rising; not looked at where no door has dates.
    """
    if any("T" in door.shape for door in doors):
        return tuple(Profile(batch, number) for batch in batches for number in dates)
    return tuple(Profile(batch) for batch in batches)


def door_shape(door: Door, profile: Profile) -> tuple[int, ...]:
    """A door's shape in one profile."""
    named = {"B": profile.batch, "T": profile.dates}
    sizes = [named[axis] if isinstance(axis, str) else axis for axis in door.shape]
    assert None not in sizes, f"{door.name} has dates, {profile} has none"
    return tuple(size for size in sizes if size is not None)
