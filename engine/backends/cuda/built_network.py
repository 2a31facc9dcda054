"""What a frame's plan needs to know of a network: doors, sizes and compiled kernels; no memory, no device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ...launching import KERNEL_TYPES, KernelRequest, LaunchRecord
from ...plan.manifest import Manifest
from ...plan.payloads import EnginePayload, Part

__all__ = ["AttentionArrays", "BuiltNetwork", "MapShape"]


class MapShape(NamedTuple):
    """One level of a modality's pyramid for one tile."""

    rows: int
    columns: int
    channels: int


@dataclass(frozen=True)
class AttentionArrays:
    """Parameters of a series' temporal attention, float32, by the names of the kernel's arguments.

    Attributes:
        period: of the slowest sinusoid, in days over 2 pi.
        arrays: `norm_scale` [C], `norm_shift` [C], `score` [H, C], `score_position` [H, D / H], `score_bias` [H],
            `embed` [D, C], `embed_bias` [D].
    """

    period: float
    arrays: Mapping[str, NDArray[np.float32]]

    @property
    def heads(self) -> int:
        """Number of heads."""
        return int(self.arrays["score"].shape[0])

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return int(self.arrays["score"].shape[1])

    @property
    def embedding(self) -> int:
        """Channels of the context."""
        return int(self.arrays["embed"].shape[0])


@dataclass(frozen=True)
class BuiltNetwork:
    """A plan's network as one payload has it.

    Attributes:
        manifest: of the plan.
        payload: whose parts run.
        records: of the kernels that are compiled for the device.
        attention: series -> parameters; empty where encoders are not cut.
        stand_ins: modality -> vector [C] of each level.
    """

    manifest: Manifest
    payload: EnginePayload
    records: tuple[LaunchRecord, ...]
    attention: Mapping[str, AttentionArrays]
    stand_ins: Mapping[str, tuple[NDArray[np.float32], ...]]

    @property
    def short(self) -> str:
        """Type of maps between parts, by Triton's names."""
        return KERNEL_TYPES[self.payload.part(f"decode:{self.manifest.tasks[0].name}").inputs[0].dtype]

    @property
    def others(self) -> tuple[str, ...]:
        """Modalities beside the base, in the plan's order."""
        return tuple(m.name for m in self.manifest.modalities if m.name != self.manifest.base)

    def last_part(self, modality: str) -> Part:
        """The part that gives the pyramid of a modality."""
        role = "temporal" if modality in self.attention else "encoder"
        return self.payload.part(f"{role}:{modality}")

    def levels(self, modality: str) -> tuple[MapShape, ...]:
        """Sizes of a modality's pyramid for one tile, finest first."""
        shapes = (door.shape[1:] for door in self.last_part(modality).outputs)
        return tuple(MapShape(int(rows), int(columns), int(channels)) for rows, columns, channels in shapes)

    def find(self, request: KernelRequest) -> LaunchRecord:
        """The compiled kernel that serves a request.

        Raises:
            BackendError: there is none among those of the plan.
        """
        for record in self.records:
            if request.matches(record):
                return record
        types = ", ".join(request.types.values())
        raise BackendError(
            f"the plan's kernels hold no {request.kernel} for {types} and {dict(request.constants)}, which the network "
            "needs on this device; run `uperfuse build` on the plan again"
        )
