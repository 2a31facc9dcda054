"""The benchmarks of the kernels, as far as they go without a GPU: everything but the times."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.kernels import conftest
from benchmarks.kernels.cases import Case, cases
from benchmarks.kernels.correct import check
from benchmarks.kernels.draw import Call, Draw
from benchmarks.kernels.measure import ColdStopwatch, measure, sides_of
from benchmarks.kernels.report import Percentiles, describe
from benchmarks.kernels.shapes import TemporalAggregate
from benchmarks.peaks import PEAKS, Load
from benchmarks.tolerances import TOLERANCES
from uperfuse.kernels import dispatch
from uperfuse.kernels.catalogue import kernel_specs

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
SMALL = Case(TemporalAggregate(5, 3, (32, 16), 16), torch.bfloat16)


def _pytest(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_one_line_says_so():
    done = _pytest("benchmarks/kernels", "--benchmark")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SKIPPED"))
    assert line.endswith("no CUDA GPU on this machine: no kernel is timed")


@dataclass
class _Config:
    benchmark: bool
    args_source: object = pytest.Config.ArgsSource.ARGS
    args: list[str] = field(default_factory=lambda: ["tests"])
    rootpath: Path = ROOT

    def getoption(self, name: str) -> bool:
        assert name == "--benchmark"
        return self.benchmark


def test_every_reason_not_to_time_is_told(monkeypatch):
    assert conftest.why_not(_Config(False)) == "kernels are timed with --benchmark only"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert conftest.why_not(_Config(True)).startswith("TRITON_INTERPRET is set")
    monkeypatch.delenv("TRITON_INTERPRET")
    assert conftest.why_not(_Config(True)) is None


def test_the_option_alone_times_benchmarks_and_runs_no_test():
    """What the tests' conftest.py set is taken back: pytest reads it, though it collects no test."""
    listed = _pytest("--benchmark", "--collect-only", "-q", TRITON_INTERPRET="0")
    assert listed.returncode == 0, listed.stdout + listed.stderr
    cases = [line for line in listed.stdout.splitlines() if "::" in line]
    assert {line.partition("::")[0] for line in cases} == {
        "benchmarks/kernels/test_kernels.py",
        "benchmarks/small/test_small.py",
    }


@pytest.mark.parametrize("before", [None, "0", "1"])
def test_the_interpreter_is_as_the_user_has_it(before, monkeypatch):
    if before is None:
        monkeypatch.delenv("TRITON_INTERPRET")
    else:
        monkeypatch.setenv("TRITON_INTERPRET", before)
    specification = importlib.util.spec_from_file_location("root_conftest", ROOT / "conftest.py")
    options = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(options)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # as tests/conftest.py does
    testpaths = pytest.Config.ArgsSource.TESTPATHS
    for config in (_Config(True), _Config(False, testpaths)):
        options.pytest_configure(config)
        assert os.environ["TRITON_INTERPRET"] == "1"
        assert config.args == ["tests"]
    config = _Config(True, testpaths)
    options.pytest_configure(config)
    assert os.environ.get("TRITON_INTERPRET") == before
    assert config.args == [str(ROOT / "benchmarks")]


def test_small_cases_are_timed_only_where_times_are_asked_for():
    done = _pytest("benchmarks/small", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 skipped" in done.stdout
    assert "small cases are timed with --benchmark only" in done.stdout


def test_a_small_case_is_timed_saved_and_compared(tmp_path):
    """`prepare` alone, twice: with the options that pytest-benchmark has for it."""
    timed = ("--benchmark", "-q", "-k", "prepare", "benchmarks/small", f"--benchmark-storage={tmp_path}")
    first = _pytest(*timed, "--benchmark-save=first")
    assert first.returncode == 0, first.stdout + first.stderr
    second = _pytest(*timed, "--benchmark-compare", f"--benchmark-histogram={tmp_path / 'times'}")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "test_prepare (NOW)" in second.stdout
    assert "test_prepare (0001_first)" in second.stdout
    assert (tmp_path / "times.svg").read_text().lstrip().startswith("<?xml")


class _Stopwatch:
    """Makes every call, and says that the n-th one took n seconds."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, call) -> float:
        call()
        self.calls += 1
        return float(self.calls)


def test_a_wrong_kernel_gets_no_time():
    def wrong(maps, attention):
        first, *rest = SMALL.shape.make(Draw("cpu", SMALL.dtype)).run(lambda maps, attention: maps)
        sums = [each.sum(1) for each in (first, *rest)]
        return [sums[0] * 1.1, *sums[1:]]

    def make(draw):
        call = SMALL.shape.make(draw)
        return Call(wrong, call.reference, call.arguments)

    stopwatch = _Stopwatch()
    with pytest.raises(AssertionError, match="temporal_aggregate result 0"):
        measure(make, device=CPU, dtype=SMALL.dtype, check=check(SMALL), seconds_of=stopwatch, compiled=False)
    assert stopwatch.calls == 0


def test_a_right_kernel_gets_times():
    """The kernel itself, through Triton's interpreter."""
    stopwatch = _Stopwatch()
    with dispatch.interpret():
        seconds = measure(
            SMALL.shape.make, device=CPU, dtype=torch.float32, check=check(SMALL), seconds_of=stopwatch,
            compiled=False, rounds=1, warm_up=0,
        )  # fmt: skip
    assert seconds == {"kernel": [1], "PyTorch": [2]}


def test_sides_are_timed_in_turns():
    order = []

    def make(draw):
        call = SMALL.shape.make(draw)

        def noted(name, function):
            return lambda *arguments: (order.append(name), function(*arguments))[1]

        rivals = {"rival": lambda: order.append("rival")}
        return Call(noted("kernel", call.operation), noted("PyTorch", call.reference), call.arguments, rivals=rivals)

    seconds = measure(
        make, device=CPU, dtype=SMALL.dtype, check=check(SMALL), seconds_of=_Stopwatch(), compiled=False,
        rounds=3, warm_up=2,
    )  # fmt: skip
    turn = ["kernel", "PyTorch", "rival"]
    # right first
    assert order == ["kernel", "PyTorch", *turn * 5]
    assert seconds == {"kernel": [7, 10, 13], "PyTorch": [8, 11, 14], "rival": [9, 12, 15]}


def test_caches_are_cold_and_the_call_alone_is_timed(monkeypatch):
    happened = []

    class Event:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            happened.append("event")

        def synchronize(self) -> None:
            happened.append("wait")

        def elapsed_time(self, end: Event) -> float:
            return 2.5  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=100))
    monkeypatch.setattr("benchmarks.kernels.measure._LEAST_FLUSH_BYTES", 64)
    stopwatch = ColdStopwatch(CPU)
    assert len(stopwatch._cache) > 100
    stopwatch._cache.fill_(7)
    assert stopwatch(lambda: happened.append(f"call with {int(stopwatch._cache.sum())} left")) == 2.5e-3
    assert happened == ["event", "call with 0 left", "event", "wait"]


