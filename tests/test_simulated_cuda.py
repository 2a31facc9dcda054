"""Runs each file of `simulated_cuda/suite` in a process of its own, whose CUDA driver is the simulated one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.simulated_cuda.build import LIBRARY, SITE, environment

SUITE = sorted((ROOT / "tests" / "simulated_cuda" / "suite").glob("test_*.py"))


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated driver is built on Linux alone")
@pytest.mark.parametrize("file", SUITE, ids=lambda file: file.stem)
def test_on_the_simulated_driver(file: Path) -> None:
    assert LIBRARY.exists(), "the simulated driver is not built; run make test, which builds it"
    assert SITE.exists(), "PyCUDA is not built; run make test, which builds it"
    command = [sys.executable, "-m", "pytest", str(file), "-q", "--no-header", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, f"{file.name} failed on the simulated driver:\n{(done.stdout + done.stderr)[-12000:]}"


def test_the_main_run_collects_nothing_of_the_suite(request: pytest.FixtureRequest) -> None:
    assert SUITE
    assert not [item for item in request.session.items if item.path in SUITE]
