"""Logits of the public reference, for deterministic weights and inputs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from uperfuse.engine.flairhub import dates_key
from uperfuse.trainer.network import NetworkSpec, UPerFuse
from uperfuse.trainer.network.reading import read_spec

CASES = [
    "lc-a_convnextv2-tiny",
    "lc-a_swin-tiny",
    "lc-all_swin-tiny",
    "lc-b_swin-tiny",
    "lc-f_swin-base",
    "lc-f_swin-tiny",
    "lc-f_swin-tiny_768",
    "lc-g_utae",
    "lc-h_utae",
    "lc-l_swin-base",
    "lpis-i_swin-tiny",
    "multitask-lc-lpis_swin-tiny",
]
STRIDE_PX = 8
MAX_RELATIVE_ERROR = 1e-4
MIN_ARGMAX_EQUAL = 0.9999


@pytest.fixture(scope="module")
def recipe(shared: Path):
    """The module that draws weights and inputs."""
    spec = importlib.util.spec_from_file_location("golden_recipe", shared / "golden" / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes_of(case):
    return {key: tuple(shape) for key, shape in case["state_dict"].items()}


def tile_px_of(case):
    return {name: each["size_px"] for name, each in case["modalities"].items()}


@pytest.mark.parametrize("name", CASES)
def test_logits_of_the_reference(name, recipe):
    case, expected = recipe.load(name)
    network = UPerFuse(read_spec(shapes_of(case), tile_px=tile_px_of(case))).eval()
    weights = {key: torch.from_numpy(np.asarray(recipe.fill(key, shape))) for key, shape in shapes_of(case).items()}
    network.load_state_dict(weights, strict=True)
    arrays = {key: torch.from_numpy(array) for key, array in recipe.inputs(case).items()}
    inputs = {key: arrays[key] for key in case["modalities"]}
    days = {key: arrays[dates_key(key)] for key in inputs if key.endswith("_TS")}
    with torch.inference_mode():
        logits = network(inputs, days, output_px=(case["tile_px"],) * 2)
    assert list(logits) == list(case["tasks"])
    for task, result in logits.items():
        (sparse,) = (array for key, array in expected.items() if task in key and array.ndim == 3)
        (labels,) = (array for key, array in expected.items() if task in key and array.ndim == 2)
        got = result[0].numpy()
        error = np.linalg.norm(got[:, ::STRIDE_PX, ::STRIDE_PX] - sparse) / np.linalg.norm(sparse)
        assert error <= MAX_RELATIVE_ERROR
        assert (got.argmax(0) == labels).mean() >= MIN_ARGMAX_EQUAL


@pytest.mark.parametrize("name", CASES)
def test_shapes_tell_what_the_names_say(name, shared):
    case = json.loads((shared / "golden" / f"{name}.json").read_text())
    sizes = {key: (each["channels"], each["size_px"]) for key, each in case["modalities"].items()}
    described = NetworkSpec.flairhub(
        modalities=sizes, tasks=case["tasks"], encoder=case["encoder"], decoder=case["decoder"], aux=case["aux_loss"]
    )
    assert read_spec(shapes_of(case), tile_px=tile_px_of(case)) == described
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in UPerFuse(described).state_dict().items()}
    assert ours == shapes_of(case)


def test_every_case_of_the_folder_is_held(shared):
    assert sorted(path.stem for path in (shared / "golden").glob("*.json")) == CASES
