"""Patches of a split as raw numbers, chosen from as the engine would, so that weights and plans see the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

from ...engine.errors import CheckpointError
from ...engine.flairhub import TASKS
from ...engine.plan.network import Modality, Task
from ..data import DataSet, DataSetError, LabelRule, Sample, choose, read_sample
from ..description import TaskConfig

if TYPE_CHECKING:
    SampleDataset = Dataset[Sample]
else:
    SampleDataset = Dataset

__all__ = ["ChosenPatches", "label_rules", "sample_loader"]


def label_rules(tasks: Sequence[Task], *, said: Mapping[str, TaskConfig]) -> dict[str, LabelRule]:
    """How the labels of a network's tasks are read.

    Args:
        tasks: what the network maps.
        said: task -> whose rasters hold its labels and which class each value is, where that is not FLAIR-HUB's.

    Raises:
        CheckpointError: nobody says which rasters hold the labels of a task, or which of its classes their values are.
    """
    rules = {}
    for task in tasks:
        words = said.get(task.name, TaskConfig())
        product = words.product or task.name
        if product not in TASKS:
            raise CheckpointError(
                f"{product} is no label of FLAIR-HUB, expected {' or '.join(TASKS)}; say whose rasters hold the labels "
                f"with --config: tasks: {task.name}: product"
            )
        if words.values is None and len(task.classes) != len(TASKS[product]):
            raise CheckpointError(
                f"{task.name} has {len(task.classes)} classes, rasters of {product} hold {len(TASKS[product])}; say "
                f"which class each value is with --config: tasks: {task.name}: values"
            )
        rules[task.name] = LabelRule(product, tuple(entry.name for entry in task.classes), words.values)
    return rules


class ChosenPatches(SampleDataset):
    """The patches of one split that have labels of a network's tasks.

    Args:
        data_set: where they lie.
        split: "train", "valid" or "test".
        modalities: what the network takes, as its plan says it, less what is left out.
        labels: task -> how its labels are read.
        name: of the network, for messages.

    Raises:
        DataSetError: no such split, no patch with a label, or patches that lack what the network needs.
    """

    def __init__(
        self,
        data_set: DataSet,
        split: str,
        *,
        modalities: Mapping[str, Modality],
        labels: Mapping[str, LabelRule],
        name: str,
    ) -> None:
        everything = data_set.split(split).patches
        products = {rule.product for rule in labels.values()}
        self.patches = [patch for patch in everything if products & set(patch.folders)]
        if not self.patches:
            raise DataSetError(
                f"no patch of the split {split} of {data_set.root} has labels of {' or '.join(labels)}, which {name} "
                "maps; choose another split, or another data set"
            )
        self.unlabelled = len(everything) - len(self.patches)
        needed = [each.name for each in modalities.values() if not each.may_be_absent]
        for modality in needed:
            lacking = [patch.id for patch in self.patches if modality not in patch.folders]
            if lacking:
                raise DataSetError(
                    f"{len(lacking)} of {len(self.patches)} patches of the split {split} lack {modality}, {lacking[0]} "
                    f"first, and {name} cannot do without it; leave them out of the split file, or evaluate a network "
                    "that learnt to"
                )
        self._root = data_set.root
        ids = [patch.id for patch in self.patches]
        self._dates = {name: table.only(ids) for name, table in data_set.dates.items() if name in modalities}
        self._modalities = dict(modalities)
        self._labels = dict(labels)

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, index: int) -> Sample:
        """One patch.

        Raises:
            DataSetError: its files are missing or broken, or none of its modalities sees anything.
        """
        patch = self.patches[index]
        sample = read_sample(self._root, patch, dates=self._dates, modalities=self._modalities, tasks=self._labels)
        chosen = choose(sample, self._modalities)
        if not chosen.images and not chosen.series:
            raise DataSetError(
                f"{patch.id} has nothing to see of {', '.join(self._modalities)}; leave it out of the split file"
            )
        return chosen


def sample_loader(patches: ChosenPatches, *, batch: int, workers: int) -> DataLoader[list[Sample]]:
    """Batches of patches in the order of their split.

    Args:
        patches: what to load.
        batch: patches in each; the last may have fewer.
        workers: processes that read ahead; 0 reads in this one.
    """
    made: DataLoader[list[Sample]] = DataLoader(
        patches,  # type: ignore[arg-type] # torch takes the type of items for that of batches
        batch_size=batch,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_one_thread if workers else None,
    )
    return made


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
