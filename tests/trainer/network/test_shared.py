"""One encoder for several images: its weights are there once, and every image that shares it learns them."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.trainer.conftest import small_spec
from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.checkpoint import load_checkpoint, save_checkpoint
from uperfuse.trainer.network import BackboneSpec, NetworkSpec, UPerFuse
from uperfuse.trainer.network.images import STEM
from uperfuse.trainer.network.reading import read_spec

COVER = "AERIAL_LABEL-COSIA"
IMAGES = ("AERIAL_RGBI", "DEM_ELEV", "SPOT_RGBI")
LENDER, *SHARED = IMAGES
SIDES = {"AERIAL_RGBI": 64, "DEM_ELEV": 64, "SPOT_RGBI": 32}
BACKBONE = BackboneSpec("convnextv2", (8, 16, 24, 32), (1, 1, 1, 1))
UNET = (256, 128, 64, 32, 16)


def shared_spec(**settings) -> NetworkSpec:
    given = {"aux": IMAGES, "absent": (*IMAGES, "SENTINEL2_TS"), "shared": tuple(SHARED), "unet_channels": UNET}
    return small_spec(*IMAGES, "SENTINEL2_TS", backbone=BACKBONE, **(given | settings))


@pytest.fixture(scope="module")
def network(network_of):
    return network_of(shared_spec())


@pytest.fixture(scope="module")
def copies(network):
    """The same network with encoders of its own for every image, whose stages are copies."""
    unshared = UPerFuse(shared_spec(shared=())).double().eval()
    weights = network.state_dict()
    for key in unshared.state_dict():
        name, _, rest = key.removeprefix("encoders.").partition(".")
        if key not in weights:
            assert name in SHARED
            weights[key] = weights[f"encoders.{LENDER}.{rest}"]
    unshared.load_state_dict(weights, strict=True)
    return unshared


def given(batch, *left_out):
    parts = vars(batch).values()
    return tuple({name: each for name, each in part.items() if name not in left_out} for part in parts)


def test_every_weight_is_there_once(network, copies):
    names = network.state_dict().keys()
    for modality in SHARED:
        stem = [f"encoders.{modality}.seg_model.model.{STEM}{layer}" for layer in ("0.weight", "0.bias", "1.weight")]
        assert set(stem) <= names
        assert len([name for name in names if name.startswith(f"encoders.{modality}.")]) == 4
    parameters = dict(network.named_parameters(remove_duplicate=False))
    assert len({id(each) for each in parameters.values()}) == len(parameters)
    stages = [each for name, each in parameters.items() if f"{LENDER}.seg_model.model.stages_" in name]
    total = sum(each.numel() for each in copies.parameters()) - sum(each.numel() for each in network.parameters())
    assert total == len(SHARED) * sum(each.numel() for each in stages)


@pytest.mark.parametrize("left_out", [(), ("AERIAL_RGBI",), ("SPOT_RGBI", "SENTINEL2_TS")], ids=str)
def test_it_gives_what_copies_of_the_encoder_give(network, copies, tiles_of, left_out):
    inputs, days, masks = given(tiles_of(network.spec), *left_out)
    present = {name: torch.tensor([True, False]) for name in inputs if name in (LENDER, "SPOT_RGBI")}
    with torch.no_grad():
        got, want = (each(inputs, days, masks, present=present, aux=True) for each in (network, copies))
    assert got.keys() == want.keys()
    assert len(want) == 1 + len([name for name in IMAGES if name in inputs])
    for name in want:
        torch.testing.assert_close(got[name], want[name], rtol=1e-12, atol=1e-12)


def test_gradients_of_every_sensor_meet_in_the_stages(network, copies, tiles_of):
    """Of the shared stages they are the sums of those of the copies; of the stems their own."""
    inputs, days, masks = given(tiles_of(network.spec))
    found = []
    for each in (network, copies):
        parameters = dict(each.named_parameters())
        loss = each(inputs, days, masks)[COVER].square().sum()
        gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
        found.append(dict(zip(parameters, gradients, strict=True)))
    shared, apart = found
    stages = [name for name in shared if f"{LENDER}.seg_model.model.stages_" in name]
    for name in stages:
        parts = [apart[name.replace(LENDER, modality)] for modality in IMAGES]
        assert all(part.abs().sum() > 0 for part in parts)
        torch.testing.assert_close(shared[name], sum(parts), rtol=1e-9, atol=1e-9)
    for name in shared.keys() - {*stages}:
        if shared[name] is not None:
            torch.testing.assert_close(shared[name], apart[name], rtol=1e-9, atol=1e-9)


def test_a_deep_copy_shares_within_itself(network, tiles_of):
    """As the moving average is one."""
    average = copy.deepcopy(network)
    assert not {id(each) for each in network.parameters()} & {id(each) for each in average.parameters()}
    batch = given(tiles_of(network.spec))
    with torch.no_grad():
        before = average(*batch)[COVER]
        average.encoders[LENDER].seg_model.model["stages_3"].blocks[0].mlp.fc2.bias.add_(1.0)
        maps = [average.encode_image(name, batch[0][name])[3] for name in IMAGES]
        others = [network.encode_image(name, batch[0][name])[3] for name in IMAGES]
        assert torch.equal(network(*batch)[COVER], before)
    for changed, other in zip(maps, others, strict=True):
        torch.testing.assert_close(changed, other + 1.0)


def test_a_checkpoint_holds_and_tells_it(network, tiles_of, tmp_path):
    path = tmp_path / "shared.safetensors"
    single = copy.deepcopy(network).float()
    save_checkpoint(single, path)
    loaded = load_checkpoint(path, tile_px=SIDES)
    assert loaded.network.spec == network.spec
    weights = loaded.network.state_dict()
    assert weights.keys() == network.state_dict().keys() == {key.removeprefix("model.") for key in load_file(path)}
    assert all(torch.equal(weights[name], value) for name, value in single.state_dict().items())


def test_it_is_told_from_its_shapes_alone(network, copies):
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert read_spec(shapes, tile_px=SIDES) == network.spec
    one = shared_spec(shared=("SPOT_RGBI",))
    shapes = {name: tuple(value.shape) for name, value in UPerFuse(one).state_dict().items()}
    assert read_spec(shapes, tile_px=SIDES) == one
    shapes = {name: tuple(value.shape) for name, value in copies.state_dict().items()}
    assert read_spec(shapes, tile_px=SIDES) == replace(network.spec, shared=())


def test_weights_that_share_with_nobody_are_refused(network, tmp_path):
    weights = {name: value.float() for name, value in network.state_dict().items()}
    path = tmp_path / "x.safetensors"
    root = f"encoders.{LENDER}.seg_model.model.stages_"
    for lacking, words in (
        (root, f"{root}1.downsample.1.weight is missing"),
        (f"{root}3.blocks.0.norm", f"{root}3.blocks.0.norm.weight is missing"),
        ("encoders.SPOT_RGBI.seg_model.model.stem_1", "SPOT_RGBI.seg_model.model.stem_1.weight is missing"),
    ):
        save_file({name: value for name, value in weights.items() if not name.startswith(lacking)}, path)
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path, tile_px=SIDES)
        assert str(error.value).count(words) == 1
    wide = {"encoders.SPOT_RGBI.seg_model.model.stem_0.weight": torch.ones(9, 3, 4, 4)}
    save_file(weights | wide, path)
    with pytest.raises(CheckpointError, match=r"SPOT_RGBI.*stem_0.weight has shape \[9, 3, 4, 4\], expected \[8,"):
        load_checkpoint(path, tile_px=SIDES)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shared": ("AERIAL_RGBI",)}, r"shared names \['AERIAL_RGBI'\]; an encoder is the first image's"),
        ({"shared": ("SENTINEL2_TS", "SPOT_RGBI")}, r"shared names \['SENTINEL2_TS'\].*'DEM_ELEV', 'SPOT_RGBI'\]"),
        ({"shared": ("AERIAL-RLT_PAN",)}, r"shared names \['AERIAL-RLT_PAN'\]"),
    ],
)
def test_what_cannot_be_shared_is_refused(settings, words):
    with pytest.raises(CheckpointError, match=words):
        shared_spec(**settings)


def test_backbones_that_cannot_be_shared_are_refused(spec_of):
    with pytest.raises(CheckpointError, match=r"cannot share AERIAL_RGBI's Swin encoder.*use a ConvNeXt V2 encoder"):
        spec_of("AERIAL_RGBI", "SPOT_RGBI", shared=("SPOT_RGBI",))
    spec = shared_spec()
    other = replace(spec.images[2], backbone=replace(BACKBONE, depths=(1, 1, 2, 1)))
    with pytest.raises(CheckpointError, match=r"cannot share AERIAL_RGBI's encoder .* give both the same one"):
        replace(spec, images=(*spec.images[:2], other))
    made = NetworkSpec.flairhub(
        modalities={"AERIAL_RGBI": (4, 512), "SPOT_RGBI": (3, 64)},
        tasks={COVER: 19},
        encoder="convnextv2_atto",
        shared=("SPOT_RGBI",),
    )
    assert made.shared == ("SPOT_RGBI",)
