"""Every kernel against its reference, the compiled reference and its rivals: `pytest benchmarks/kernels --benchmark`.

A kernel whose result is wrong gets no time. Times are those of the GPU, taken by `ColdStopwatch`; pytest-benchmark
keeps and compares them.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ..peaks import peak_of
from ..work import work_of_shape
from .cases import Case
from .correct import check
from .measure import ColdStopwatch, measure
from .report import CLOCK, describe, keep


# advice that torch.compile gives as warnings must not fail a measurement
@pytest.mark.filterwarnings("default")
@pytest.mark.benchmark(timer=CLOCK)
def test_kernel(case: Case, benchmark: Any, lines: list[str]) -> None:
    device = torch.device("cuda")
    seconds = measure(
        case.shape.make, device=device, dtype=case.dtype, check=check(case), seconds_of=ColdStopwatch(device)
    )
    peak = peak_of(torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).multi_processor_count)
    load = work_of_shape(case.shape, case.dtype).fused
    lines += [str(case), *(f"    {line}" for line in describe(seconds, load=load, peak=peak))]
    keep(benchmark, seconds, load=load, peak=peak)
