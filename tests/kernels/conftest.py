"""What the kernels' tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from uperfuse.kernels import dispatch

from . import bfloat16, nested


@pytest.fixture
def kernels() -> Iterator[None]:
    """Run the kernels on the CPU through Triton's interpreter; memory that nobody wrote is NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    # fills what torch.empty returns with NaN, or the largest integer
    torch.use_deterministic_algorithms(True)
    try:
        with dispatch.interpret(), bfloat16.mended(), nested.prepared_once():
            yield
    finally:
        torch.use_deterministic_algorithms(before)
