"""One run: a network is trained and scored, and what it came to is kept as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import nn

from uperfuse.engine.benchmark import machine
from uperfuse.engine.flairhub import TASKS
from uperfuse.trainer.data import Augmentation
from uperfuse.trainer.losses import TaskLoss, class_weights, log_prior
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.scores import Scores
from uperfuse.trainer.training import Built, Objective, TrainConfig, begin, build, fit
from uperfuse.trainer.training.census import sampling_odds

from .kinds import ALL, Kind, Settings, config_of
from .scoring import Maps, Subset, averaged, learned, score, subsets_of, zeroed
from .world import Draft, World

__all__ = [
    "AVERAGED_OVER",
    "Result",
    "Score",
    "encoder_file",
    "file_of",
    "learn_first",
    "read",
    "run",
    "weights_file",
    "write",
]

AVERAGED_OVER = 48
"""Training patches over which maps are averaged that take an absent sensor's place."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """One task's scores on the test patches.

    Attributes:
        mean_iou: macro mean over evaluated classes that occur.
        accuracy: fraction of valid pixels with the right class.
        classes: class -> its IoU; of subsets nothing.
    """

    mean_iou: float
    accuracy: float
    classes: dict[str, float] = {}


class Result(_Frozen):
    """What one run came to.

    Attributes:
        kind: what was trained.
        seed: of weights, order and augmentation.
        steps: updates of the weights.
        parameters: of the network, without what only training needs.
        loss: mean over all steps.
        processor_seconds: of training and scoring.
        machine: where.
        date: when, YYYY-MM-DD.
        scores: task -> with every sensor.
        absent: way of answering absence -> sensors present, joined by "+" -> task -> scores.
    """

    kind: str
    seed: int
    steps: int
    parameters: int
    loss: float
    processor_seconds: float
    machine: str
    date: str
    scores: dict[str, Score]
    absent: dict[str, dict[str, dict[str, Score]]] = {}


def learn_first(modality: str, world: World, settings: Settings, *, seed: int, path: Path) -> None:
    """Train a network of one sensor alone, and keep its encoder; the file is complete or not there.

    Args:
        modality: the sensor.
        world: patches.
        settings: of all kinds.
        seed: of weights, order and augmentation.
        path: file to write.
    """
    alone, settings = Kind("first", modality, (modality,)), replace(settings, steps=settings.first_steps)
    config = config_of(alone, settings, seed=seed, statistics=world.statistics)
    network, _ = _trained(alone, build(config), config, world, settings, encoders={})
    _keep(network.encoders[modality], path)


def run(
    kind: Kind,
    world: World,
    settings: Settings,
    *,
    seed: int,
    encoders: Mapping[str, Path],
    begins: Path | None = None,
    keep: Path | None = None,
) -> Result:
    """Train and score.

    Args:
        kind: what.
        world: patches.
        settings: of all kinds.
        seed: of weights, order and augmentation.
        encoders: modality -> file with the encoder to begin with; one without begins with random weights.
        begins: file with the weights of a whole network to begin with, but for stand-ins.
        keep: file for the weights, for others to begin with; it is complete or not there.
    """
    begun = time.process_time()
    config = config_of(kind, settings, seed=seed, statistics=world.statistics)
    built = build(config)
    network, losses = _trained(kind, built, config, world, settings, encoders=encoders, begins=begins)
    if keep is not None:
        _keep(network, keep)
    tests = Draft(world.tested, built.modalities)
    ways: dict[str, Mapping[str, Maps]] = {"none": {}}
    subsets: Sequence[Subset] = [tuple(built.modalities)]
    found = score(network, tests, built.tasks, ways=ways, subsets=subsets)["none"][tuple(built.modalities)]
    absent: dict[str, dict[str, dict[str, Score]]] = {}
    if kind.begins:
        some = Draft([s for s in world.learnt if len(s.images) + len(s.series) == len(ALL)], built.modalities)
        ways = (
            {"stand-in": learned(network)}
            if kind.dropout
            else {
                "zeros": zeroed(network, built.modalities),
                "mean": averaged(network, (some[number] for number in range(min(AVERAGED_OVER, len(some))))),
            }
        )
        for way, by_subset in score(network, tests, built.tasks, ways=ways, subsets=subsets_of(ALL)).items():
            absent[way] = {"+".join(subset): _scores(scores, classes=False) for subset, scores in by_subset.items()}
    return Result(
        kind=kind.name,
        seed=seed,
        steps=config.recipe.steps or 0,
        parameters=sum(weights.numel() for name, weights in network.named_parameters() if not name.startswith("aux_")),
        loss=sum(losses) / len(losses),
        processor_seconds=round(time.process_time() - begun, 1),
        machine=machine(),
        date=datetime.now(timezone.utc).date().isoformat(),
        scores=_scores(found, classes=True),
        absent=absent,
    )


def file_of(folder: Path, kind: str, seed: int) -> Path:
    """Where a run's result is kept."""
    return folder / f"{kind}.{seed}.json"


