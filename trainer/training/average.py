"""A moving average of a network's weights, which maps better than any of them."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..network import UPerFuse

__all__ = ["MovingAverage"]


class MovingAverage:
    """The average, which begins with the weights as they are.

    Early updates count more, so that the beginning is soon forgotten. Of PyTorch's `AveragedModel` it differs in
    leaving alone what is no weight: masks of attention, which follow the tile.

    Args:
        network: to be averaged.
        keep: how much of the average an update keeps in the end; 0 keeps nothing.

    Attributes:
        network: with the averaged weights, in inference mode.
        updates: how many there were.
    """

    def __init__(self, network: UPerFuse, keep: float) -> None:
        self.network = deepcopy(network).requires_grad_(False).eval()
        self.updates = 0
        self._keep = keep
        self._source: UPerFuse | None = None
        self._weights: tuple[list[Tensor], list[Tensor]] = ([], [])
        self._counts: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def update(self, network: UPerFuse) -> None:
        """Bring the average forward by one update of the weights."""
        if network is not self._source:  # names are looked up once: small networks update often
            pairs = [*zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)]
            weights = [pair for pair in pairs if pair[0].is_floating_point()]
            self._weights = [average for average, _ in weights], [current for _, current in weights]
            self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
            self._source = network
        keep = min(self._keep, (1 + self.updates) / (10 + self.updates)) if self._keep else 0.0
        average_all = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]  # PyTorch gives it no types
        average_all(*self._weights, self.updates)
        for average, current in self._counts:
            average.copy_(current)
        self.updates += 1
