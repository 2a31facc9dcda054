"""Where weights begin: another network's, with sensors and classes that come and go, or timm's."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file

from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.checkpoint import load_checkpoint, save_checkpoint
from uperfuse.trainer.network import BackboneSpec, UPerFuse
from uperfuse.trainer.training import TrainConfig, adopt, begin, build, read_config

COVER = "AERIAL_LABEL-COSIA"


def maps(network, batch):
    given = ({name: value for name, value in part.items() if name in network.spec.modalities} for part in batch)
    with torch.no_grad():
        return network(*given)


def tiles(tiles_of, spec):
    batch = tiles_of(spec)
    return batch.inputs, batch.days, batch.masks


@pytest.mark.parametrize("before", [("AERIAL_RGBI",), ("AERIAL_RGBI", "SENTINEL2_TS")])
def test_a_sensor_joins_without_changing_what_is_known(spec_of, network_of, tiles_of, before):
    old = network_of(spec_of(*before))
    spec = spec_of("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", absent=("DEM_ELEV",))
    network = UPerFuse(spec).double().eval()
    lines = adopt(network, old)
    batch = tiles(tiles_of, spec)
    torch.testing.assert_close(maps(network, batch)[COVER], maps(old, batch)[COVER], rtol=1e-9, atol=1e-9)
    assert any(line.startswith("joins the fusion with weights of 0: DEM_ELEV") for line in lines)
    assert any("encoders.DEM_ELEV" in line and line.startswith("new") for line in lines)
    # and it can learn: the fusion's new weights have a gradient
    network(batch[0], batch[1], batch[2])[COVER].sum().backward()
    assert network.fusion_handler["conv_f"][0].weight.grad[:, 8:].abs().sum() > 0


def test_a_sensor_leaves_and_is_named(spec_of, network_of):
    old = network_of(spec_of("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS"))
    network = UPerFuse(spec_of("AERIAL_RGBI", "SENTINEL2_TS")).double()
    (line,) = adopt(network, old)
    assert line == "left behind: encoders.DEM_ELEV"
    assert torch.equal(
        network.fusion_handler["conv_f"][1].weight,
        old.fusion_handler["conv_f"][1].weight[:, [*range(16), *range(32, 48)]],
    )


def test_an_image_goes_on_alone_without_the_fusion(spec_of, network_of):
    old = network_of(spec_of("AERIAL_RGBI", "SENTINEL2_TS"))
    network = UPerFuse(spec_of("AERIAL_RGBI")).double()
    lines = adopt(network, old)
    assert lines == [
        "left behind: the fusion, whose work the decoders have to learn",
        "left behind: encoders.SENTINEL2_TS, class scores of SENTINEL2_TS",
    ]
    weights, before = network.state_dict(), old.state_dict()
    same = [key for key in weights if not key.startswith("fusion_handler.")]
    assert all(torch.equal(weights[key], before[key]) for key in same)


def test_own_classes_get_a_new_last_layer_and_keep_the_rest(spec_of, network_of):
    old = network_of(spec_of("AERIAL_RGBI", "SENTINEL2_TS"))
    for tasks in ({COVER: 3}, {"OWN": 3}):
        network = UPerFuse(spec_of("AERIAL_RGBI", "SENTINEL2_TS", tasks=tasks)).double()
        lines = adopt(network, old)
        task = next(iter(tasks))
        assert any(f"last layer of {task}" in line and "class scores of SENTINEL2_TS" in line for line in lines)
        for name, value in network.state_dict().items():
            known = old.state_dict()[name.replace(task, COVER)]
            if "segmentation_head" not in name and "out_conv" not in name:
                assert torch.equal(value, known), name


def test_other_bands_are_refused_and_nothing_is_changed(spec_of, network_of):
    old = network_of(spec_of("AERIAL_RGBI"))
    narrow = spec_of(
        "AERIAL_RGBI", backbone=BackboneSpec("swin", (8, 16, 32, 64), (2, 2, 2, 2), (1, 2, 4, 8), (2,) * 4)
    )
    network = UPerFuse(narrow).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(CheckpointError, match="give both the same bands and encoders"):
        adopt(network, old)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_timms_weights_come_from_a_file(config_of, tmp_path):
    name = "convnextv2_atto"
    torch.manual_seed(3)
    given = timm.create_model(name, pretrained=False)
    save_file(given.state_dict(), str(tmp_path / "atto.safetensors"))
    settings = {"network": {"encoder": name}, "start": {"pretrained": {name: str(tmp_path / "atto.safetensors")}}}
    config = config_of(**settings)
    config = config.model_copy(update={"network": config.network.model_copy(update={"encoder": name})})
    said = []
    network = begin(build(config).spec, config, old=None, say=said.append)
    assert said == [f"encoder of {each}: {name} of timm" for each in ("AERIAL_RGBI", "DEM_ELEV")]
    key = "encoders.DEM_ELEV.seg_model.model.stages_2.blocks.1.mlp.fc1.weight"
    assert torch.equal(network.state_dict()[key], given.state_dict()["stages.2.blocks.1.mlp.fc1.weight"].flatten(1))
    assert network.state_dict()["encoders.DEM_ELEV.seg_model.model.stem_0.weight"].shape[1] == 2
    missing = config.model_copy(
        update={"start": config.start.model_copy(update={"pretrained": {name: tmp_path / "none.safetensors"}})}
    )
    with pytest.raises(CheckpointError, match=r"weights of convnextv2_atto cannot be had from .*none.safetensors"):
        begin(build(missing).spec, missing, old=None)


def test_windows_of_timms_swin_are_fitted(tmp_path):
    name = "swin_tiny_patch4_window7_224"
    given = timm.create_model(name, pretrained=False)
    save_file(
        {key: value.contiguous() for key, value in given.state_dict().items()}, str(tmp_path / "swin.safetensors")
    )
    config = TrainConfig.model_validate(
        {
            "name": "swin",
            "modalities": {"SPOT_RGBI": {}},
            "tasks": {COVER: {}},
            "network": {"encoder": name},
            "start": {"pretrained": {name: str(tmp_path / "swin.safetensors")}},
            "recipe": {"steps": 1},
        }
    )
    network = begin(build(config).spec, config, old=None, say=lambda _: None)
    state = network.state_dict()
    root = "encoders.SPOT_RGBI.seg_model.model.layers_"
    assert torch.equal(
        state[f"{root}1.blocks.0.attn.qkv.weight"], given.state_dict()["layers.1.blocks.0.attn.qkv.weight"]
    )
    # a stage of 2 x 2 pixels has a window of 2, and timm resizes the table of biases
    assert state[f"{root}3.blocks.0.attn.relative_position_bias_table"].shape == (9, 24)
    assert state[f"{root}3.blocks.0.attn.relative_position_bias_table"].abs().sum() > 0


def test_a_checkpoint_says_what_a_configuration_leaves_out(config_of, tmp_path):
    config = config_of()
    built = build(config)
    file = tmp_path / "first.safetensors"
    save_checkpoint(UPerFuse(built.spec), file, said=built.said)
    text = f"name: second\nstart: {{checkpoint: {file.name}}}\nrecipe: {{steps: 1}}\n"
    (tmp_path / "second.yaml").write_text(text)
    again = read_config(tmp_path / "second.yaml")
    assert again.start.checkpoint == file
    second = build(again, start=load_checkpoint(file))
    assert second.spec == built.spec
    assert second.modalities == built.modalities
    assert second.tasks == built.tasks


def test_a_published_name_tells_the_bands(spec_of, network_of, tmp_path):
    file = tmp_path / "FLAIR-HUB_LC-A_RGB_small.safetensors"
    spec = spec_of("AERIAL_RGBI", tasks={COVER: 19})
    save_checkpoint(network_of(spec, dtype=torch.float32), file)
    config = TrainConfig.model_validate({"name": "own", "start": {"checkpoint": str(file)}, "recipe": {"steps": 1}})
    built = build(config, start=load_checkpoint(file, tile_px={"AERIAL_RGBI": 512}))
    assert built.modalities["AERIAL_RGBI"].bands == ("R", "G", "B")
