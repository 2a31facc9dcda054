"""The one option that the project adds to pytest."""

from __future__ import annotations

import os

import pytest

_INTERPRETED = os.environ.get("TRITON_INTERPRET")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--benchmark`, which pytest-benchmark does not have."""
    parser.addoption(
        "--benchmark", action="store_true", help="time small cases and, on a GPU, kernels; without a path, all of them"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Time benchmarks where times were asked for and no path was, and run no test."""
    if not config.getoption("--benchmark") or config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    config.args = [str(config.rootpath / "benchmarks")]
    # pytest has read the tests' conftest.py by now, which has Triton's interpreter run kernels: it has no times
    os.environ.pop("TRITON_INTERPRET", None)
    if _INTERPRETED is not None:
        os.environ["TRITON_INTERPRET"] = _INTERPRETED
