"""What a training runs on: processors or GPUs, one or several, of one machine or many."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy

from .recipe import Recipe

__all__ = ["Machines", "deterministic"]

_PATIENCE = timedelta(hours=6)
"""How long processes wait for the first one, which reads every file of the data set before they begin."""


@dataclass(frozen=True)
class Machines:
    """What a training runs on.

    Attributes:
        accelerator: "auto", "cpu" or "cuda".
        devices: GPUs, or processes on processors, of each node.
        nodes: machines that train together.
    """

    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1

    def fabric(self, recipe: Recipe) -> Fabric:
        """The processes, not yet launched."""
        several = self.devices * self.nodes > 1
        # sensors that a process' patches lack leave weights unused; batch norms are the same everywhere by themselves
        strategy = (
            DDPStrategy(find_unused_parameters=True, broadcast_buffers=False, timeout=_PATIENCE) if several else "auto"
        )
        precision = {"float32": "32-true", "bf16": "bf16-mixed"}[recipe.precision]
        return Fabric(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy=strategy,
            precision=cast(Any, precision),  # its type lists every word that Lightning knows
        )


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Refuse operations whose results change from run to run, for a while."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