def encoder_file(folder: Path, modality: str, seed: int) -> Path:
    """Where the encoder is kept that a sensor's networks begin with."""
    return folder / "first" / f"{modality}.{seed}.safetensors"


def weights_file(folder: Path, kind: str, seed: int) -> Path:
    """Where the weights are kept that other kinds begin with."""
    return folder / "weights" / f"{kind}.{seed}.safetensors"


def write(result: Result, folder: Path) -> None:
    """Keep a result; its file is complete or not there."""
    path = file_of(folder, result.kind, result.seed)
    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result.model_dump(), indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def read(folder: Path) -> list[Result]:
    """Results that were kept."""
    return [Result.model_validate_json(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def _trained(
    kind: Kind,
    built: Built,
    config: TrainConfig,
    world: World,
    settings: Settings,
    *,
    encoders: Mapping[str, Path],
    begins: Path | None = None,
) -> tuple[UPerFuse, list[float]]:
    """The network in the end, and the losses on the way there."""
    objective = _objective(built, config, world)
    if begins is not None:
        objective.network.load_state_dict({**objective.network.state_dict(), **load_file(begins)})
        encoders = {}
    for name in kind.modalities:
        if name in encoders:
            objective.network.encoders[name].load_state_dict(load_file(encoders[name]))
    augmentation = Augmentation(max_dates=settings.max_dates)
    absence = {name: kind.dropout for name in kind.modalities if kind.dropout}
    seen = tuple(s for s in world.learnt if any(name in s.images or name in s.series for name in kind.modalities))
    seed = config.recipe.seed
    patches = Draft(seen, built.modalities, augmentation=augmentation, absence=absence, seed=seed)
    losses: list[float] = []
    network = fit(
        objective,
        patches,
        recipe=config.recipe,
        odds=_odds(kind, built, world),
        told=lambda done: losses.append(done.losses["loss"]),
    )
    return network, losses


def _keep(module: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(module.state_dict(), partial)
    os.replace(partial, path)


def _objective(built: Built, config: TrainConfig, world: World) -> Objective:
    network = begin(built.spec, config, old=None)
    losses = {}
    for task, entries in TASKS.items():
        ignored = [entry.ignored for entry in entries]
        words, pixels = config.tasks[task].imbalance, world.counts[task].sum(0)
        losses[task] = TaskLoss(
            ignored,
            weights=class_weights(pixels, ignored=ignored, power=words.weights) if words.weights else None,
            prior=log_prior(pixels, ignored=ignored) if words.logit_adjustment else None,
            strength=words.logit_adjustment or 1.0,
            lovasz=words.lovasz,
        )
    return Objective(
        network,
        losses,
        weights={name: task.weight for name, task in config.tasks.items()},
        aux={name: each.aux for name, each in config.modalities.items() if each.aux},
        second_looks=config.second_looks,
        labels_per_base=built.labels_per_base,
        label_stride=config.recipe.label_stride,
    )


def _odds(kind: Kind, built: Built, world: World) -> list[float] | None:
    """How much likelier each patch is drawn."""
    ignored = {task.name: [entry.ignored for entry in task.classes] for task in built.tasks}
    odds = sampling_odds(world.counts, ignored=ignored, powers=dict.fromkeys(TASKS, kind.imbalance.sampling))
    return None if odds is None else odds.tolist()


def _scores(scores: Mapping[str, Scores], *, classes: bool) -> dict[str, Score]:
    return {
        task: Score(
            mean_iou=round(each.mean_iou, 5),
            accuracy=round(each.accuracy, 5),
            classes={entry.name: round(entry.iou, 5) for entry in each.classes} if classes else {},
        )
        for task, each in scores.items()
    }
