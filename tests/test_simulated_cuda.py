"""Runs each file of `simulated_cuda/suite` in a process of its own, whose CUDA driver is the simulated one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.simulated_cuda.build import LIBRARY, SITE, environment

TIMEOUT_S = 1800
SUITE = sorted((ROOT / "tests" / "simulated_cuda" / "suite").glob("test_*.py"))


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[subprocess.CompletedProcess[str]]]]:
    """The files that were asked for, two at a time: each keeps one core busy most of the time."""
    asked = [
        item.callspec.params["file"] for item in request.session.items if "file" in getattr(item, "fixturenames", ())
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {file: pool.submit(run, file) for file in asked if file in SUITE}


def run(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", str(file), "-q", "--no-header", "-p", "no:cacheprovider"]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated driver is built on Linux alone")
@pytest.mark.parametrize("file", SUITE, ids=lambda file: file.stem)
def test_on_the_simulated_driver(file: Path, runs: dict[Path, Future[subprocess.CompletedProcess[str]]]) -> None:
    assert LIBRARY.exists(), "the simulated driver is not built; run make test, which builds it"
    assert SITE.exists(), "PyCUDA is not built; run make test, which builds it"
    done = runs[file].result()
    assert done.returncode == 0, f"{file.name} failed on the simulated driver:\n{(done.stdout + done.stderr)[-12000:]}"


def test_the_main_run_collects_nothing_of_the_suite(request: pytest.FixtureRequest) -> None:
    assert SUITE
    assert not [item for item in request.session.items if item.path in SUITE]
