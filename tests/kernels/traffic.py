"""Counts the bytes that kernels load and store while Triton's interpreter runs them.

Lanes that a mask switches off count nothing. What a program keeps in registers or shared memory costs nothing either:
only accesses to arrays are counted, by the argument that they go to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import numpy as np
from torch import Tensor
from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

from benchmarks.unfused import measure_unfused

__all__ = ["Traffic", "assert_in_readme", "measure", "measure_unfused"]


@dataclass
class Traffic:
    """Bytes that one launch moved, by argument."""

    operation: str
    """Folder of the kernel."""
    kernel: str
    """Name of its function."""
    extent: dict[str, int]
    """Bytes of every array among the arguments, moved or not."""
    loaded: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)

    @property
    def moved(self) -> int:
        return self.loaded.total() + self.stored.total()

    @property
    def compulsory(self) -> int:
        """Every array that was touched, once."""
        return sum(self.extent[name] for name in self.loaded.keys() | self.stored.keys())

    @property
    def ratio(self) -> float:
        return self.moved / self.compulsory


@contextmanager
def measure() -> Iterator[list[Traffic]]:
    """Collect the traffic of every launch inside the `with`, in order."""
    launches: list[Traffic] = []
    ranges: list[tuple[int, int, str]] = []

    def call(executor, *args, **kwargs):
        bound = dict(zip(executor.arg_names, args, strict=False)) | kwargs
        arrays = {name: each for name, each in bound.items() if isinstance(each, Tensor) and each.numel()}
        ranges[:] = sorted((each.data_ptr(), each.data_ptr() + each.nbytes, name) for name, each in arrays.items())
        extent = {name: each.nbytes for name, each in arrays.items()}
        operation = executor.fn.__globals__["__name__"].split(".")[-2]
        launches.append(Traffic(operation, executor.fn.__name__, extent))
        return original_call(executor, *args, **kwargs)

    def owner(addresses) -> str:
        """The one argument that an access goes to; an address outside all of them is an error of the kernel."""
        low, high = int(addresses.min()), int(addresses.max())
        place = bisect_right(ranges, (low, 2**64, "")) - 1
        assert place >= 0, f"access at {low} is below every array"
        start, end, name = ranges[place]
        assert start <= low <= high < end, f"access at {low}..{high} leaves {name} ({start}..{end})"
        return name

    def count(counter, pointers, mask) -> None:
        # a mask may come as integers, which NumPy would take for places
        active = np.broadcast_to(mask.data, pointers.data.shape).astype(bool)
        if active.any():
            item_bytes = pointers.get_element_ty().primitive_bitwidth // 8
            counter[owner(pointers.data[active])] += int(active.sum()) * item_bytes

    def load(builder, pointers, mask, *rest):
        count(launches[-1].loaded, pointers, mask)
        return original_load(builder, pointers, mask, *rest)

    def store(builder, pointers, value, mask, *rest):
        count(launches[-1].stored, pointers, mask)
        return original_store(builder, pointers, value, mask, *rest)

    def atomic(builder, operation, pointers, value, mask, *rest):
        count(launches[-1].loaded, pointers, mask)
        count(launches[-1].stored, pointers, mask)
        return original_atomic(builder, operation, pointers, value, mask, *rest)

    original_call = GridExecutor.__call__
    original_load = InterpreterBuilder.create_masked_load
    original_store = InterpreterBuilder.create_masked_store
    original_atomic = InterpreterBuilder.create_atomic_rmw
    with (
        patch.object(GridExecutor, "__call__", call),
        patch.object(InterpreterBuilder, "create_masked_load", load),
        patch.object(InterpreterBuilder, "create_masked_store", store),
        patch.object(InterpreterBuilder, "create_atomic_rmw", atomic),
    ):
        yield launches


def assert_in_readme(kernel: str, rows: list[tuple[str, int, int, int]]) -> None:
    """Check that a kernel's README states what was counted.

    Args:
        kernel: its folder.
        rows: (what, bytes moved, compulsory bytes, bytes that unfused PyTorch moves) each.
    """
    readme = (Path(__file__).resolve().parents[2] / "kernels" / kernel / "README.md").read_text(encoding="utf-8")
    lines = [
        f"| {what} | {moved / 1e6:.2f} | {compulsory / 1e6:.2f} | {moved / compulsory:.3f} | {unfused / 1e6:.2f} |"
        for what, moved, compulsory, unfused in rows
    ]
    missing = [line for line in lines if line not in readme]
    head = "| case | moved, MB | compulsory, MB | ratio | unfused PyTorch, MB |\n| --- | --- | --- | --- | --- |\n"
    assert not missing, f"kernels/{kernel}/README.md lacks rows; its table must be\n{head}" + "\n".join(lines)
