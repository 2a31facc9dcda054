"""Patches of a split as raw numbers, chosen from as the engine would, so that weights and plans see the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import DataLoader, Dataset

from ...engine.errors import CheckpointError
from ...engine.flairhub import TASKS
from ...engine.plan.network import Modality, Task
from ..data import DataSet, DataSetError, Sample, choose, read_sample
from ..data.labels import FLAIRHUB_LABELS, LabelRule

if TYPE_CHECKING:
    SampleDataset = Dataset[Sample]
else:
    SampleDataset = Dataset

__all__ = ["ChosenPatches", "label_rules", "sample_loader"]


def label_rules(tasks: Sequence[Task]) -> dict[str, LabelRule]:
    """How the labels of a network's tasks are read.

    Raises:
        CheckpointError: a task that FLAIR-HUB has no labels of, or with another number of classes.
    """
    for task in tasks:
        if task.name not in FLAIRHUB_LABELS:
            raise CheckpointError(
                f"{task.name} is no task of FLAIR-HUB, expected {' or '.join(FLAIRHUB_LABELS)}; evaluate a network of "
                "those"
            )
        expected = len(TASKS[task.name])
        if len(task.classes) != expected:
            raise CheckpointError(
                f"{task.name} has {len(task.classes)} classes in the network and {expected} in FLAIR-HUB's labels; "
                "evaluate a network with the classes of the labels"
            )
    return {task.name: FLAIRHUB_LABELS[task.name] for task in tasks}


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
        patches,  # type: ignore[arg-type]
        batch_size=batch,
        num_workers=workers,
        collate_fn=list,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_one_thread if workers else None,
    )
    return made


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
