"""Watts as the system files and the driver of a machine tell them; the files and the driver are made up."""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest

from uperfuse.engine import power
from uperfuse.engine.power import power_meter


@pytest.fixture(autouse=True)
def nothing_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "_MONITORS", tmp_path / "monitors")
    monkeypatch.setattr(power, "_COUNTERS", tmp_path / "counters")
    monkeypatch.setattr(power, "_INTERVAL_S", 0.01)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


def rail(folder: Path, number: int, name: str, *, volts: float, amperes: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"in{number}_label").write_text(f"{name}\n")
    (folder / f"in{number}_input").write_text(f"{round(volts * 1000)}\n")
    (folder / f"curr{number}_input").write_text(f"{round(amperes * 1000)}\n")


def test_a_machine_that_tells_nothing() -> None:
    for gpu in (False, True):
        with power_meter(gpu=gpu) as meter:
            assert meter is None


@pytest.mark.parametrize("gpu", [False, True])
def test_a_jetson_tells_what_its_module_draws(tmp_path: Path, gpu: bool) -> None:
    folder = tmp_path / "monitors/1-0040/hwmon/hwmon3"
    rail(folder, 2, "VDD_CPU_GPU_CV", volts=5, amperes=1)
    rail(folder, 1, "VDD_IN", volts=5.08, amperes=2.5)
    with power_meter(gpu=gpu) as meter:
        time.sleep(0.05)
    assert meter is not None
    assert meter.source == "VDD_IN of the module"
    assert meter.watts == pytest.approx(12.7)
    assert len(meter.samples) >= 2


def driver(tmp_path: Path, program: str) -> None:
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin/nvidia-smi"
    path.write_text(f"#!{sys.executable}\n{program}\n")
    path.chmod(stat.S_IRWXU)


def test_a_driver_tells_what_its_gpu_draws(tmp_path: Path) -> None:
    driver(tmp_path, "import sys; assert '--query-gpu=power.draw' in sys.argv; print('71.25')")
    with power_meter(gpu=True) as meter:
        time.sleep(0.02)
    assert meter is not None
    assert (meter.source, meter.watts) == ("the GPU, by its driver", 71.25)
    with power_meter(gpu=False) as none:
        assert none is None


@pytest.mark.parametrize("program", ["print('[N/A]')", "raise SystemExit(9)", "pass"])
def test_a_driver_that_tells_nothing(tmp_path: Path, program: str) -> None:
    driver(tmp_path, program)
    with power_meter(gpu=True) as meter:
        assert meter is None


def test_a_processor_tells_what_it_has_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "counters/intel-rapl:0"
    folder.mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text("1000000000\n")
    (folder / "energy_uj").write_text("999000000\n")
    moments = iter([0.0, 2.0])
    monkeypatch.setattr(power.time, "monotonic", lambda: next(moments))
    monkeypatch.setattr(power, "_INTERVAL_S", 60)
    with power_meter(gpu=False) as meter:
        (folder / "energy_uj").write_text("29000000\n")  # the counter has begun anew
    assert meter is not None
    assert meter.watts == pytest.approx(15.0)
    assert "energy counter" in meter.source


def test_what_stops_telling_is_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "monitors/1-0040/hwmon/hwmon3"
    rail(folder, 1, "VDD_IN", volts=5, amperes=2)
    with power_meter(gpu=False) as meter:
        (folder / "in1_input").unlink()
        time.sleep(0.05)
    assert meter is not None
    assert meter.watts in (None, pytest.approx(10.0))
