"""A moving average of a network's weights, which maps better than any of them."""

from __future__ import annotations

from copy import deepcopy

import torch

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

    @torch.no_grad()
    def update(self, network: UPerFuse) -> None:
        """Bring the average forward by one update of the weights."""
        keep = min(self._keep, (1 + self.updates) / (10 + self.updates)) if self._keep else 0.0
        for average, current in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if average.is_floating_point():
                average.lerp_(current, 1 - keep)
            else:
                average.copy_(current)
        self.updates += 1
