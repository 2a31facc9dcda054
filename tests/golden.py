"""Golden cases as checkpoints: the public reference's outputs for deterministic weights and inputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.numpy import save_file

from tests.plan_cache import cached_plan
from uperfuse.engine.flairhub import dates_key
from uperfuse.trainer.network import UPerFuse
from uperfuse.trainer.network.reading import read_spec

STRIDE_PX = 8
MAX_RELATIVE_ERROR = 1e-4
MIN_ARGMAX_EQUAL = 0.9999


def recipe(shared: Path) -> ModuleType:
    """The module that makes weights and inputs."""
    spec = importlib.util.spec_from_file_location("golden_recipe", shared / "golden" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkpoint(shared: Path, case: str, path: Path) -> dict:
    """Write the golden case's weights to `path` as a published checkpoint would be; return its description."""
    maker = recipe(shared)
    description, _ = maker.load(case)
    weights = {f"model.{key}": maker.fill(key, tuple(shape)) for key, shape in description["state_dict"].items()}
    save_file(weights, path)
    return description


def raw(description: dict) -> dict:
    """A configuration under which a plan takes inputs that are normalised already."""
    modalities = {}
    for name, entry in description["modalities"].items():
        if "dates" not in entry:
            bands = [f"band{place}" for place in range(entry["channels"])]
            modalities[name] = {"bands": bands, "dtype": "float32"}
        elif name == "SENTINEL2_TS":
            modalities[name] = {"dtype": "float32"}
    return {"modalities": modalities}


def plan(shared: Path, case: str) -> Path:
    """The golden case's network as a plan that takes inputs which are normalised already; exported once."""
    from uperfuse.trainer.export import ExportConfig, export_checkpoint

    def export(path: Path) -> None:
        weights = path.with_suffix(".safetensors")
        try:
            said = ExportConfig.model_validate(raw(checkpoint(shared, case, weights)))
            export_checkpoint(weights, out=path, config=said, name=case)
        finally:
            weights.unlink(missing_ok=True)

    return cached_plan(case, export, made_from=(shared / "golden" / f"{case}.json").read_text(encoding="utf-8"))


def network(shared: Path, case: str) -> UPerFuse:
    """The golden case's network with its weights, read as from a published file."""
    maker = recipe(shared)
    description, _ = maker.load(case)
    shapes = {key: tuple(shape) for key, shape in description["state_dict"].items()}
    tile_px = {name: each["size_px"] for name, each in description["modalities"].items()}
    made = UPerFuse(read_spec(shapes, tile_px=tile_px)).eval()
    weights = {key: torch.from_numpy(np.asarray(maker.fill(key, shape))) for key, shape in shapes.items()}
    made.load_state_dict(weights, strict=True)
    return made


def assert_logits(shared: Path, case: str, made: UPerFuse) -> None:
    """Check a network's logits for the golden case's inputs against the public reference's."""
    maker = recipe(shared)
    description, expected = maker.load(case)
    arrays = {key: torch.from_numpy(array) for key, array in maker.inputs(description).items()}
    inputs = {key: arrays[key] for key in description["modalities"]}
    days = {key: arrays[dates_key(key)] for key in inputs if key.endswith("_TS")}
    with torch.inference_mode():
        logits = made(inputs, days, output_px=(description["tile_px"],) * 2)
    assert list(logits) == list(description["tasks"])
    for task, result in logits.items():
        (sparse,) = (array for key, array in expected.items() if task in key and array.ndim == 3)
        (labels,) = (array for key, array in expected.items() if task in key and array.ndim == 2)
        got = result[0].numpy()
        error = np.linalg.norm(got[:, ::STRIDE_PX, ::STRIDE_PX] - sparse) / np.linalg.norm(sparse)
        assert error <= MAX_RELATIVE_ERROR
        assert (got.argmax(0) == labels).mean() >= MIN_ARGMAX_EQUAL
