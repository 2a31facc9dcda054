"""The training loop: batches in, an average of weights out, on any number of processes, to be taken up again.

What a run gives depends on its seed and its recipe alone. Every step draws its patches from one stream by their
numbers, and its dropout from a seed of its own, so that neither a restart nor the number of processes shows: with
the same batch, two processes take the same steps as one, up to the order of sums (and the dropout of each).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from ...engine.errors import CheckpointError
from ...engine.plan.network import Modality
from ..checkpoint import load_checkpoint, save_checkpoint
from ..data import Batch, Draws, PreparedDataset, Shard, make_loader
from ..description import ExportConfig
from ..network import UPerFuse
from .average import MovingAverage
from .log import Log
from .machines import Machines, deterministic
from .objective import Objective
from .processes import share_batch_norm
from .recipe import Recipe
from .rounds import Round, Scoring, Validation

__all__ = ["BEST", "LAST", "STATE", "fit"]

BEST, LAST, STATE = "best.safetensors", "last.safetensors", "state.ckpt"
"""Files of a run: the weights with the best scores, the newest, and everything that a restart needs."""

_FIRST = 1000
"""By what the cycle's first learning rate is smaller than its peak, as in the reference."""


def fit(
    objective: Objective,
    train: PreparedDataset,
    *,
    recipe: Recipe,
    valid: Validation | None = None,
    odds: Sequence[float] | None = None,
    modalities: Mapping[str, Modality] | None = None,
    folder: Path | None = None,
    said: ExportConfig | None = None,
    resume: bool = False,
    fabric: Fabric | None = None,
    told: Callable[[Round], None] = lambda _round: None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> UPerFuse:
    """Train a network.

    Args:
        objective: network and losses; its network's weights are the beginning, and are changed.
        train: patches, by draw.
        recipe: how.
        valid: patches to choose the best weights by; None takes the last ones.
        odds: how much likelier each patch is drawn; None draws all alike.
        modalities: what the network takes; needed by several processes, each of which must run every layer.
        folder: of the run, which gets weights, state and tables after every round; None writes nothing.
        said: what keys and shapes cannot tell, for the weights that are written.
        resume: go on from the state in the folder.
        fabric: processes, launched; one on this machine's processor where left out.
        told: what each round came to, on the first process.
        progress: told the steps that are done, and all of them.

    Returns:
        The averaged weights with the best scores, in inference mode.

    Raises:
        CheckpointError: the loss is not finite, or the state does not belong to this training.
    """
    fabric = fabric or Machines(accelerator="cpu").fabric(recipe)
    shard = Shard(recipe.batch, fabric.world_size, fabric.global_rank, recipe.portions)
    if shard.portion * fabric.world_size < 2 and objective.network.head_scale > 1:
        raise CheckpointError(
            "one patch goes through the network at once, of which UPerNet's pooled maps cannot learn what is usual; "
            "choose a batch of at least two in each portion"
        )
    count = len(cast(Sized, train))
    rounds, round_steps = recipe.rounds(count)
    run = _Run(objective, fabric, recipe, steps=rounds * round_steps)
    if resume:
        assert folder is not None, "a state lies in a folder"
        run.load(folder / STATE)
    best = run.best_weights(folder)
    log = Log(folder, step=run.step) if folder is not None and fabric.is_global_zero else None
    draws = Draws(count, seed=recipe.seed, shard=shard, steps=(run.step, run.steps), weights=odds)
    complete = modalities if fabric.world_size > 1 else None
    loader = make_loader(
        train, batch=shard.portion, workers=recipe.workers, draws=draws, pin=_cuda(fabric), complete=complete
    )
    score = None if valid is None else Scoring(valid, fabric, workers=recipe.workers)
    try:
        with deterministic(recipe.deterministic):
            batches = iter(loader)
            for number in range(run.step // round_steps + 1, rounds + 1):
                losses = run.round(batches, round_steps, log, progress)
                scores = {} if score is None else score(run.average.network)
                done = run.judged(Round(number, rounds, run.step, losses, scores, best=False), scored=score is not None)
                if done.best:
                    best = {name: value.clone() for name, value in run.average.network.state_dict().items()}
                if fabric.is_global_zero:
                    told(done)
                if folder is not None:
                    run.save(folder, done, log, said)
                if recipe.patience is not None and run.waited >= recipe.patience:
                    break
    finally:
        if log is not None:
            log.close()
    network = run.average.network
    network.load_state_dict(best)
    return network


class _Held:
    """A batch on its way into the network; Lightning would copy a dataclass, and may not copy a frozen one."""

    def __init__(self, batch: Batch, averaged: Callable[[Tensor], Tensor]) -> None:
        self.batch = batch
        self.averaged = averaged


class _Stage(nn.Module):
    """The objective, for what is held."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, held: _Held) -> tuple[Tensor, dict[str, Tensor]]:
        result: tuple[Tensor, dict[str, Tensor]] = self.objective(held.batch, held.averaged)
        return result


class _Run:
    """Everything that changes while training."""

    def __init__(self, objective: Objective, fabric: Fabric, recipe: Recipe, *, steps: int) -> None:
        self.steps = steps
        self.step = 0
        self.best = -math.inf
        self.waited = 0
        self._fabric = fabric
        self._recipe = recipe
        if fabric.world_size > 1:
            share_batch_norm(objective, cuda=_cuda(fabric))
        self._objective = objective.train()
        self.average = MovingAverage(objective.network.to(fabric.device), recipe.average)
        if objective.teacher is not None:
            objective.teacher.network.to(fabric.device).eval().requires_grad_(False)
        optimiser = torch.optim.AdamW(
            objective.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self._schedule = OneCycleLR(
            optimiser,
            recipe.learning_rate,
            total_steps=steps,
            pct_start=recipe.warm_up,
            div_factor=_FIRST,
            cycle_momentum=False,
        )
        self._model, self._optimiser = fabric.setup(_Stage(objective), optimiser)

    def round(
        self, batches: Iterator[Batch], steps: int, log: Log | None, progress: Callable[[int, int], None]
    ) -> dict[str, float]:
        """Take some steps; mean losses over them and all processes."""
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        for _ in range(steps):
            parts = self._update(batches)
            for name, value in parts.items():
                sums[name] = sums.get(name, 0) + value
                counts[name] = counts.get(name, 0) + 1
            self.step += 1
            progress(self.step, self.steps)
            if log is not None:
                log.scalar("step/loss", float(parts["loss"]), step=self.step)
                log.scalar("step/learning rate", float(self._schedule.get_last_lr()[0]), step=self.step)
        means = {name: value / counts[name] for name, value in sums.items()}
        return {
            name: float(cast(Tensor, self._fabric.all_reduce(value, reduce_op="mean"))) for name, value in means.items()
        }

    def _update(self, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One step: the losses of its portions, and one update of the weights and of their average."""
        recipe, fabric = self._recipe, self._fabric
        total: dict[str, Tensor] = {}
        for portion in range(recipe.portions):
            batch = next(batches).to(fabric.device, non_blocking=True)
            # chance that depends on nothing before it: a run that is taken up again meets the same
            torch.manual_seed(_seed(recipe.seed, self.step, portion, fabric.global_rank))
            waiting = (
                fabric.no_backward_sync(self._model, enabled=portion < recipe.portions - 1)
                if fabric.world_size > 1
                else nullcontext()
            )
            with waiting:
                loss, parts = self._model(_Held(batch, self._averaged))
                fabric.backward(loss / recipe.portions)
            for name, value in {"loss": loss.detach(), **parts}.items():
                total[name] = total.get(name, 0) + value / recipe.portions
        if not bool(torch.isfinite(total["loss"])):
            raise CheckpointError(
                f"the loss is {float(total['loss'])} at step {self.step + 1}; lower the learning rate, or look at the "
                "data with `uperfuse data check`"
            )
        if recipe.clip:
            fabric.clip_gradients(self._model, self._optimiser, max_norm=recipe.clip, error_if_nonfinite=False)
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._schedule.step()
        self.average.update(self._objective.network)
        return total

    def _averaged(self, count: Tensor) -> Tensor:
        """Mean of a number over all processes; it carries no gradient."""
        if self._fabric.world_size == 1:
            return count
        return cast(Tensor, self._fabric.all_reduce(count.detach(), reduce_op="mean"))

    def judged(self, done: Round, *, scored: bool) -> Round:
        """Say whether a round is the best so far; without scores the newest is."""
        better = not scored or done.mean_iou > self.best
        if better:
            self.best = done.mean_iou if scored else self.best
        self.waited = 0 if better else self.waited + 1
        return Round(done.number, done.of, done.step, done.losses, done.scores, best=better)

    def best_weights(self, folder: Path | None) -> dict[str, Tensor]:
        """The best weights so far: those on disk of a run that goes on, or the beginning."""
        own = self.average.network.state_dict()
        if folder is not None and self.step and (folder / BEST).exists():
            own = load_checkpoint(folder / BEST).network.state_dict()
        return {name: value.clone() for name, value in own.items()}

    def save(self, folder: Path, done: Round, log: Log | None, said: ExportConfig | None) -> None:
        """Write weights, numbers and state; each file is whole or as it was."""
        if log is not None:
            numbers = {f"train/{name}": value for name, value in done.losses.items()}
            for task, scores in done.scores.items():
                numbers |= {f"valid/mIoU {task}": scores.mean_iou, f"valid/accuracy {task}": scores.accuracy}
            log.row(numbers, step=done.step)
            if done.best:
                save_checkpoint(self.average.network, folder / BEST, said=said)
            save_checkpoint(self.average.network, folder / LAST, said=said)
        partial = folder / f"{STATE}.partial"
        self._fabric.save(partial, self._state())
        if self._fabric.is_global_zero:
            os.replace(partial, folder / STATE)
        self._fabric.barrier()

    def load(self, path: Path) -> None:
        """Go on where a state was saved.

        Raises:
            CheckpointError: there is none, or it belongs to another training.
        """
        if not path.exists():
            raise CheckpointError(f"{path} is not there, and a run is to be taken up from it; begin without --resume")
        state = self._state()
        try:
            self._fabric.load(path, state)
        except (RuntimeError, KeyError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{path} belongs to another training ({first}); choose another folder") from error
        if state["steps"] != self.steps:
            raise CheckpointError(
                f"{path} is of a training of {state['steps']} steps, this one has {self.steps}; choose another folder"
            )
        self.step, self.best, self.waited = state["step"], state["best"], state["waited"]
        self.average.updates = state["updates"]

    def _state(self) -> dict[str, Any]:
        return {
            "objective": self._model,
            "optimiser": self._optimiser,
            "schedule": self._schedule,
            "average": self.average.network,
            "updates": self.average.updates,
            "step": self.step,
            "steps": self.steps,
            "best": self.best,
            "waited": self.waited,
        }


def _seed(*numbers: int) -> int:
    """A seed of its own for every step, portion and process."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _cuda(fabric: Fabric) -> bool:
    return fabric.device.type == "cuda"
