"""One training from its configuration: data checked, network built, losses weighed, rounds run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from lightning.fabric import Fabric
from numpy.typing import NDArray

from ...engine.errors import CheckpointError
from ...engine.plan.network import Modality
from ..checkpoint import LoadedCheckpoint, load_checkpoint
from ..data import DataSet, PatchDataset, check
from ..description import ExportConfig
from ..losses import TaskLoss, class_weights, log_prior
from .build import Built, build
from .census import class_counts, sampling_odds
from .config import TrainConfig, TrainTask
from .loop import BEST, STATE, fit
from .machines import Machines
from .objective import Objective, Teacher
from .places import hold_out
from .rounds import Round, Validation
from .start import begin

__all__ = ["Outcome", "train"]

_CONFIG = "config.yaml"


@dataclass(frozen=True)
class Outcome:
    """What a training gave.

    Attributes:
        weights: file with the best ones, which `uperfuse export` takes.
        rounds: what every round came to, of this start of the run.
    """

    weights: Path
    rounds: tuple[Round, ...]


def train(
    config: TrainConfig,
    *,
    out: Path,
    machines: Machines | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Outcome:
    """Train a network as a configuration says.

    Args:
        config: of the training, with the data set's folder.
        out: folder of the run: weights, state, tables.
        machines: what it runs on; one GPU where there is one, else the processor.
        resume: go on with a run that was stopped; its folder and configuration must be those of before.
        say: where lines go that the user should read, on the first process.
        progress: told the steps that are done, and all of them.

    Raises:
        CheckpointError: the configuration does not make a network, or the run cannot go on.
        DataSetError: the data set is broken, or lacks what the network needs.
    """
    if config.data.root is None:
        raise CheckpointError("nothing says where the data set lies; say data: root: FOLDER, or give --data FOLDER")
    fabric = (machines or Machines()).fabric(config.recipe)
    first = _first_process()
    if first:
        _folder(config, out, resume=resume)
    start = None if config.start.checkpoint is None else load_checkpoint(config.start.checkpoint)
    built = build(config, start=start)
    teacher, taught = _teacher(config)
    data_set = DataSet.open(config.data.root, splits=_splits(config))
    if config.data.check and not resume and first:
        say(f"reading every file of {data_set.root} (data: check: false leaves that out)")
        report = check(data_set.root, splits=_splits(config), tasks=built.labels, workers=max(1, config.recipe.workers))
        for remark in report.remarks:
            say(f"remark: {remark}")
        report.require()
    fabric.launch()
    tell = say if fabric.is_global_zero else lambda _line: None
    _remember(config, out, fabric)
    learnt, chosen = hold_out(data_set, config.data.hold_out, seed=config.recipe.seed)
    domains = ", ".join(sorted({patch.id.domain for patch in chosen}))
    tell(f"{len(learnt)} patches to learn from, {len(chosen)} of {domains} to choose the best weights by")
    absence = {name: each.dropout for name, each in config.modalities.items() if each.dropout}
    patches = PatchDataset(
        data_set,
        learnt,
        modalities=built.modalities,
        tasks=built.labels,
        augmentation=config.data.augmentation,
        absence=absence if config.second_looks else {},
        teacher=taught,
        seed=config.recipe.seed,
    )
    valid = Validation(PatchDataset(data_set, chosen, modalities=built.modalities, tasks=built.labels), built.tasks)
    counts = _census(config, built, data_set, patches)
    network = begin(built.spec, config, old=None if start is None else start.network, say=tell)
    objective = Objective(
        network,
        _losses(config, built, counts),
        weights={name: task.weight for name, task in config.tasks.items()},
        aux={name: each.aux for name, each in config.modalities.items() if each.aux},
        second_looks=config.second_looks,
        teacher=teacher,
        labels_per_base=built.labels_per_base,
        label_stride=config.recipe.label_stride,
    )
    powers = {name: _task(config, name).imbalance.sampling for name in built.labels}
    odds = sampling_odds(counts, ignored=_ignored(built), powers=powers) if counts else None
    if config.data.odds:
        more = np.array([config.data.odds.get(patch.id.domain, 1.0) for patch in learnt])
        odds = more if odds is None else odds * more
    rounds: list[Round] = []

    def told(done: Round) -> None:
        rounds.append(done)
        tell(str(done))

    fit(
        objective,
        patches,
        recipe=config.recipe,
        valid=valid,
        odds=None if odds is None else odds.tolist(),
        modalities=built.modalities,
        folder=out,
        said=built.said,
        resume=resume,
        fabric=fabric,
        told=told,
        progress=progress if fabric.is_global_zero else lambda _done, _all: None,
    )
    return Outcome(out / BEST, tuple(rounds))


def _folder(config: TrainConfig, out: Path, *, resume: bool) -> None:
    """Refuse a folder that another run has, and one that a run cannot go on in."""
    if resume:
        kept = out / _CONFIG
        if not kept.exists() or not (out / STATE).exists():
            raise CheckpointError(f"{out} holds no run that has got through a round; begin without --resume")
        before, now = _everything(TrainConfig.read(kept)), _everything(config)
        changed = [key for key, value in now.items() if before[key] != value]
        if changed:
            raise CheckpointError(
                f"{out} holds a run of another configuration: {', '.join(changed)} differ; go on with its own "
                f"({kept}), or choose another folder"
            )
    elif out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} is not empty; choose another folder, or go on with the run there (--resume)")


def _first_process() -> bool:
    """Whether this is the first of all processes, by the word of torchrun, Slurm or Lightning: they do not talk yet."""
    rank = os.environ.get("RANK", os.environ.get("SLURM_PROCID"))
    if rank is not None:
        return rank == "0"
    return os.environ.get("NODE_RANK", "0") == "0" and os.environ.get("LOCAL_RANK", "0") == "0"


def _remember(config: TrainConfig, out: Path, fabric: Fabric) -> None:
    if fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True)
        partial = out / f"{_CONFIG}.partial"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out / _CONFIG)
    fabric.barrier()


def _everything(config: TrainConfig) -> dict[str, object]:
    """What decides the result of a run; how many workers load does not."""
    return config.model_dump(mode="json", exclude={"recipe": {"workers"}})


def _splits(config: TrainConfig) -> dict[str, Path] | None:
    return None if config.data.splits is None else {str(name): path for name, path in config.data.splits.items()}


def _teacher(config: TrainConfig) -> tuple[Teacher | None, Mapping[str, Modality] | None]:
    """The teacher, and what it takes."""
    words = config.teacher
    if words is None:
        return None, None
    loaded: LoadedCheckpoint = load_checkpoint(words.checkpoint)
    said = None if words.config is None else ExportConfig.read(words.config)
    described = loaded.describe(words.checkpoint.stem, said=said)
    teacher = Teacher(loaded.network, weight=words.weight, temperature=words.temperature)
    return teacher, {modality.name: modality for modality in described.modalities}


def _task(config: TrainConfig, name: str) -> TrainTask:
    return config.tasks.get(name, TrainTask())


def _ignored(built: Built) -> dict[str, Sequence[bool]]:
    return {task.name: [entry.ignored for entry in task.classes] for task in built.tasks}


def _census(
    config: TrainConfig, built: Built, data_set: DataSet, patches: PatchDataset
) -> dict[str, NDArray[np.int64]]:
    """Pixels of each class in each patch, where anything asks for them."""
    asks = {name: _task(config, name).imbalance for name in built.labels}
    if not any(each.weights or each.logit_adjustment or each.sampling for each in asks.values()):
        return {}
    return class_counts(data_set.root, patches.patches, built.labels, workers=max(1, config.recipe.workers))


def _losses(config: TrainConfig, built: Built, counts: Mapping[str, NDArray[np.int64]]) -> dict[str, TaskLoss]:
    losses = {}
    for name, ignored in _ignored(built).items():
        words = _task(config, name).imbalance
        pixels = counts[name].sum(0) if name in counts else None
        weights = prior = None
        if words.weights:
            assert pixels is not None
            weights = class_weights(pixels, ignored=ignored, power=words.weights)
        if words.logit_adjustment:
            assert pixels is not None
            prior = log_prior(pixels, ignored=ignored)
        losses[name] = TaskLoss(
            ignored, weights=weights, prior=prior, strength=words.logit_adjustment or 1.0, lovasz=words.lovasz
        )
    return losses
