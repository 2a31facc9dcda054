"""Inputs of a benchmark: the same numbers whatever they are computed with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["Call", "Draw"]


class Draw:
    """Draws inputs; two with one seed draw the same numbers.

    Args:
        device: where the inputs live.
        dtype: that rounds them.
        exact: hold the rounded numbers in float64, as the truth is computed from them.
    """

    def __init__(self, device: str | torch.device, dtype: torch.dtype, *, exact: bool = False) -> None:
        self.device = torch.device(device)
        self.dtype = dtype
        self._exact = exact
        # meta tensors hold no numbers
        self.computed = torch.float64 if exact else dtype
        """In which a call computes."""
        self._generator = None if self.device.type == "meta" else torch.Generator(self.device).manual_seed(0)

    def normal(self, *shape: int, mean: float = 0.0, scale: float = 1.0, dtype: torch.dtype | None = None) -> Tensor:
        """Normally distributed numbers, contiguous; `dtype` where it is another than that of the case."""
        numbers = torch.randn(shape, device=self.device, generator=self._generator)
        return self.held(mean + scale * numbers, dtype=dtype)

    def shares(self, *shape: int) -> Tensor:
        """Numbers from 0 to 1, contiguous."""
        return self.held(torch.rand(shape, device=self.device, generator=self._generator))

    def integers(self, *shape: int, end: int, dtype: torch.dtype) -> Tensor:
        """Integers from 0 up to `end`, which no dtype of the case rounds."""
        whole = torch.randint(end, shape, device=self.device, generator=self._generator, dtype=torch.int32)
        return whole.to(dtype)

    def held(self, numbers: Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
        """Round numbers, and move them to the device."""
        rounded = numbers.to(self.device, dtype or self.dtype)
        return rounded.double() if self._exact else rounded


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    Attributes:
        operation: the public function, which runs the kernel on CUDA.
        reference: plain PyTorch, with the same arguments.
        arguments: by position.
        keywords: by name.
        rivals: what else computes the same, by name.
    """

    operation: Callable[..., Any]
    reference: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    rivals: Mapping[str, Callable[[], Any]] = field(default_factory=dict)

    def run(self, function: Callable[..., Any]) -> list[Tensor]:
        """The tensors that a function makes of the arguments."""
        return [each for each in tree_leaves(function(*self.arguments, **self.keywords)) if isinstance(each, Tensor)]
