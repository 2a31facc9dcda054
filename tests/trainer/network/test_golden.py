"""Logits of the public reference, for deterministic weights and inputs."""

import json

import pytest
import torch

from tests.golden import assert_logits, network
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


def shapes_of(case):
    return {key: tuple(shape) for key, shape in case["state_dict"].items()}


def tile_px_of(case):
    return {name: each["size_px"] for name, each in case["modalities"].items()}


@pytest.mark.parametrize("name", CASES)
def test_logits_of_the_reference(name, shared):
    assert_logits(shared, name, network(shared, name))


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
