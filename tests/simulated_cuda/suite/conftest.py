"""What tests on the simulated driver may use. Each file runs in a process of its own: see `test_simulated_cuda.py`."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.simulated_cuda import control


@pytest.fixture(scope="session", autouse=True)
def frozen() -> None:
    """What is imported by now is not searched for garbage after every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def cuda() -> Iterator[ModuleType]:
    """The simulation, as if the process had just begun; after the test nothing is wrong and nothing is left."""
    control.reset()
    yield control
    gc.collect()
    control.assert_clean()


@pytest.fixture
def gpu(cuda: ModuleType, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """`pycuda.driver` with the primary context current on this thread; what fixtures made in it goes before it."""
    import pycuda.driver as driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield driver
    request.node.funcargs.clear()
    gc.collect()
    context.detach()
