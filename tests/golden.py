"""Golden cases as checkpoints: the public reference's outputs for deterministic weights and inputs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from safetensors.numpy import save_file


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
