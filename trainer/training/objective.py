"""What a batch costs a network: the losses of its tasks, of its sensors' own decoders, and of its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...engine.errors import CheckpointError
from ..data import Batch
from ..data.sample import UNLABELLED
from ..losses import TaskLoss
from ..network import UPerFuse

__all__ = ["SECOND_LOOKS", "Objective", "Teacher"]

SECOND_LOOKS = 0.25
"""Weight of second looks where nothing else is said: alike, they cost young networks what all sensors give."""


@dataclass(frozen=True)
class Teacher:
    """A network whose output another one is to give, too.

    Attributes:
        network: in inference mode; it is not changed.
        weight: of its loss beside that of the labels.
        temperature: by which both networks' logits are divided, so that unlikely classes count.
    """

    network: UPerFuse
    weight: float = 1.0
    temperature: float = 2.0


class Objective(nn.Module):
    """A network and everything that is to become small.

    Args:
        network: to be trained.
        losses: task -> its loss; all of the network's tasks.
        weights: task -> weight of its loss; 1 where left out.
        aux: modality -> weight of the loss of its own decoders; those that the network has.
        second_looks: weight of the loss of second looks beside that of first ones.
        teacher: network to learn from beside the labels.
        labels_per_base: pixels of a label to a pixel of the network's first image.
        label_stride: every how manieth pixel, along both axes, is learnt from.

    Raises:
        CheckpointError: losses, weights or a teacher that do not fit the network.
    """

    def __init__(
        self,
        network: UPerFuse,
        losses: Mapping[str, TaskLoss],
        *,
        weights: Mapping[str, float] | None = None,
        aux: Mapping[str, float] | None = None,
        second_looks: float = SECOND_LOOKS,
        teacher: Teacher | None = None,
        labels_per_base: float = 1.0,
        label_stride: int = 1,
    ) -> None:
        super().__init__()
        tasks = [task.name for task in network.spec.tasks]
        for what, given, known in (
            ("losses", [*losses], tasks),
            ("weights", [*(weights or {})], tasks),
            ("aux", [*(aux or {})], [*network.spec.aux]),
        ):
            strangers = [name for name in given if name not in known]
            if strangers:
                raise CheckpointError(f"{what} name {', '.join(strangers)}, the network has {known}; correct them")
        lacking = [task for task in tasks if task not in losses]
        if lacking:
            raise CheckpointError(f"no loss for {', '.join(lacking)}; give one for every task of the network")
        self.network = network
        self.losses = nn.ModuleDict({task: losses[task] for task in tasks})
        self._weights = {task: (weights or {}).get(task, 1.0) for task in tasks}
        self._aux = dict(aux or {})
        self._second_looks = second_looks
        self._labels_per_base = labels_per_base
        self._stride = label_stride
        self._shared_tasks: tuple[str, ...] = ()
        # in a tuple, so that its weights are none of this module's
        self._teacher = () if teacher is None else (teacher,)
        if teacher is not None:
            self._shared_tasks = _shared_tasks(network, teacher.network)

    @property
    def teacher(self) -> Teacher | None:
        """The network that is learnt from, if any."""
        return self._teacher[0] if self._teacher else None

    def forward(
        self, batch: Batch, averaged: Callable[[Tensor], Tensor] = lambda count: count
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum that is to become small, and its parts.

        Args:
            batch: prepared patches with labels.
            averaged: mean over processes; see `TaskLoss.forward`.

        Returns:
            Loss; and, for the record, name -> unweighted loss: of tasks, `second__<TASK>`, `<MODALITY>__<TASK>`,
            `teacher`.
        """
        shape_yx = _side_px(batch)
        offset = self._stride // 2
        aux = any(self._aux.values())
        base_px = tuple(round(side / self._labels_per_base) for side in shape_yx)
        logits = self.network(
            batch.inputs,
            batch.days,
            batch.masks,
            present=batch.present,
            shown=batch.shown,
            output_px=shape_yx,
            base_px=base_px if self.network.spec.images else None,
            aux=aux,
            stride=self._stride,
        )
        total = next(iter(logits.values())).new_zeros((), dtype=torch.float32)
        parts: dict[str, Tensor] = {}
        for task, weight in self._weights.items():
            labels = self._labels(batch, task)[..., offset :: self._stride, offset :: self._stride]
            first, second = logits[task][: len(batch)], logits[task][len(batch) :]
            parts[task] = self.losses[task](first, labels, averaged=averaged)
            total = total + weight * parts[task]
            if batch.shown is not None:
                parts[f"second__{task}"] = self.losses[task](second, labels, averaged=averaged)
                total = total + weight * self._second_looks * parts[f"second__{task}"]
            for modality, share in self._aux.items():
                name = f"{modality}__{task}"
                if not share:
                    continue
                # every process takes part in the mean, also one whose patches lack this modality
                given = logits.get(name, first)
                seen = self._seen(batch, modality, labels)
                parts[name] = self.losses[task](given, seen, averaged=averaged)
                total = total + weight * share * parts[name]
        if self.teacher is not None:
            parts["teacher"] = self._distance(self.teacher, batch, logits, shape_yx)
            total = total + self.teacher.weight * parts["teacher"]
        return total, {name: part.detach() for name, part in parts.items()}

    def _labels(self, batch: Batch, task: str) -> Tensor:
        """Labels of one task [B, Y, X]; all unknown where no patch of the batch has any."""
        if task in batch.labels:
            return batch.labels[task]
        return torch.full_like(next(iter(batch.labels.values())), UNLABELLED)

    def _seen(self, batch: Batch, modality: str, labels: Tensor) -> Tensor:
        """Labels of the patches that have a modality; its decoder learns nothing from those that lack it."""
        if modality not in batch.inputs:
            return torch.full_like(labels, UNLABELLED)
        if modality not in batch.present:
            return labels
        return torch.where(batch.present[modality][:, None, None], labels, UNLABELLED)

    def _distance(
        self, teacher: Teacher, batch: Batch, logits: Mapping[str, Tensor], output_px: tuple[int, int]
    ) -> Tensor:
        """Mean divergence from the teacher's probabilities (Hinton et al. 2015), labelled or not, of first looks."""
        assert batch.teacher is not None, "a data set with a teacher gives its inputs"
        with torch.no_grad():
            wanted = teacher.network(
                batch.teacher.inputs,
                batch.teacher.days,
                batch.teacher.masks,
                present=batch.teacher.present,
                output_px=output_px,
                stride=self._stride,
            )
        divergences = [
            F.kl_div(
                F.log_softmax(logits[task][: len(batch)].float() / teacher.temperature, dim=1),
                F.log_softmax(wanted[task].float() / teacher.temperature, dim=1),
                reduction="none",
                log_target=True,
            )
            .sum(1)
            .mean()
            for task in self._shared_tasks
        ]
        return torch.stack(divergences).mean() * teacher.temperature**2


def _side_px(batch: Batch) -> tuple[int, int]:
    """Rows and columns of the labels."""
    rows, columns = next(iter(batch.labels.values())).shape[-2:]
    return rows, columns


def _shared_tasks(student: UPerFuse, teacher: UPerFuse) -> tuple[str, ...]:
    taught = {task.name: task.classes for task in teacher.spec.tasks}
    shared = tuple(task.name for task in student.spec.tasks if taught.get(task.name) == task.classes)
    if not shared:
        raise CheckpointError(
            f"the teacher has the tasks {taught}, none of them with as many classes as the network's own; choose "
            "another teacher"
        )
    return shared
