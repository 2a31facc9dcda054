"""What a round of steps came to: losses, and scores on patches that choose the best weights."""

from __future__ import annotations

import math
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import cast

import torch
from lightning.fabric import Fabric

from ...engine.plan.network import Task
from ..data import PreparedDataset, make_loader
from ..network import UPerFuse
from ..scores import GroupedConfusion, Scores, scores_of

__all__ = ["Round", "Scoring", "Validation"]


@dataclass(frozen=True)
class Validation:
    """Patches that are scored after every round.

    Attributes:
        patches: prepared, by their index.
        tasks: with their classes.
        batch: patches at once.
    """

    patches: PreparedDataset
    tasks: Sequence[Task]
    batch: int = 4


@dataclass(frozen=True)
class Round:
    """What one round came to.

    Attributes:
        number: counted from 1.
        of: rounds of the run.
        step: updates of the weights so far.
        losses: name -> mean loss over its steps.
        scores: task -> scores of the averaged weights; nothing without validation.
        best: whether no round before was better.
    """

    number: int
    of: int
    step: int
    losses: dict[str, float]
    scores: dict[str, Scores]
    best: bool

    @property
    def mean_iou(self) -> float:
        """Macro mIoU, mean over the tasks; NaN without validation."""
        found = [scores.mean_iou for scores in self.scores.values() if not math.isnan(scores.mean_iou)]
        return sum(found) / len(found) if found else math.nan

    def __str__(self) -> str:
        parts = ", ".join(f"{task} {scores.mean_iou:.3f}" for task, scores in self.scores.items())
        scored = f", mIoU {parts}{' (best)' if self.best else ''}" if parts else ""
        return f"round {self.number} of {self.of}, step {self.step}: loss {self.losses['loss']:.4f}{scored}"


class Scoring:
    """Scores of a network on the validation patches, which all processes share.

    Args:
        valid: the patches.
        fabric: the processes, launched.
        workers: processes that load, of each.
    """

    def __init__(self, valid: Validation, fabric: Fabric, *, workers: int) -> None:
        self._fabric = fabric
        self._tasks = valid.tasks
        mine = range(fabric.global_rank, len(cast(Sized, valid.patches)), fabric.world_size)
        self._loader = make_loader(valid.patches, batch=valid.batch, workers=workers, items=mine)

    @torch.no_grad()
    def __call__(self, network: UPerFuse) -> dict[str, Scores]:
        """Task -> scores; every process gets those of all patches."""
        ignored = {task.name: [entry.ignored for entry in task.classes] for task in self._tasks}
        counts = {name: GroupedConfusion(flags).to(self._fabric.device) for name, flags in ignored.items()}
        nothing = torch.zeros((0, 1, 1), dtype=torch.uint8, device=self._fabric.device)
        for each in counts.values():
            each.update(nothing, nothing)  # a process may have no labels of a task
        for batch in self._loader:
            here = batch.to(self._fabric.device)
            size = next(iter(here.labels.values())).shape[-2:]
            with self._fabric.autocast():
                logits = network(here.inputs, here.days, here.masks, present=here.present, output_px=(size[0], size[1]))
            for name, labels in here.labels.items():
                counts[name].update(logits[name].argmax(1), labels)
        return {task.name: scores_of(counts[task.name].matrix(), task.classes) for task in self._tasks}
