"""From a network and a data set to scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path

import torch

from ...engine.plan.network import Task
from ..data import DataSet, Sample
from ..description import ExportConfig, TaskConfig
from .evaluation import Evaluation, GroupScores, TaskEvaluation
from .examples import Examples
from .groups import GROUPINGS, Grouping, Groups
from .mapper import Labels, Mapper
from .mappers import keep, open_mapper
from .patches import ChosenPatches, label_rules, sample_loader
from .tally import Tally

__all__ = ["evaluate"]


def evaluate(
    model: str | PathLike[str],
    data: DataSet | str | PathLike[str],
    *,
    split: str = "test",
    absent: Sequence[str] = (),
    config: Path | None = None,
    said: Mapping[str, TaskConfig] | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch: int = 4,
    workers: int = 0,
    examples: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
    say: Callable[[str], None] = lambda _line: None,
) -> Evaluation:
    """Map every patch of a split that has labels, and compare.

    Weights in PyTorch and plans see the same acquisitions, and every pixel whose class is known and evaluated counts,
    less those where the base image is void.

    Args:
        model: a checkpoint (`.safetensors`) or a plan.
        data: a data set in FLAIR-HUB's layout, or its folder.
        split: "train", "valid" or "test".
        absent: modalities to leave out everywhere, that the network can do without.
        config: what a checkpoint does not say of itself, as for `uperfuse export`; of a plan, whose rasters hold the
            labels of a task and which class each value is.
        said: task -> its labels, where neither the model nor `config` says them; another evaluation has them.
        device: "auto", "cpu", "cuda" or "cuda:1".
        precision: of a plan, as `Engine.load` takes it; weights in PyTorch run in float32.
        batch: patches that are mapped at a time.
        workers: processes that read ahead; 0 reads in this one.
        examples: how many of the best and of the worst patches to keep pictures of, for each task.
        progress: is told patches done and their number.
        say: where lines go that the user should read.

    Raises:
        CheckpointError: the model is neither, or does not fit the data set.
        PlanError: the plan breaks a rule of the format, or takes other tiles than patches are.
        DataSetError: no such split, no labels, or a patch that is broken or lacks what the network needs.
        BackendError: the device or precision cannot serve.
    """
    path = Path(model)
    data_set = data if isinstance(data, DataSet) else DataSet.open(Path(data))
    data_set.split(split)  # refused before a network is loaded
    told = None if config is None else ExportConfig.read(config)
    mapper = open_mapper(path, config=told, device=device, precision=precision, say=say)
    try:
        modalities = keep(mapper.modalities, absent=absent, name=mapper.name, say=say)
        words = _of_labels(mapper.said if told is None else told.tasks, said or {})
        labels = label_rules(mapper.tasks, said=words)
        patches = ChosenPatches(data_set, split, modalities=modalities, labels=labels, name=mapper.name)
        groups = Groups.of(modalities, (patch.id.domain for patch in patches.patches))
        count = _Count(mapper.tasks, groups, examples=examples)
        done = 0
        progress(done, len(patches))
        for samples in sample_loader(patches, batch=batch, workers=workers):
            count.add(samples, mapper.map(samples))
            done += len(samples)
            progress(done, len(patches))
        return _evaluation(mapper, path, patches, count, groups, split=split, absent=absent, said=words)
    finally:
        mapper.close()


def _of_labels(own: Mapping[str, TaskConfig], others: Mapping[str, TaskConfig]) -> dict[str, TaskConfig]:
    """What is said of labels; names of classes alone say nothing of them."""
    telling = {task: words for task, words in own.items() if words.product is not None or words.values is not None}
    return {**own, **others, **telling}


class _Count:
    """What is added up patch by patch."""

    def __init__(self, tasks: Sequence[Task], groups: Groups, *, examples: int) -> None:
        self.tally = Tally(tasks, groups=groups.keys)
        self.examples = {task.name: Examples(task, most=examples) for task in tasks}
        self.patches = {task.name: 0 for task in tasks}
        self.of_group = {task.name: Counter[str]() for task in tasks}
        self._groups = groups

    def add(self, samples: Sequence[Sample], labels: Labels) -> None:
        for place, sample in enumerate(samples):
            keys = self._groups.keys_of(sample)
            for task, truth in sample.labels.items():
                found = labels[task][place]
                self.patches[task] += 1
                self.of_group[task].update(keys)
                self.tally.update(
                    {task: torch.from_numpy(found)[None]}, {task: torch.from_numpy(truth)[None]}, groups=[keys]
                )
                self.examples[task].offer(sample, found, truth)


def _evaluation(
    mapper: Mapper,
    path: Path,
    patches: ChosenPatches,
    count: _Count,
    groups: Groups,
    *,
    split: str,
    absent: Sequence[str],
    said: Mapping[str, TaskConfig],
) -> Evaluation:
    remarks = []
    if patches.unlabelled:
        remarks.append(f"{patches.unlabelled} patches of the split {split} have no labels and were left out")
    for task in mapper.tasks:
        if not count.patches[task.name]:
            remarks.append(f"no patch of the split {split} has labels of {task.name}, so it has no scores")
        elif count.patches[task.name] < len(patches):
            remarks.append(f"{count.patches[task.name]} of {len(patches)} patches have labels of {task.name}")
    return Evaluation(
        model=mapper.name,
        kind=mapper.kind,
        file=path.name,
        runs=mapper.runs,
        cost=mapper.cost,
        modalities=tuple(mapper.modalities),
        absent=tuple(name for name in mapper.modalities if name in absent),
        split=split,
        patches=len(patches),
        dates=groups.counted,
        tasks=tuple(_task(task, count, groups) for task in mapper.tasks if count.patches[task.name]),
        remarks=tuple(remarks),
        said={task.name: said[task.name] for task in mapper.tasks if task.name in said},
    )


def _task(task: Task, count: _Count, groups: Groups) -> TaskEvaluation:
    def of(grouping: Grouping) -> tuple[GroupScores, ...]:
        keys = {name: groups.key(grouping, name) for name in groups.names(grouping)}
        patches = count.of_group[task.name]
        return tuple(
            GroupScores(name, patches[key], count.tally.scores(task.name, group=key))
            for name, key in keys.items()
            if patches[key]
        )

    return TaskEvaluation(
        name=task.name,
        classes=task.classes,
        patches=count.patches[task.name],
        confusion=count.tally.confusion(task.name),
        scores=count.tally.scores(task.name),
        groups={grouping: of(grouping) for grouping in GROUPINGS},
        best=count.examples[task.name].best,
        worst=count.examples[task.name].worst,
    )
