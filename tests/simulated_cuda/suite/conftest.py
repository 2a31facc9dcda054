"""What tests on the simulated driver may use. Each file runs in a process of its own: see `test_simulated_cuda.py`."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.simulated_cuda import control


@pytest.fixture
def cuda() -> Iterator[ModuleType]:
    """The simulation, as if the process had just begun; after the test nothing is wrong and nothing is left.

    What was there before the test, modules above all, is not searched for garbage after it.
    """
    control.reset()
    gc.freeze()
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


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Caches and keys of a user who arrived with the first test."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        live_in(folder, patch)
        yield folder


def live_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Keep caches and keys in a folder."""
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))


@pytest.fixture
def build(cuda: ModuleType, plans: Callable[..., tuple[Path, object]], home: Path) -> Callable[..., Path]:
    """A small network's plan with engines, built once: `build("all", precision="fp16")`."""
    import simulated_tensorrt

    from tests.simulated_cuda.engines import plan_with_engines

    simulated_tensorrt.configure(version="10.3.0")

    def make(name: str, **settings: object) -> Path:
        asked = {"precision": "float32", "batches": (1, 2), "dates": (4, 8)} | settings
        file = name + "".join(f"-{value}" for value in asked.values()).translate(str.maketrans("(), ", "____"))
        # whoever asks first, it is this user who builds and signs
        with pytest.MonkeyPatch.context() as patch:
            live_in(home, patch)
            return plan_with_engines(plans(name)[0], home / f"{file}.plan", **asked)

    return make
