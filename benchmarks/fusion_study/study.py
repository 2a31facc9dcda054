"""All results together, and the questions that are asked of them."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import DataSet

from .kinds import ALL, Land, Settings
from .running import Result, Score, read
from .world import World

__all__ = ["Gap", "Measure", "Study", "ends_of"]

Measure = Literal["mIoU", "rare", "accuracy"]

_RARE_SHARE = 0.01
_PLAIN_SPREADS = 2.0


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Gap(_Frozen):
    """By how much one side is above the other, seed by seed.

    Attributes:
        mean: of the differences.
        deviation: standard deviation of the differences over seeds; NaN of one seed.
    """

    mean: float
    deviation: float

    @classmethod
    def between(cls, ours: Sequence[float], theirs: Sequence[float]) -> Gap:
        """Of values that stand for the same seeds."""
        return cls(**ends_of([a - b for a, b in zip(ours, theirs, strict=True)]))

    @property
    def plain(self) -> bool:
        """Whether it lies beyond the spread: its mean is more than twice its standard deviation."""
        return abs(self.mean) > _PLAIN_SPREADS * self.deviation

    def __str__(self) -> str:
        if math.isnan(self.deviation):
            return f"{100 * self.mean:+.1f} points (one seed)"
        return f"{100 * self.mean:+.1f} ± {100 * self.deviation:.1f} points"


class Study(_Frozen):
    """Everything that the page says.

    Attributes:
        command: that made it.
        land: the simulated data set.
        settings: of every run.
        shares: task -> class -> part of the valid pixels that are learnt from.
        learnt: patches that are learnt from.
        tested: patches that are scored.
        test_patches: in the test split; those that lack a sensor are not scored.
        domains: of training and of test.
        results: of every run.
    """

    command: str
    land: Land
    settings: Settings
    shares: dict[str, dict[str, float]]
    learnt: int
    tested: int
    test_patches: int
    domains: tuple[int, int]
    results: tuple[Result, ...]

    @classmethod
    def gather(cls, runs: Path, root: Path, land: Land, settings: Settings, *, command: str) -> Study:
        """Put together what a folder holds."""
        world, data_set = World.read(root), DataSet.open(root)
        shares = {}
        for task, entries in TASKS.items():
            pixels = np.where([entry.ignored for entry in entries], 0, world.counts[task].sum(0))
            parts = pixels / max(pixels.sum(), 1)
            shares[task] = {
                entry.name: float(f"{part:.4g}") for entry, part in zip(entries, parts, strict=True) if part
            }
        return cls(
            command=command,
            land=land,
            settings=settings,
            shares=shares,
            learnt=len(world.learnt),
            tested=len(world.tested),
            test_patches=world.test_patches,
            domains=(len(data_set.split("train").domains), len(data_set.split("test").domains)),
            results=tuple(read(runs)),
        )

    @classmethod
    def read(cls, path: Path) -> Study:
        """What was kept."""
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def write(self, path: Path) -> None:
        """Keep it as JSON: a line for each run, so that changes can be read."""
        kept = self.model_dump(mode="json", exclude={"results"})
        head = json.dumps(kept, indent=1, ensure_ascii=False).removesuffix("\n}")
        runs = [json.dumps(each.model_dump(mode="json"), ensure_ascii=False) for each in self.results]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{head},\n "results": [\n  ' + ",\n  ".join(runs) + "\n ]\n}\n", encoding="utf-8")

    def has(self, *kinds: str) -> bool:
        """Whether all of these kinds were run, with the same seeds."""
        seeds = [self._seeds(kind) for kind in kinds]
        return bool(seeds[0]) and all(each == seeds[0] for each in seeds)

    def rare(self, task: str) -> list[str]:
        """Classes of less than a hundredth of the pixels that are learnt from."""
        return [name for name, share in self.shares[task].items() if share < _RARE_SHARE]

    def values(self, kind: str, task: str, measure: Measure = "mIoU") -> list[float]:
        """A score of one kind, seed by seed."""
        return [self._value(result.scores[task], task, measure) for result in self._runs(kind)]

    def absent(self, kind: str, way: str, present: Sequence[str], task: str) -> list[float]:
        """Score of one kind with some sensors alone, seed by seed."""
        key = "+".join(name for name in ALL if name in present)
        return [result.absent[way][key][task].mean_iou for result in self._runs(kind)]

    def gap(self, ours: str, theirs: str, task: str, measure: Measure = "mIoU") -> Gap:
        """By how much one kind is better than another."""
        return Gap.between(self.values(ours, task, measure), self.values(theirs, task, measure))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that any kind was run with."""
        return tuple(sorted({result.seed for result in self.results}))

    def _runs(self, kind: str) -> list[Result]:
        return sorted((each for each in self.results if each.kind == kind), key=lambda each: each.seed)

    def _seeds(self, kind: str) -> list[int]:
        return [each.seed for each in self._runs(kind)]

    def _value(self, score: Score, task: str, measure: Measure) -> float:
        if measure == "accuracy":
            return score.accuracy
        if measure == "mIoU":
            return score.mean_iou
        found = [score.classes[name] for name in self.rare(task) if name in score.classes]
        return statistics.fmean(found) if found else math.nan


def ends_of(values: Sequence[float]) -> dict[str, float]:
    """Mean and standard deviation; of one value no deviation."""
    return {
        "mean": statistics.fmean(values),
        "deviation": statistics.stdev(values) if len(values) > 1 else math.nan,
    }
