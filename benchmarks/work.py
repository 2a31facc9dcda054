"""What a kernel or a segment has to compute and to move: counted, never timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch
from torch import nn

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.kernels.launch import collect
from uperfuse.trainer.export.segments import segments_of
from uperfuse.trainer.network import NetworkSpec, UPerFuse

from .kernels.draw import Draw
from .networks import DATES
from .unfused import measure_unfused

if TYPE_CHECKING:
    from .kernels.cases import Shape

__all__ = ["Work", "without_numbers", "work_of_segments", "work_of_shape"]


@dataclass(frozen=True)
class Work:
    """What is computed and moved.

    Attributes:
        launches: of our kernels; of a segment: its kernels, matrix products and convolutions.
        operations: of plain PyTorch that do the same.
        fused: bytes that must be moved by those launches.
        unfused: bytes that those operations move.
        matrix_flop: operations of matrix units.
        vector_flop: operations of the other units.
    """

    launches: int = 0
    operations: int = 0
    fused: int = 0
    unfused: int = 0
    matrix_flop: int = 0
    vector_flop: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def __mul__(self, times: int) -> Work:
        return Work(*(getattr(self, name) * times for name in self.__dataclass_fields__))


@contextmanager
def without_numbers() -> Iterator[None]:
    """Make tensors that have shapes and no numbers, and compute with them; autocast does not know their device."""
    with (
        torch.no_grad(),
        torch.device("meta"),
        patch.object(torch, "is_autocast_enabled", lambda *_: False),
        patch.object(torch, "autocast", lambda *_, **__: nullcontext()),
    ):
        yield


@lru_cache(maxsize=256)
def work_of_shape(shape: Shape, dtype: torch.dtype) -> Work:
    """The work of one call of a kernel.

    Fused: what its launches are declared to read and write. Everything else: what its reference does.
    """
    with torch.no_grad():
        with collect() as launches:
            call = shape.make(Draw("cpu", dtype))
            call.run(call.operation)
        assert launches, f"{shape.kernel}, {shape}: no kernel was launched"
        call = shape.make(Draw("meta", dtype))
        with measure_unfused() as counted:
            call.run(call.reference)
    return Work(
        launches=len(launches),
        operations=len(counted.operations),
        fused=sum(launch.compulsory_bytes for launch in launches),
        unfused=counted.moved,
        matrix_flop=counted.matrix_flop,
        vector_flop=counted.vector_flop,
    )


def work_of_segments(spec: NetworkSpec, *, dtype: torch.dtype) -> Iterator[tuple[str, Work]]:
    """Every segment of a network, by name, for one tile.

    Fused: every kernel, matrix product and convolution reads its operands, weights among them, and writes its result;
    what lies between them is free. Everything else: what the segment does in plain PyTorch.
    """
    with without_numbers():
        tiles_px = {name: MODALITIES[name].tile_px for name in spec.modalities}
        for segment in list(segments_of(UPerFuse(spec).eval(), tiles_px=tiles_px)):
            dates = (DATES,) if segment.series else ()
            inputs = [
                torch.empty(1, *dates, *each.shape[1 + len(dates) :], dtype=dtype) for each in segment.inputs.values()
            ]
            yield segment.name, _work_of_module(segment.module.to(dtype), inputs)


def _work_of_module(module: nn.Module, inputs: list[torch.Tensor]) -> Work:
    with measure_unfused() as plain:
        module(*inputs)
    with collect(), measure_unfused() as ours:
        module(*inputs)
    return Work(
        launches=sum(each.product for each in ours.operations),
        operations=len(plain.operations),
        fused=ours.moved_by_products,
        unfused=plain.moved,
        matrix_flop=plain.matrix_flop,
        vector_flop=plain.vector_flop,
    )
