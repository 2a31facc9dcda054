"""The loop: AdamW, one cycle, an average of the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from ...engine.flairhub import TASKS
from ...engine.plan.network import Modality
from ..network import NetworkSpec, UPerFuse
from .batch import Batch, make_batch
from .world import TrainingTile

__all__ = ["Recipe", "train"]

_IGNORED = 255


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        steps: batches of quarters of tiles, on which most is learnt: they cost a quarter.
        whole_steps: batches of whole tiles at the end, so that the network has seen their size.
        batch: tiles per batch.
        learning_rate: peak of the cycle.
        dropout: chance that a sensor that may be absent is left out of a batch.
        max_dates: acquisitions kept of a series.
        seed: of weights, order and augmentation.
    """

    steps: int = 1200
    whole_steps: int = 100
    batch: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warm_up: float = 0.1
    dropout: float = 0.25
    max_dates: int = 20
    average: float = 0.99
    seed: int = 2025


def train(
    spec: NetworkSpec,
    tiles: Sequence[TrainingTile],
    modalities: Mapping[str, Modality],
    *,
    recipe: Recipe,
    start: UPerFuse | None = None,
    say: Callable[[str], None] = print,
) -> UPerFuse:
    """Train a network.

    Args:
        spec: of the network.
        tiles: to learn from.
        modalities: what the network takes.
        recipe: how.
        start: a network of the same spec whose weights are the beginning; None begins with random ones.
        say: where progress goes, a line at a time.

    Returns:
        The average of the weights over the last steps, in inference mode.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    network = UPerFuse(spec)
    if start is not None:
        network.load_state_dict(start.state_dict())
    network.train()
    averaged = AveragedModel(network, avg_fn=_moving_average(recipe.average), use_buffers=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    total = recipe.steps + recipe.whole_steps
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=total, pct_start=recipe.warm_up
    )
    weights = {task: _class_weights(tiles, task) for task in tiles[0].labels}
    order = _endless(len(tiles), rng)
    recent: list[float] = []
    for step in range(total):
        chosen = [tiles[next(order)] for _ in range(recipe.batch)]
        if step < recipe.steps:
            chosen = [tile.quarter(*rng.integers(2, size=2)) for tile in chosen]
        present = _present(spec, rng, recipe.dropout)
        batch = make_batch(chosen, modalities, rng=rng, present=present, max_dates=recipe.max_dates)
        loss = _loss(network, batch, weights)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        recent.append(loss.item())
        if (step + 1) % 25 == 0:
            say(f"step {step + 1}/{total}: loss {np.mean(recent[-25:]):.3f}")
    result = averaged.module
    assert isinstance(result, UPerFuse)
    return result.eval()


def _moving_average(keep: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    def update(average: Tensor, current: Tensor, _count: Tensor | int) -> Tensor:
        return average.lerp(current.to(average.dtype), 1 - keep) if average.is_floating_point() else current

    return update


def _loss(network: UPerFuse, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy of the tasks; the reference's full-size logits are not needed to learn, half-size ones do."""
    size = next(iter(batch.labels.values())).shape[-2:]
    half = (size[0] // 2, size[1] // 2)
    logits = network(batch.inputs, batch.days, batch.masks, output_px=half)
    losses = [
        F.cross_entropy(logits[task], labels[:, ::2, ::2], weight=weights[task], ignore_index=_IGNORED)
        for task, labels in batch.labels.items()
    ]
    return torch.stack(losses).mean()


def _present(spec: NetworkSpec, rng: np.random.Generator, dropout: float) -> list[str]:
    return [name for name in spec.modalities if name not in spec.absent or rng.random() >= dropout]


def _class_weights(tiles: Sequence[TrainingTile], task: str) -> Tensor:
    """One over the root of each class's frequency, mean 1 over pixels; 0 for classes that are ignored."""
    classes = TASKS[task]
    counts = np.zeros(len(classes))
    for tile in tiles:
        values = np.bincount(tile.labels[task].ravel(), minlength=_IGNORED + 1)
        counts += values[: len(classes)]
    counts[[entry.ignored for entry in classes]] = 0
    share = counts / counts.sum()
    weight = np.where(share > 0, 1 / np.sqrt(np.maximum(share, 1e-4)), 0.0)
    return torch.tensor(weight / (weight * share).sum(), dtype=torch.float32)


def _endless(count: int, rng: np.random.Generator) -> Iterator[int]:
    while True:
        yield from rng.permutation(count)
