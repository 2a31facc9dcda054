"""The CUDA back end from a plan to maps: engines by the project's own builder, real cubins, one graph per shape."""

from __future__ import annotations

import numpy as np
import pytest
import simulated_tensorrt

from tests.simulated_cuda.engines import plan_with_engines
from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of, relative_error
from uperfuse.engine.flairhub import dates_key

BATCHES, DATES = (1, 2), (4, 8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def build(cuda, plans, tmp_path):
    """Build a small network's plan with engines: `build("all", precision="fp16")`."""
    simulated_tensorrt.configure(version="10.3.0")

    def make(name, **settings):
        settings = {"precision": "float32", "batches": BATCHES, "dates": DATES} | settings
        return plan_with_engines(plans(name)[0], tmp_path / f"{name}.plan", **settings)

    return make


def tiles_of(engine, *, count=1, dates=5, names=None):
    """Random tiles of some modalities, every one another."""
    tiles = {}
    for index in range(count):
        one = check_tiles_of(engine.manifest, seed=40 + index, dates=dates + index % 2)
        for name, values in one.items():
            if names is None or name in {*names, *map(dates_key, names)}:
                tiles.setdefault(name, []).append(values[0])
    return {name: np.stack(values) if values[0].ndim == 3 else values for name, values in tiles.items()}


def assert_same(got, truth, *, tolerance=2e-5, equal=0.999):
    assert set(got.labels) == set(truth.labels)
    for task, labels in truth.labels.items():
        if truth.logits:
            assert relative_error(got.logits[task], truth.logits[task]) < tolerance
        assert (got.labels[task] == labels).mean() >= equal
        assert np.abs(got.confidence[task].astype(int) - truth.confidence[task]).max() <= 1


def test_a_plan_of_one_image(build, cuda):
    path = build("aerial")
    with Engine.load(path, device="cuda") as gpu, Engine.load(path, device="cpu", precision="float32") as cpu:
        tiles = tiles_of(gpu, count=3)
        assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))
        print(gpu.describe())
