"""Counts of true and mapped classes of all tasks, batch by batch, and the scores that follow."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ...engine.plan.network import Task
from ...engine.prediction import VOID
from ..data.sample import UNLABELLED
from ..scores import GroupedConfusion, Scores, scores_of

__all__ = ["Tally"]


class Tally(nn.Module):
    """What was found against what is true, for every task and every group of patches.

    It knows nothing of networks, files or devices. As a part of a Lightning module its counts go to the module's
    device, and reading them adds up those of all processes.

    Args:
        tasks: what is mapped.
        groups: names of what is reported apart, the same in all processes; a patch may be of several.

    Example:
        >>> import torch
        >>> from uperfuse.trainer.description import describe_task
        >>> tally = Tally([describe_task("AERIAL_LABEL-COSIA", classes=19)], groups=["D004"])
        >>> maps = {"AERIAL_LABEL-COSIA": torch.tensor([[[0, 6], [6, 255]]], dtype=torch.uint8)}
        >>> truth = {"AERIAL_LABEL-COSIA": torch.tensor([[[0, 6], [0, 6]]], dtype=torch.uint8)}
        >>> tally.update(maps, truth, groups=[["D004"]])
        >>> tally.scores("AERIAL_LABEL-COSIA").mean_iou
        0.5
    """

    def __init__(self, tasks: Sequence[Task], *, groups: Sequence[str] = ()) -> None:
        super().__init__()
        self.tasks = {task.name: task for task in tasks}
        self._places = {name: place for place, name in enumerate(self.tasks)}
        # names of tasks may hold dots, which the name of a module may not
        self._confusions = nn.ModuleList(
            GroupedConfusion([entry.ignored for entry in task.classes], groups=groups) for task in tasks
        )

    def update(
        self,
        found: Mapping[str, Tensor],
        truth: Mapping[str, Tensor],
        *,
        groups: Sequence[Collection[str]] | None = None,
    ) -> None:
        """Count the pixels of some patches.

        Args:
            found: task -> mapped classes, integers [B, Y, X]; 255 where nothing was seen to map, which does not count.
            truth: task -> true classes, the same shape; 255 where not known. A task that is left out is not counted.
            groups: of each patch; names that are not reported are passed over.
        """
        for task, known in truth.items():
            mapped = found[task]
            void = mapped == VOID
            self._confusion(task).update(
                mapped.masked_fill(void, 0), known.masked_fill(void, UNLABELLED), groups=groups
            )

    def confusion(self, task: str, *, group: str | None = None) -> NDArray[np.int64]:
        """Pixels [K, K] of one group, or of all patches; rows are true classes.

        Raises:
            KeyError: no such task or group.
        """
        return self._confusion(task).matrix(group)

    def scores(self, task: str, *, group: str | None = None) -> Scores:
        """Scores of one group, or of all patches.

        Raises:
            KeyError: no such task or group.
        """
        return scores_of(self.confusion(task, group=group), self.tasks[task].classes)

    def reset(self) -> None:
        """Forget all counts."""
        for confusion in self._confusions:
            assert isinstance(confusion, GroupedConfusion)
            confusion.reset()

    def _confusion(self, task: str) -> GroupedConfusion:
        confusion = self._confusions[self._places[task]]
        assert isinstance(confusion, GroupedConfusion)
        return confusion
