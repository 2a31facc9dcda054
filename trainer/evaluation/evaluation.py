"""What an evaluation found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...engine.plan.network import ClassEntry
from ..description import TaskConfig
from ..scores import Scores
from .cost import Cost
from .groups import Grouping

__all__ = ["Evaluation", "Example", "GroupScores", "TaskEvaluation"]


@dataclass(frozen=True)
class GroupScores:
    """Scores of some of the patches.

    Attributes:
        name: of the group: a domain, a subset of modalities in words, a number of dates.
        patches: how many with labels of the task.
        scores: of them together.
    """

    name: str
    patches: int
    scores: Scores


@dataclass(frozen=True)
class Example:
    """One patch to look at.

    Attributes:
        patch: its name.
        scores: of it alone.
        seen: modality that the picture is of.
        picture: natural colours or the nearest to them, uint8 [Y, X, 3].
        truth: classes [Y, X] uint8; 255 where not known.
        found: mapped classes [Y, X] uint8; 255 where the base image is void.
    """

    patch: str
    scores: Scores
    seen: str
    picture: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    found: NDArray[np.uint8]


@dataclass(frozen=True)
class TaskEvaluation:
    """One task.

    Attributes:
        name: of the task.
        classes: in the order of their values, K of them.
        patches: how many have labels of it.
        confusion: pixels by true class (rows) and mapped class (columns), int64 [K, K].
        scores: of all patches.
        groups: grouping -> scores of its groups that occur.
        best: patches with the largest accuracy, the best first.
        worst: patches with the smallest, the worst first; none that is among the best.
    """

    name: str
    classes: tuple[ClassEntry, ...]
    patches: int
    confusion: NDArray[np.int64]
    scores: Scores
    groups: Mapping[Grouping, tuple[GroupScores, ...]]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]


@dataclass(frozen=True)
class Evaluation:
    """One network on one split.

    Attributes:
        model: name of the network.
        kind: "checkpoint" or "plan".
        file: name of its file.
        runs: where it ran and in which precision.
        cost: weights, and operations for one tile with every modality.
        modalities: what it takes.
        absent: what of this was left out everywhere.
        split: which.
        patches: how many were mapped.
        dates: series whose clear dates are counted; None where there is none.
        tasks: those that have labels.
        remarks: sentences that a reader of the scores should know.
        said: task -> whose rasters hold its labels and which class each value is, where that is not FLAIR-HUB's.
    """

    model: str
    kind: str
    file: str
    runs: str
    cost: Cost
    modalities: tuple[str, ...]
    absent: tuple[str, ...]
    split: str
    patches: int
    dates: str | None
    tasks: tuple[TaskEvaluation, ...]
    remarks: tuple[str, ...]
    said: Mapping[str, TaskConfig] = field(default_factory=dict)

    def task(self, name: str) -> TaskEvaluation | None:
        """One task; None where it has no such task, or no labels of it."""
        return next((task for task in self.tasks if task.name == name), None)
