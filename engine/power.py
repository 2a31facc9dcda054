"""What a machine draws, as a Jetson's power monitors, a GPU's driver or a processor's counters tell it."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["Power", "power_meter"]

_MONITORS = Path("/sys/bus/i2c/drivers/ina3221")
_COUNTERS = Path("/sys/class/powercap")
_TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")  # what a module draws in all; newer and older Jetsons
_INTERVAL_S = 0.2
_QUERY = ("nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits", "--id=0")


class _Meter(Protocol):
    """Something that tells watts."""

    source: str

    def watts(self) -> float:
        """Now, or on average since it was last asked."""
        ...


@dataclass
class Power:
    """What was drawn while something ran.

    Attributes:
        source: that told.
        samples: in watts.
    """

    source: str
    samples: list[float] = field(default_factory=list)

    @property
    def watts(self) -> float | None:
        """On average; None where nothing was sampled."""
        return sum(self.samples) / len(self.samples) if self.samples else None


@contextmanager
def power_meter(*, gpu: bool) -> Iterator[Power | None]:
    """Sample what is drawn while the context lasts; None where nothing tells.

    Args:
        gpu: whether a GPU does the work.
    """
    meter = _find(gpu)
    if meter is None:
        yield None
        return
    power = Power(meter.source)
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(meter, power, over), name="power")
    thread.start()
    try:
        yield power
    finally:
        over.set()
        thread.join()


def _sample(meter: _Meter, power: Power, over: threading.Event) -> None:
    while True:
        ended = over.wait(_INTERVAL_S)
        try:
            power.samples.append(meter.watts())
        except (OSError, ValueError, subprocess.SubprocessError):
            return
        if ended:
            return


def _find(gpu: bool) -> _Meter | None:
    for make in (_Rail.find, *((_Driver.find,) if gpu else (_Counter.find,))):
        meter: _Meter | None = make()
        if meter is not None:
            return meter
    return None


class _Rail:
    """The monitor of a Jetson on the rail that feeds the module."""

    def __init__(self, volts: Path, amperes: Path, name: str) -> None:
        self._volts, self._amperes = volts, amperes
        self.source = f"{name} of the module"

    @classmethod
    def find(cls) -> _Rail | None:
        """The rail, if this is a Jetson."""
        for label in sorted(_MONITORS.glob("*/hwmon/hwmon*/in*_label")):
            name = label.read_text(encoding="ascii", errors="replace").strip()
            volts = label.with_name(label.name.replace("_label", "_input"))
            amperes = volts.with_name(volts.name.replace("in", "curr", 1))
            if name in _TOTAL_RAILS and volts.exists() and amperes.exists():
                return cls(volts, amperes, name)
        return None

    def watts(self) -> float:
        """Now."""
        return int(self._volts.read_text()) * int(self._amperes.read_text()) / 1e6


class _Driver:
    """The driver of the first NVIDIA GPU."""

    source = "the GPU, by its driver"

    @classmethod
    def find(cls) -> _Driver | None:
        """The driver, if it tells."""
        meter = cls()
        try:
            meter.watts()
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
        return meter

    def watts(self) -> float:
        """Now."""
        program = shutil.which(_QUERY[0])
        if program is None:
            raise FileNotFoundError(_QUERY[0])
        done = subprocess.run([program, *_QUERY[1:]], capture_output=True, text=True, check=True, timeout=5)  # noqa: S603  nothing of a user is in it
        return float(done.stdout)


class _Counter:
    """The energy counter of the first processor package."""

    source = "the processor package, by its energy counter"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wraps_at = int((path.parent / "max_energy_range_uj").read_text())
        self._joules, self._time = self._now()

    @classmethod
    def find(cls) -> _Counter | None:
        """The counter, if there is one that may be read."""
        try:
            return cls(_COUNTERS / "intel-rapl:0/energy_uj")
        except (OSError, ValueError):
            return None

    def watts(self) -> float:
        """On average since it was last asked."""
        (joules, at), before, then = self._now(), self._joules, self._time
        self._joules, self._time = joules, at
        return ((joules - before) % (self._wraps_at / 1e6)) / max(at - then, 1e-9)

    def _now(self) -> tuple[float, float]:
        return int(self._path.read_text()) / 1e6, time.monotonic()
