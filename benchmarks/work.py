"""What a kernel or a segment has to compute and to move: counted, never timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import lru_cache
from unittest.mock import patch

import torch

from uperfuse.engine.flairhub import MODALITIES
from uperfuse.kernels.launch import collect
from uperfuse.trainer.export.segments import segments_of
from uperfuse.trainer.network import NetworkSpec, UPerFuse

from .kernels.cases import shapes_in
from .kernels.draw import Draw
from .kernels.shapes import Shape
from .networks import DATES
from .peaks import Load
from .unfused import measure_unfused

__all__ = ["Work", "without_numbers", "work_of_segments", "work_of_shape"]


@dataclass(frozen=True)
class Work:
    """What is asked of a board by our kernels, and by plain PyTorch that does the same."""

    fused: Load = field(default_factory=Load)
    unfused: Load = field(default_factory=Load)

    def __add__(self, other: Work) -> Work:
        return Work(self.fused + other.fused, self.unfused + other.unfused)

    def __mul__(self, times: int) -> Work:
        return Work(self.fused * times, self.unfused * times)


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

    It moves what its launches are declared to read and write, and computes what its reference does.
    """
    with torch.no_grad():
        with collect() as launches:
            call = shape.make(Draw("cpu", dtype))
            call.run(call.operation)
        assert launches, f"{shape.kernel}, {shape}: no kernel was launched"
        call = shape.make(Draw("meta", dtype))
        with measure_unfused() as counted:
            call.run(call.reference)
    unfused = counted.load
    moved = sum(launch.compulsory_bytes for launch in launches)
    return Work(fused=replace(unfused, launches=len(launches), moved=moved), unfused=unfused)


@lru_cache(maxsize=8)
def work_of_segments(spec: NetworkSpec, *, dtype: torch.dtype) -> dict[str, Work]:
    """Every segment of a network, by name, for one tile.

    Fused, every kernel, matrix product and convolution reads its operands, weights among them, and writes its result;
    what lies between them moves nothing.
    """
    works = {}
    inside = {f"encoder:{name}": shapes_in(spec, name) for name in spec.modalities}
    with without_numbers():
        tiles_px = {name: MODALITIES[name].tile_px for name in spec.modalities}
        for segment in list(segments_of(UPerFuse(spec).eval(), tiles_px=tiles_px)):
            dates = (DATES,) if segment.series else ()
            inputs = [
                torch.empty(1, *dates, *each.shape[1 + len(dates) :], dtype=dtype) for each in segment.inputs.values()
            ]
            module = segment.module.to(dtype)
            with measure_unfused() as plain:
                module(*inputs)
            with collect(), measure_unfused() as ours:
                module(*inputs)
            fused = ours.load_of_products
            for shape, times in inside.get(segment.name, {}).items():
                kernel = work_of_shape(shape, dtype).fused * times
                fused += replace(kernel, launches=0, moved=0)  # which were counted among the products
            works[segment.name] = Work(fused, plain.load)
    return works
