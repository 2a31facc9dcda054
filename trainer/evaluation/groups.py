"""Groups of patches whose scores are told apart: places, sensors that are there, and how often it was clear."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from ...engine.plan.network import Modality
from ..data import Sample

__all__ = ["GROUPINGS", "Grouping", "Groups"]

Grouping = Literal["domain", "modalities", "dates"]
GROUPINGS: tuple[Grouping, ...] = ("domain", "modalities", "dates")

_BINS = ((0, 0), (1, 2), (3, 5), (6, 10), (11, 20))
_MORE = f"{_BINS[-1][1] + 1} or more"


@dataclass(frozen=True)
class Groups:
    """The groups that patches of a split can be of.

    Attributes:
        modalities: of the network, less those that are left out everywhere.
        domains: of the split.
        counted: the series whose clear dates are counted: the first that is filtered; None where there is none.
    """

    modalities: tuple[str, ...]
    domains: tuple[str, ...]
    counted: str | None
    _subsets: Mapping[frozenset[str], str]

    @classmethod
    def of(cls, modalities: Mapping[str, Modality], domains: Iterable[str]) -> Groups:
        """Groups for a network that takes these modalities, and patches of these domains."""
        may = [name for name, modality in modalities.items() if modality.may_be_absent]
        subsets = [
            frozenset(modalities) - set(lacking)
            for count in range(len(may) + 1)
            for lacking in combinations(may, count)
        ]
        filtered = [name for name, modality in modalities.items() if modality.filter is not None]
        return cls(
            tuple(modalities),
            tuple(sorted(set(domains))),
            filtered[0] if filtered else None,
            {subset: _words(tuple(modalities), subset) for subset in subsets if subset},
        )

    @property
    def keys(self) -> list[str]:
        """Names for a tally, of all groupings."""
        return [_key(grouping, name) for grouping in GROUPINGS for name in self.names(grouping)]

    def names(self, grouping: Grouping) -> Sequence[str]:
        """Names of the groups of one grouping, in the order of a table."""
        if grouping == "domain":
            return self.domains
        if grouping == "modalities":
            return list(self._subsets.values())
        return [_bin_name(low, high) for low, high in _BINS] + [_MORE] if self.counted else []

    def key(self, grouping: Grouping, name: str) -> str:
        """Name of one group for a tally."""
        return _key(grouping, name)

    def keys_of(self, sample: Sample) -> Collection[str]:
        """Groups of a patch from which a network's modalities and acquisitions were chosen.

        A patch without the series that is counted is of no group of dates.
        """
        held = frozenset(sample.images) | frozenset(sample.series)
        keys = [_key("domain", sample.patch.domain), _key("modalities", self._subsets[held])]
        if self.counted is not None and self.counted in sample.series:
            keys.append(_key("dates", _bin(len(sample.series[self.counted].dates))))
        return keys


def _key(grouping: Grouping, name: str) -> str:
    return f"{grouping}: {name}"


def _words(modalities: tuple[str, ...], held: frozenset[str]) -> str:
    """A subset by the shorter of two lists."""
    there = [name for name in modalities if name in held]
    lacking = [name for name in modalities if name not in held]
    if not lacking:
        return "all" if len(there) > 1 else there[0]
    return f"without {', '.join(lacking)}" if len(lacking) <= len(there) else f"only {', '.join(there)}"


def _bin_name(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def _bin(dates: int) -> str:
    return next((_bin_name(low, high) for low, high in _BINS if low <= dates <= high), _MORE)