def test_the_compiled_reference_takes_part():
    call = SMALL.shape.make(Draw("cpu", SMALL.dtype))
    assert list(sides_of(call)) == ["kernel", "PyTorch", "torch.compile"]


def test_percentiles():
    assert Percentiles.of([float(value) for value in range(100, -1, -1)]) == Percentiles(20, 50, 80)
    assert Percentiles.of([3.0]) == Percentiles(3, 3, 3)
    assert Percentiles.of([1.0, 2.0]) == Percentiles(*map(pytest.approx, (1.2, 1.5, 1.8)))


def test_what_is_said_of_times():
    seconds = {"kernel": [2e-6] * 5, "PyTorch": [8e-6] * 5}
    bytes_bound = Load(moved=2_039_000, matrix_flop=1_000, vector_flop=0)
    assert describe(seconds, load=bytes_bound, peak=PEAKS["A100"]) == [
        "kernel: 2.0 / 2.0 / 2.0 us, 1020 GB/s, floor 1.0 us, 2.0 x",
        "PyTorch: 8.0 / 8.0 / 8.0 us, 255 GB/s, floor 1.0 us, 8.0 x",
    ]
    matrix_bound = Load(moved=1_000, matrix_flop=312_000_000, vector_flop=0)
    assert "156.0 TFLOP/s, floor 1.0 us" in describe(seconds, load=matrix_bound, peak=PEAKS["A100"])[0]
    assert describe(seconds, load=bytes_bound, peak=None)[0].endswith("GB/s, floor unknown for this board")


def test_pytest_benchmark_keeps_the_times(tmp_path):
    """In a pytest of its own: nothing of it belongs into the report of these tests."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "from benchmarks.kernels.report import CLOCK, keep\n"
        "from benchmarks.peaks import Load\n"
        "@pytest.mark.benchmark(timer=CLOCK)\n"
        "def test_it(benchmark):\n"
        "    times = {'kernel': [1e-6, 2e-6, 6e-6], 'PyTorch': [4e-6] * 3}\n"
        "    keep(benchmark, times, load=Load(moved=7), peak=None)\n"
    )
    done = _pytest(tmp_path, "-q", "--benchmark-json", tmp_path / "times.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = json.loads((tmp_path / "times.json").read_text())["benchmarks"]
    assert kept["stats"]["median"] == pytest.approx(2e-6)
    assert kept["stats"]["rounds"] == 3
    assert kept["extra_info"]["PyTorch"] == {"p20": 4e-6, "p50": 4e-6, "p80": 4e-6}
    assert kept["extra_info"]["load"]["moved"] == 7


def test_cases_are_every_shape_with_every_dtype():
    found = cases()
    names = [str(case) for case in found]
    assert len(set(names)) == len(names)
    for spec in kernel_specs():
        dtypes = {str(case).rsplit(", ", 1)[1] for case in found if case.shape.kernel == spec.name}
        assert dtypes == (set() if spec.name not in {case.shape.kernel for case in found} else set(spec.admits["T"]))


def test_every_case_has_a_tolerance():
    assert {(case.shape.kernel, case.dtype) for case in cases()} <= TOLERANCES.keys()


@pytest.mark.parametrize("case", [case for case in cases() if case.dtype == torch.bfloat16], ids=str)
def test_references_of_cases_compute_on_any_device(case):
    """On tensors without numbers: shapes and dtypes of results are those of the truth."""
    with torch.inference_mode():
        rounded, exact = (case.shape.make(Draw("meta", case.dtype, exact=exact)) for exact in (False, True))
        results = [call.run(call.reference) for call in (rounded, exact)]
        assert [each.shape for each in results[0]] == [each.shape for each in results[1]]
        for rival in rounded.rivals.values():
            rival()


def test_draws_repeat_whatever_the_dtype():
    half, exact = (Draw("cpu", torch.float16, exact=exact) for exact in (False, True))
    assert torch.equal(half.normal(3, 4).double(), exact.normal(3, 4))
    assert torch.equal(half.shares(5).double(), exact.shares(5))
    whole = [draw.integers(9, end=200, dtype=torch.uint8) for draw in (half, exact)]
    assert torch.equal(*whole)
    assert whole[0].dtype == torch.uint8
