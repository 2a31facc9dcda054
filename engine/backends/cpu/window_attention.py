"""Attention in Swin's windows as an operation that OpenVINO computes by `_native.WindowAttention`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ... import _native
from ...cores import core_numbers

__all__ = ["HEAD_CHANNELS", "WindowAttention", "Windows"]

HEAD_CHANNELS = 32
"""Of every head, as `_native.WindowAttention` takes them."""


@dataclass(frozen=True)
class Windows:
    """What an attention knows beforehand.

    Attributes:
        places: [windows, N], a window's tokens; T where there is none.
        regions: [windows, N]; tokens of one meet, others do not.
        bias: [heads, N, padded N], as `_native.WindowAttention` takes it.
        padding: [2, C], key and value of every place without a token.
    """

    places: NDArray[np.int32]
    regions: NDArray[np.int32]
    bias: NDArray[np.float32]
    padding: NDArray[np.float32]

    def packed(self) -> NDArray[np.int32]:
        """All of it in one row."""
        sizes = np.array([*self.places.shape, *self.bias.shape], np.int32)
        tables = (self.places, self.regions, self.bias.view(np.int32), self.padding.view(np.int32))
        return np.concatenate([sizes, *(table.reshape(-1) for table in tables)])

    @classmethod
    def unpacked(cls, row: NDArray[np.int32]) -> Windows:
        """What `packed` gave."""
        windows, N, heads, _, padded = (int(size) for size in row[:5])
        shapes = ((windows, N), (windows, N), (heads, N, padded), (2, heads * HEAD_CHANNELS))
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        places, regions, bias, padding = (
            part.reshape(shape) for part, shape in zip(np.split(row[5:], ends[:-1]), shapes, strict=True)
        )
        return cls(places, regions, bias.view(np.float32), padding.view(np.float32))


class WindowAttention(ov.Op):  # type: ignore[misc]  # to the type checker, openvino's classes are of any type
    """Attention in windows, in bf16.

    Inputs are queries, scaled, keys and values, bf16 [1, T, C] each, and `Windows` as a constant: one, for every input
    that an operation in Python has costs time whenever it is computed. The output is bf16 [1, T, C].

    Args:
        inputs: those; None where OpenVINO reads a graph that it has kept, and gives them later.
        threads: of the processor.
        cores: where they run; None takes those of the thread that makes the operation. OpenVINO keeps the thread that
            computes it on one core.
    """

    class_type_info = ov.DiscreteTypeInfo("WindowAttention", "uperfuse")

    def __init__(
        self, inputs: list[ov.Output] | None = None, *, threads: int = 1, cores: tuple[int, ...] | None = None
    ) -> None:
        self._threads = threads
        self._cores = core_numbers() if cores is None else cores
        self._native: _native.WindowAttention | None = None
        super().__init__(self, inputs)

    def validate_and_infer_types(self) -> None:
        """Give the output the queries' shape."""
        self.set_output_type(0, ov.Type.bf16, self.get_input_partial_shape(0))

    def clone_with_new_inputs(self, new_inputs: list[ov.Output]) -> WindowAttention:
        """The same with other inputs."""
        return WindowAttention(new_inputs, threads=self._threads, cores=self._cores)

    def visit_attributes(self, visitor: Any) -> bool:
        """Name what is kept with a graph, and take it where one is read."""
        kept = {"threads": self._threads}
        visitor.on_attributes(kept)
        self._threads = kept["threads"]
        return True

    def has_evaluate(self) -> bool:
        """Whether it can be computed."""
        return True

    def evaluate(self, outputs: list[ov.Tensor], inputs: list[ov.Tensor]) -> bool:
        """Compute it."""
        if self._native is None:
            windows = Windows.unpacked(inputs[3].data)
            self._native = _native.WindowAttention(
                tokens=inputs[0].shape[1],
                padding=windows.padding,
                bias=windows.bias,
                places=windows.places,
                regions=windows.regions,
                threads=self._threads,
                cores=self._cores,
            )
        self._native.run(inputs[0].data, inputs[1].data, inputs[2].data, outputs[0].data)
        return True
