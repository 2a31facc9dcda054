"""What is asked of a build, and the machine that it is done on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import BackendError
from ..tensorrt.flavour import Asked

__all__ = ["DEFAULT_DATES", "BuildMachine", "BuildSettings", "PlanPrecision", "Say"]

PlanPrecision = Literal["float32", "fp16", "bf16", "int8", "fp8"]
Say = Callable[[str], None]

DEFAULT_DATES = (16, 32, 64, 96)
"""Numbers of dates that series are padded to: a year of Sentinel-2 has some ninety clear dates at most."""

_MOST = 16


@dataclass(frozen=True)
class BuildMachine:
    """The GPU that a build runs on.

    Attributes:
        ordinal: which GPU.
        name: as the driver spells it.
        capability: compute capability, 87 for 8.7.
        integrated: whether it shares its memory with the host.
        free_bytes: of its memory.
        total_bytes: of its memory.
    """

    ordinal: int
    name: str
    capability: int
    integrated: bool
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class BuildSettings:
    """What is asked of a build.

    Attributes:
        precision: of products.
        batches: tiles at a time, rising; each gets engines of its own shapes.
        dates: numbers of dates that series are padded to, rising.
        cut: whether series' encoders are cut where our kernels stand.
        flavour: of TensorRT.
        version_compatible: whether later versions and the lean runtimes are to take the engines.
        architectures: for which kernels are added beside the machine's own.
        kernels: folder that `python -m uperfuse.kernels.build` made.

    Raises:
        BackendError: numbers that cannot be.
    """

    precision: PlanPrecision = "fp16"
    batches: tuple[int, ...] = (1,)
    dates: tuple[int, ...] = DEFAULT_DATES
    cut: bool = True
    flavour: Asked = "auto"
    version_compatible: bool = False
    architectures: tuple[int, ...] = ()
    kernels: Path | None = None

    def __post_init__(self) -> None:
        for what, numbers in (("batch", self.batches), ("dates", self.dates)):
            if not 1 <= len(numbers) <= _MOST or min(numbers) < 1 or list(numbers) != sorted(set(numbers)):
                raise BackendError(
                    f"--{what} is {','.join(map(str, numbers)) or 'empty'}, expected 1 to {_MOST} rising numbers from "
                    "1 on, such as 1,4"
                )
