"""The one option that the project adds to pytest."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--benchmark`, which pytest-benchmark does not have."""
    parser.addoption("--benchmark", action="store_true", help="with benchmarks/kernels: time the kernels on this GPU")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to run tests where times were asked for."""
    if config.getoption("--benchmark") and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        raise pytest.UsageError(
            "--benchmark times kernels and runs no tests; use pytest benchmarks/kernels --benchmark"
        )
