"""Patches as PyTorch loads them: a map-style data set and a loader with spawned workers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ...engine.plan.network import Modality
from .absence import draw_absent
from .augment import Augmentation
from .choose import choose
from .collate import Batch, collate
from .data_set import DataSet
from .draws import Draw, Draws
from .errors import DataSetError
from .labels import FLAIRHUB_LABELS, LabelRule
from .prepare import Prepared, prepare_sample
from .reading import read_sample
from .splits import Patch

if TYPE_CHECKING:
    PreparedDataset = Dataset[Prepared]
else:
    PreparedDataset = Dataset

__all__ = ["PatchDataset", "PreparedDataset", "make_loader"]


class PatchDataset(PreparedDataset):
    """Patches of a data set: read, chosen from, augmented and prepared when they are asked for.

    What a draw gives depends on the seed, its number and its patch alone, not on workers or order.

    Args:
        data_set: where they lie.
        patches: which; see `DataSet.split`.
        modalities: what the network takes, as its plan says it.
        tasks: task -> its labels.
        augmentation: of draws; None gives what inference would see.
        absence: modality -> probability with which the second look of a draw does without it; with none there is no
            second look.
        teacher: what another network takes, that teaches this one; None if there is none.
        seed: of all chance.

    Raises:
        DataSetError: a patch without label of any task, or of a modality that a network needs; or the networks choose
            acquisitions differently.
    """

    def __init__(
        self,
        data_set: DataSet,
        patches: tuple[Patch, ...],
        *,
        modalities: Mapping[str, Modality],
        tasks: Mapping[str, LabelRule] = FLAIRHUB_LABELS,
        augmentation: Augmentation | None = None,
        absence: Mapping[str, float] | None = None,
        teacher: Mapping[str, Modality] | None = None,
        seed: int = 0,
    ) -> None:
        self.patches = patches
        self._modalities = dict(modalities)
        self._teacher = None if teacher is None else dict(teacher)
        self._read = _together(self._modalities, self._teacher or {})
        products = {rule.product for rule in tasks.values()}
        for patch in patches:
            lacking = [name for name, m in self._read.items() if not m.may_be_absent and name not in patch.folders]
            if not products & patch.folders.keys():
                lacking.append(f"labels of {' or '.join(sorted(products))}")
            if lacking:
                raise DataSetError(f"{patch.id} lacks {', '.join(lacking)}; leave it out of the split file")
        self._root = data_set.root
        ids = [patch.id for patch in patches]
        self._dates = {name: table.only(ids) for name, table in data_set.dates.items() if name in self._read}
        self._tasks = dict(tasks)
        self._augmentation = augmentation
        self._absence = dict(absence or {})
        self._seed = seed

    def __len__(self) -> int:
        return len(self.patches)

    def __getitem__(self, item: int | Draw) -> Prepared:
        """One patch: augmented where a draw asks for it, as inference sees it where an index does.

        Raises:
            DataSetError: its files are missing or broken.
        """
        drawn = isinstance(item, Draw)
        patch = self.patches[item.index if isinstance(item, Draw) else item]
        rng = np.random.default_rng([self._seed, item.number if isinstance(item, Draw) else 0])
        held = [name for name in self._modalities if name in patch.folders]
        # drawn in any case, so that augmentation does not change where nothing is left out
        hidden = draw_absent(held, self._absence, rng)
        sample = read_sample(self._root, patch, dates=self._dates, modalities=[*self._read], tasks=self._tasks)
        sample = choose(sample, self._read)
        if drawn and self._augmentation is not None:
            sample = self._augmentation(sample, rng)
        teacher = None if self._teacher is None else prepare_sample(sample.of(self._teacher), self._teacher)
        seen, again = sample.of(self._modalities), hidden if drawn and self._absence else None
        return prepare_sample(seen, self._modalities, teacher=teacher, hidden=again)


def make_loader(
    patches: PreparedDataset,
    *,
    batch: int,
    workers: int = 0,
    draws: Draws | None = None,
    items: range | None = None,
    complete: Mapping[str, Modality] | None = None,
    pin: bool = False,
) -> DataLoader[Batch]:
    """Batches of prepared patches.

    Args:
        patches: what to load, by index or by draw.
        batch: patches in each; the last may have fewer.
        workers: processes that read and prepare, which are spawned and live as long as the loader; 0 reads in this
            one.
        draws: what to load in which order; None loads items by their index, without augmentation.
        items: of those only some, for a process that shares them with others; None loads all.
        complete: modalities that are never left out of a batch; see `collate`.
        pin: whether batches go to memory from which a GPU can copy by itself.
    """
    made: DataLoader[Batch] = DataLoader(
        patches,  # type: ignore[arg-type] # torch's loader takes the type of items for the type of batches
        batch_size=batch,
        sampler=draws if draws is not None else items,
        num_workers=workers,
        collate_fn=partial(collate, complete=complete),
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        pin_memory=pin,
        worker_init_fn=_one_thread if workers else None,
    )
    return made


def _together(student: Mapping[str, Modality], teacher: Mapping[str, Modality]) -> dict[str, Modality]:
    """What has to be read for two networks, neither of which may see acquisitions that the other does not."""
    both = {**teacher, **student}
    for name in student.keys() & teacher.keys():
        if student[name].filter != teacher[name].filter:
            raise DataSetError(
                f"{name} is filtered differently for a network and its teacher; give both the same filter"
            )
        needed = not (student[name].may_be_absent and teacher[name].may_be_absent)
        both[name] = student[name].model_copy(update={"may_be_absent": not needed})
    return both


def _one_thread(_worker: int) -> None:
    """Workers share the cores; each computes on its own one."""
    torch.set_num_threads(1)
