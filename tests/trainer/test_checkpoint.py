"""Weights in and out: every key accounted for, and nothing but a `CheckpointError` for those that do not fit."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.checkpoint import load_checkpoint, save_checkpoint
from uperfuse.trainer.description import ExportConfig

MODALITIES = ("AERIAL_RGBI", "SENTINEL2_TS")
TILE_PX = {"AERIAL_RGBI": 64}
HEAD = "main_decoders.AERIAL_LABEL-COSIA.seg_model.segmentation_head.0.weight"


@pytest.fixture(scope="module")
def network(spec_of, network_of):
    return network_of(spec_of(*MODALITIES, aux=("SENTINEL2_TS",), absent=("SENTINEL2_TS",)), dtype=torch.float32)


@pytest.fixture(scope="module")
def weights(network):
    return {f"model.{key}": value.contiguous() for key, value in network.state_dict().items()}


def refused(weights, path, **settings):
    """The message with which a file of these weights is refused."""
    save_file(weights, str(path))
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(path, **settings)
    return str(error.value)


def test_what_was_saved_is_loaded(network, tiles_of, tmp_path):
    path = tmp_path / "network.safetensors"
    save_checkpoint(network, path)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert all(key.startswith("model.") for key in load_file(path))
    loaded = load_checkpoint(path, tile_px=TILE_PX)
    assert loaded.notes == ()
    assert not loaded.network.training
    batch = tiles_of(network.spec)
    inputs, days = ({key: value.float() for key, value in part.items()} for part in (batch.inputs, batch.days))
    with torch.no_grad():
        want, got = (each(inputs, days, batch.masks) for each in (network, loaded.network))
    assert torch.equal(got["AERIAL_LABEL-COSIA"], want["AERIAL_LABEL-COSIA"])


def test_keys_may_stand_without_prefix_and_beside_those_of_the_loss(weights, tmp_path):
    bare = {key.removeprefix("model."): value for key, value in weights.items()}
    save_file(bare | {"criterion.weight": torch.ones(19)}, str(tmp_path / "bare.safetensors"))
    save_file(weights | {"model.criterion.A.weight": torch.ones(19)}, str(tmp_path / "full.safetensors"))
    for name, key in (("bare", "criterion.weight"), ("full", "model.criterion.A.weight")):
        loaded = load_checkpoint(tmp_path / f"{name}.safetensors", tile_px=TILE_PX)
        assert len(loaded.notes) == 1
        assert key in loaded.notes[0]
        assert torch.equal(loaded.network.state_dict()[HEAD], weights[f"model.{HEAD}"])


def test_other_precisions_are_noted(weights, tmp_path):
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    save_file(half, str(tmp_path / "half.safetensors"))
    loaded = load_checkpoint(tmp_path / "half.safetensors", tile_px=TILE_PX)
    assert "another precision" in loaded.notes[0]
    assert torch.equal(loaded.network.state_dict()[HEAD], half[f"model.{HEAD}"].float())


def test_every_fault_is_listed(weights, tmp_path):
    wrong = dict(weights)
    missing = ["model.encoders.SENTINEL2_TS.in_conv.conv.conv.0.bias", "model.fusion_handler.conv_f.2.bias"]
    for key in missing:
        del wrong[key]
    wrong["model.encoders.AERIAL_RGBI.seg_model.model.norm.weight"] = torch.ones(64)
    wrong["stray"] = torch.ones(3)
    wrong["model.fusion_handler.conv_f.1.weight"] = torch.ones(16, 33, 1, 1)
    wrong["model.fusion_handler.conv_f.0.bias"] = torch.full((8,), float("nan"))
    wrong["model.fusion_handler.conv_f.3.bias"] = torch.ones(64, dtype=torch.int64)
    message = refused(wrong, tmp_path / "wrong.safetensors", tile_px=TILE_PX)
    assert "mend 7 keys" in message
    for line in (
        *(f"{key.removeprefix('model.')} is missing" for key in missing),
        "encoders.AERIAL_RGBI.seg_model.model.norm.weight is extra, got [64]",
        "stray is extra, got [3]",
        "fusion_handler.conv_f.1.weight has shape [16, 33, 1, 1], expected [16, 32, 1, 1]",
        "fusion_handler.conv_f.0.bias holds values that are not finite",
        "fusion_handler.conv_f.3.bias holds torch.int64",
    ):
        assert line in message


def test_keys_that_tell_the_network_are_named_together(weights, tmp_path):
    wrong = dict(weights)
    del wrong["model.encoders.AERIAL_RGBI.seg_model.model.patch_embed.proj.weight"]
    wrong["model.encoders.SENTINEL2_TS.temporal_encoder.attention_heads.Q"] = torch.ones(4)
    message = refused(wrong, tmp_path / "wrong.safetensors", tile_px=TILE_PX)
    assert "patch_embed.proj.weight is missing" in message
    assert "attention_heads.Q has shape [4], expected 2 axes" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: {}, "no key begins with encoders"),
        (lambda w: {key.replace("AERIAL_RGBI", "LIDAR"): value for key, value in w.items()}, "LIDAR"),
        (lambda w: w | {HEAD: w[f"model.{HEAD}"].clone()}, "with and without"),
        (lambda w: w | {f"model.{HEAD}": torch.zeros(0, 12, 1, 1)}, "none empty"),
        (lambda w: {key: value for key, value in w.items() if "main_decoders" not in key}, "no task"),
        (lambda w: w | {"model.absent.DEM_ELEV.0": torch.ones(8)}, "absent names"),
        (lambda w: w | {"model.encoders.SENTINEL2_TS.up_blocks.0.up.0.weight": torch.ones(16, 16, 4, 4)}, "strides"),
        (
            lambda w: (
                w
                | {
                    "model.encoders.AERIAL_RGBI.seg_model.model.layers_0.blocks.0.attn.relative_position_bias_table": (
                        torch.ones(48, 1)
                    )
                }
            ),
            "square window",
        ),
        # would need terabytes, and is refused without taking them
        (
            lambda w: (
                w | {"model.encoders.AERIAL_RGBI.seg_model.model.patch_embed.proj.weight": torch.ones(99, 10**6, 1, 1)}
            ),
            "double",
        ),
        (
            lambda w: (
                w | {"model.encoders.AERIAL_RGBI.seg_model.model.layers_0.blocks.10000000.norm1.bias": torch.ones(8)}
            ),
            "is missing",
        ),
    ],
)
def test_weights_of_no_network_are_refused(change, words, weights, tmp_path):
    assert words in refused(change(weights), tmp_path / "wrong.safetensors", tile_px=TILE_PX)


def test_files_that_cannot_be_read_are_refused(weights, tmp_path):
    path = tmp_path / "network.safetensors"
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path)
    save_file(weights, str(path))
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", whole[: len(whole) // 2], whole[:5]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_checkpoint(path)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_weights_make_the_network_they_describe_or_a_checkpoint_error(data, weights, tmp_path):
    mutated = dict(weights)
    for _ in range(data.draw(st.integers(1, 3))):
        key = data.draw(st.sampled_from(sorted(mutated)))
        kind = data.draw(st.sampled_from(["drop", "reshape", "rename", "scale"]))
        value = mutated.pop(key)
        if kind == "reshape":
            mutated[key] = torch.ones(data.draw(st.lists(st.integers(0, 40), max_size=3)))
        elif kind == "scale":
            mutated[key] = torch.ones([side * data.draw(st.integers(1, 3)) for side in value.shape])
        elif kind == "rename":
            mutated["model." + data.draw(st.text(max_size=5)) + key[data.draw(st.integers(0, len(key))) :]] = value
    save_file(mutated, str(tmp_path / "mutated.safetensors"))
    try:
        loaded = load_checkpoint(tmp_path / "mutated.safetensors", tile_px=TILE_PX)
    except CheckpointError:
        return
    got = {f"model.{key}": value.shape for key, value in loaded.network.state_dict().items()}
    assert got == {key: value.shape for key, value in mutated.items()}


def test_a_file_says_what_its_shapes_cannot_tell(network, tmp_path):
    path = tmp_path / "network.safetensors"
    said = ExportConfig.model_validate(
        {
            "modalities": {
                "AERIAL_RGBI": {"bands": ["R", "G", "B"], "tile_px": 64},
                "SENTINEL2_TS": {"filter": None},
            }
        }
    )
    save_checkpoint(network, path, said=said)
    loaded = load_checkpoint(path)
    assert loaded.said == said
    assert "filter" in loaded.said.modalities["SENTINEL2_TS"].model_fields_set
    assert loaded.network.spec.images[0].tile_px == 64


def test_words_of_a_version_to_come_are_refused(weights, tmp_path):
    save_file(weights, str(tmp_path / "new.safetensors"), metadata={"uperfuse": '{"colours": 3}'})
    with pytest.raises(CheckpointError, match="does not know"):
        load_checkpoint(tmp_path / "new.safetensors")
