"""Patches as PyTorch loads them: a map-style data set and a loader with spawned workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from ...engine.flairhub import TASKS
from ...engine.plan.network import Modality
from .augment import Augmentation
from .choose import choose
from .collate import Batch, collate
from .data_set import DataSet
from .errors import DataSetError
from .prepare import Prepared, prepare_sample
from .reading import read_sample

if TYPE_CHECKING:
    PreparedDataset = Dataset[Prepared]
else:
    PreparedDataset = Dataset

__all__ = ["PatchDataset", "make_loader"]


class PatchDataset(PreparedDataset):
    """The patches of one split: read, chosen from, augmented and prepared when they are asked for.

    What comes out depends on the seed, the epoch and the patch alone, not on workers or order.

    Args:
        data_set: where they lie.
        split: "train", "valid" or "test".
        modalities: what the network takes, as its plan says it.
        tasks: labels to read; all where left out.
        augmentation: None gives what inference would see.
        seed: of the augmentation.

    Raises:
        DataSetError: no such split, a patch without label of any task, or of a modality that the network needs.
    """

    def __init__(
        self,
        data_set: DataSet,
        split: str,
        *,
        modalities: Mapping[str, Modality],
        tasks: tuple[str, ...] = tuple(TASKS),
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        self.patches = data_set.split(split).patches
        for patch in self.patches:
            lacking = [name for name, m in modalities.items() if not m.may_be_absent and name not in patch.folders]
            if not any(task in patch.folders for task in tasks):
                lacking.append(f"labels of {' or '.join(tasks)}")
            if lacking:
                raise DataSetError(
                    f"{patch.id} of the split {split} lacks {', '.join(lacking)}; leave it out of the split file"
                )
        self._root = data_set.root
        ids = [patch.id for patch in self.patches]
        self._dates = {name: table.only(ids) for name, table in data_set.dates.items() if name in modalities}
        self._modalities = dict(modalities)
        self._tasks = tasks
        self._augmentation = augmentation
        self._seed = seed
        # workers outlive an epoch and see its number here
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    def __len__(self) -> int:
        return len(self.patches)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is drawn for."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draw other augmentations, and another order, from now on; the same number draws the same."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Prepared:
        """One patch.

        Raises:
            DataSetError: its files are missing or broken.
        """
        sample = read_sample(
            self._root, self.patches[index], dates=self._dates, modalities=self._modalities, tasks=self._tasks
        )
        sample = choose(sample, self._modalities)
        if self._augmentation is not None:
            rng = np.random.default_rng([self._seed, self.epoch, index])
            sample = self._augmentation(sample, rng)
        return prepare_sample(sample, self._modalities)


def make_loader(
    patches: PatchDataset, *, batch: int, workers: int = 0, shuffle: bool = False, seed: int = 0, pin: bool = False
) -> DataLoader[Batch]:
    """Batches of patches.

    Order and augmentation depend on seeds and the epoch alone, so that a training that is taken up again goes on alike.

    Args:
        patches: what to load.
        batch: patches in each; the last may have fewer.
        workers: processes that read and prepare, which are spawned and live as long as the loader; 0 reads in this
            one.
        shuffle: whether each epoch (`patches.set_epoch`) has an order of its own, drawn from `seed`.
        seed: of the order.
        pin: whether batches go to memory from which a GPU can copy by itself.
    """
    made: DataLoader[Batch] = DataLoader(
        patches,  # type: ignore[arg-type]
        batch_size=batch,
        sampler=_Order(patches, seed) if shuffle else None,
        num_workers=workers,
        collate_fn=collate,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=_one_thread if workers else None,
    )
    return made


class _Order(Sampler[int]):
    """An order of all patches for each epoch."""

    def __init__(self, patches: PatchDataset, seed: int) -> None:
        self._patches = patches
        self._seed = seed

    def __len__(self) -> int:
        return len(self._patches)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self._seed, self._patches.epoch])
        return iter(rng.permutation(len(self._patches)).tolist())


def _one_thread(_worker: int) -> None:
    """Workers share the cores; each computes on its own one."""
    torch.set_num_threads(1)
