"""One encoder for several images, from the words of a configuration over a step of training to a plan."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import timm
import torch
import yaml
from safetensors.torch import save_file

from tests.conftest import ROOT
from tests.trainer.conftest import SWIN, small_spec
from uperfuse.engine import Engine
from uperfuse.engine.errors import CheckpointError
from uperfuse.trainer.checkpoint import load_checkpoint, save_checkpoint
from uperfuse.trainer.export import export_checkpoint
from uperfuse.trainer.network import BACKBONES, BackboneSpec, NetworkSpec, UPerFuse
from uperfuse.trainer.training import Machines, TrainConfig, adopt, begin, build, read_config, train

COVER = "AERIAL_LABEL-COSIA"
CPU = Machines(accelerator="cpu")
BACKBONE = BackboneSpec("convnextv2", (8, 16, 24, 32), (1, 1, 1, 1))
ENCODER = {"dims": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
RGB = {"bands": ["R", "G", "B"]}
AERIAL, SPOT = "encoders.AERIAL_RGBI.seg_model.model.", "encoders.SPOT_RGBI.seg_model.model."
STEM, STAGE = "stem_0.weight", "stages_3.blocks.0.mlp.fc1.weight"


def spec_of(*modalities: str, shared: tuple[str, ...] = ()) -> NetworkSpec:
    return small_spec(*modalities, backbone=BACKBONE, shared=shared)


def described(**settings) -> TrainConfig:
    """A training of three images, with other settings on top."""
    shared = {"encoder": "shared"}
    base = {
        "name": "shared",
        "modalities": {"AERIAL_RGBI": RGB, "DEM_ELEV": shared, "SPOT_RGBI": RGB | shared},
        "tasks": {COVER: {}},
        "network": {"encoder": ENCODER, "pyramid_channels": 8, "segmentation_channels": 8},
        "recipe": {"steps": 1},
    }
    return TrainConfig.model_validate(base | settings)


def test_a_step_of_training_moves_the_weights_that_all_share(config_of, tmp_path):
    config = config_of(
        modalities={
            "DEM_ELEV": {"encoder": "shared", "aux": 0.3},
            "SPOT_RGBI": {**RGB, "encoder": "shared", "dropout": 0.3},
        },
        recipe={"steps": 2, "round_steps": 1},
    )
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    config = read_config(tmp_path / "mine.yaml")
    before = begin(build(config).spec, config, old=None).state_dict()
    outcome = train(config, out=tmp_path / "run", machines=CPU, say=lambda _: None)
    loaded = load_checkpoint(outcome.weights)
    assert loaded.network.spec.shared == ("DEM_ELEV", "SPOT_RGBI")
    after = loaded.network.state_dict()
    assert after.keys() == before.keys()
    for name in (f"{AERIAL}{STAGE}", f"{AERIAL}{STEM}", f"{SPOT}{STEM}"):
        assert not torch.equal(after[name], before[name])
    # the file says all that a plan needs, and the export compares it with PyTorch
    export_checkpoint(outcome.weights, out=tmp_path / "mine.plan", tile_px=256)
    with Engine.load(tmp_path / "mine.plan", precision="float32") as engine:
        assert engine.manifest.lenders == dict.fromkeys(
            ("encoder:DEM_ELEV", "encoder:SPOT_RGBI"), "encoder:AERIAL_RGBI"
        )


def test_a_start_keeps_what_it_shares(tmp_path):
    config = described()
    built = build(config)
    assert built.spec.shared == ("DEM_ELEV", "SPOT_RGBI")
    assert {image.backbone for image in built.spec.images} == {BACKBONE}
    file = tmp_path / "first.safetensors"
    first = begin(built.spec, config, old=None)
    save_checkpoint(first, file, said=built.said)
    start = load_checkpoint(file)
    again = described(modalities={}, tasks={}, network=None, start={"checkpoint": str(file)})
    assert build(again, start=start).spec == built.spec
    lines = []
    second = begin(built.spec, again, old=start.network, say=lines.append)
    assert lines == []
    assert all(torch.equal(value, first.state_dict()[name]) for name, value in second.state_dict().items())
    # an encoder that is named is the image's own; where the lender is left out, the next image lends what it had of it
    for modalities, shared in (
        ({"AERIAL_RGBI": {}, "DEM_ELEV": {}, "SPOT_RGBI": {"encoder": ENCODER}}, ("DEM_ELEV",)),
        ({"DEM_ELEV": {}, "SPOT_RGBI": {}}, ("SPOT_RGBI",)),
    ):
        other = described(modalities=modalities, tasks={}, network=None, start={"checkpoint": str(file)})
        spec = build(other, start=start).spec
        assert spec.shared == shared
        assert {image.backbone for image in spec.images} == {BACKBONE}
        weights = begin(spec, other, old=start.network, say=lines.append).state_dict()
        owners = [image.name for image in spec.images if image.name not in shared]
        for name in owners:
            root = f"encoders.{name}.seg_model.model."
            assert torch.equal(weights[f"{root}{STAGE}"], first.state_dict()[f"{AERIAL}{STAGE}"])
        assert torch.equal(weights[f"{SPOT}{STEM}"], first.state_dict()[f"{SPOT}{STEM}"])


def test_the_documents_example_makes_such_a_network():
    text = (ROOT / "trainer" / "configs" / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spec = build(described(**yaml.safe_load(block))).spec
    assert spec.shared == ("DEM_ELEV", "SPOT_RGBI")
    assert {image.backbone for image in spec.images} == {BACKBONES["convnextv2_atto"]}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"modalities": {"AERIAL_RGBI": {**RGB, "encoder": "shared"}, "SPOT_RGBI": RGB}},
            "AERIAL_RGBI is the first image, and others share its encoder; name an encoder for it",
        ),
        ({"network": {"encoder": "swin_tiny_patch4_window7_224"}}, "use a ConvNeXt V2 encoder"),
        ({"network": {"encoder": "shared"}}, "encoder shared is unknown"),
    ],
)
def test_words_that_share_nothing_are_refused(settings, words):
    with pytest.raises(CheckpointError, match=words):
        build(described(**settings))


def test_encoders_of_their_own_become_one_which_the_first_image_gives(network_of):
    old = network_of(spec_of("AERIAL_RGBI", "SPOT_RGBI"))
    network = UPerFuse(spec_of("AERIAL_RGBI", "SPOT_RGBI", shared=("SPOT_RGBI",))).double()
    assert adopt(network, old) == ["left behind: stages of SPOT_RGBI"]
    given, taken = old.state_dict(), network.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in taken.items())
    # and back: what was shared is copied
    back = UPerFuse(old.spec).double()
    assert adopt(back, network) == []
    assert torch.equal(back.state_dict()[f"{SPOT}{STAGE}"], given[f"{AERIAL}{STAGE}"])


def test_a_sensor_that_joins_and_shares_changes_nothing_at_first(network_of, tiles_of):
    old = network_of(spec_of("AERIAL_RGBI"))
    spec = spec_of("AERIAL_RGBI", "SPOT_RGBI", shared=("SPOT_RGBI",))
    network = UPerFuse(spec).double().eval()
    lines = adopt(network, old)
    assert lines == ["joins the fusion with weights of 0: SPOT_RGBI", "new, with random weights: stem of SPOT_RGBI"]
    inputs = tiles_of(spec).inputs
    with torch.no_grad():
        got, want = network(inputs)[COVER], old({"AERIAL_RGBI": inputs["AERIAL_RGBI"]})[COVER]
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_a_new_first_image_begins_with_the_encoder_of_one_that_shares_it(network_of):
    old = network_of(spec_of("DEM_ELEV", "SPOT_RGBI", shared=("SPOT_RGBI",)))
    network = UPerFuse(spec_of("AERIAL_RGBI", "SPOT_RGBI", shared=("SPOT_RGBI",))).double()
    lines = adopt(network, old)
    assert any(line.startswith("joins the fusion with weights of 0: AERIAL_RGBI") for line in lines)
    taken, given = network.state_dict(), old.state_dict()
    assert torch.equal(taken[f"{AERIAL}{STAGE}"], given[f"encoders.DEM_ELEV.seg_model.model.{STAGE}"])
    assert torch.equal(taken[f"{SPOT}{STEM}"], given[f"{SPOT}{STEM}"])


def test_what_the_fusion_made_of_another_encoders_maps_is_not_taken_over(network_of, tiles_of):
    """SPOT had a Swin: its maps were others, and the network begins without them."""
    spec = spec_of("AERIAL_RGBI", "SPOT_RGBI", shared=("SPOT_RGBI",))
    swin = replace(spec.images[1], backbone=SWIN.fitted(32))
    old = network_of(replace(spec, images=(spec.images[0], swin), shared=()))
    network = UPerFuse(spec).double().eval()
    lines = adopt(network, old)
    assert lines[0] == "joins the fusion with weights of 0: SPOT_RGBI"
    inputs = tiles_of(spec).inputs
    others = inputs | {"SPOT_RGBI": -inputs["SPOT_RGBI"]}
    with torch.no_grad():
        assert torch.equal(network(inputs)[COVER], network(others)[COVER])
    fusion = "fusion_handler.conv_f.3.weight"
    assert torch.equal(network.state_dict()[fusion][:, :32], old.state_dict()[fusion][:, :32])


def test_timms_weights_are_read_for_the_encoder_and_for_every_stem(tmp_path):
    name = "convnextv2_atto"
    torch.manual_seed(3)
    given = timm.create_model(name, pretrained=False).state_dict()
    save_file(given, str(tmp_path / "atto.safetensors"))
    four = {"bands": ["R", "G", "B", "NIR"]}
    config = described(
        modalities={"AERIAL_RGBI": four, "SPOT_RGBI": {**RGB, "encoder": "shared"}},
        network={"encoder": name, "pyramid_channels": 8, "segmentation_channels": 8},
        start={"pretrained": {name: str(tmp_path / "atto.safetensors")}},
    )
    lines = []
    weights = begin(build(config).spec, config, old=None, say=lines.append).state_dict()
    assert lines == [f"encoder of AERIAL_RGBI: {name} of timm", f"stem of SPOT_RGBI: {name} of timm"]
    assert torch.equal(weights[f"{SPOT}{STEM}"], given["stem.0.weight"])
    assert weights[f"{AERIAL}{STEM}"].shape[1] == 4
    assert torch.equal(
        weights[f"{AERIAL}stages_2.blocks.1.mlp.fc1.weight"], given["stages.2.blocks.1.mlp.fc1.weight"].flatten(1)
    )
