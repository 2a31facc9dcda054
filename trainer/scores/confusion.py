"""Confusion matrices of a whole split, apart for every group of patches that is reported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ..data.sample import UNLABELLED

__all__ = ["GroupedConfusion"]

_NOWHERE = -1


@contextmanager
def _in_any_order() -> Iterator[None]:
    """Let whole numbers be counted in any order, which never changes a sum.

    Where deterministic algorithms are asked for, torchmetrics counts by a table of pixels by cells instead: 80 times as
    slow for a patch of 512 px and 19 classes, and 0.8 GB of memory (torchmetrics 1.9).
    """
    asked, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(asked, warn_only=warn_only)


class GroupedConfusion(Metric):
    """Pixels by true and mapped class, over all batches and all processes.

    Args:
        ignored: for each class, whether pixels that truly are of it are left out.
        groups: names of what is reported apart, such as domains; a patch may be of several. All patches together need
            no name.

    Example:
        >>> confusion = GroupedConfusion([False, False, True], groups=["D004", "D005"])
        >>> truth, found = torch.tensor([[0, 1, 2, 255]]), torch.tensor([[0, 2, 0, 1]])
        >>> confusion.update(found, truth, [["D005"]])
        >>> confusion.matrix("D005").tolist()
        [[1, 0, 0], [0, 0, 1], [0, 0, 0]]
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, ignored: Sequence[bool], *, groups: Sequence[str] = ()) -> None:
        super().__init__()
        if len(set(groups)) < len(groups):
            raise ValueError(f"groups {', '.join(groups)} have a name twice; name each once")
        self.groups = tuple(groups)
        self._ignored = torch.tensor([*ignored], dtype=torch.bool)
        shape = (1 + len(self.groups), len(ignored), len(ignored))
        self.add_state("counts", torch.zeros(shape, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, found: Tensor, truth: Tensor, groups: Sequence[Collection[str]] | None = None) -> None:
        """Count the pixels of some patches.

        Args:
            found: mapped classes, integers [B, ...].
            truth: true classes, the same shape; 255 where not known.
            groups: of each patch; names that are not reported are passed over.
        """
        classes = len(self._ignored)
        ignored = self._ignored.to(truth.device)
        known = truth.long()
        known = torch.where(known == UNLABELLED, classes, known)
        left_out = torch.cat([ignored, ignored.new_ones(1)])[known]
        known = torch.where(left_out, _NOWHERE, known)
        for patch in range(len(found)):
            with _in_any_order():
                counts = multiclass_confusion_matrix(
                    found[patch].long().flatten(),
                    known[patch].flatten(),
                    classes,
                    ignore_index=_NOWHERE,
                    validate_args=False,
                )
            self.counts[0] += counts
            for group in groups[patch] if groups is not None else ():
                if group in self.groups:
                    self.counts[1 + self.groups.index(group)] += counts

    def compute(self) -> Tensor:
        """Pixels [1 + groups, K, K], of all patches first; rows are true classes."""
        return self.counts

    def matrix(self, group: str | None = None) -> NDArray[np.int64]:
        """Pixels [K, K] of one group, or of all patches; rows are true classes.

        Raises:
            KeyError: the group is not reported.
        """
        if group is not None and group not in self.groups:
            raise KeyError(group)
        counts: Tensor = self.compute()
        found: NDArray[np.int64] = counts[0 if group is None else 1 + self.groups.index(group)].cpu().numpy()
        return found
