"""What bf16 may cost, and what it must not touch."""

from __future__ import annotations

import numpy as np
import onnx
import openvino as ov
import pytest
from onnx import numpy_helper

from uperfuse.engine import Engine, Plan
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.graphs import fix_shapes, split_stem
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.plan.plan import write_plan


@pytest.fixture(scope="module")
def steep(plans, tmp_path_factory):
    """A plan whose network reads heights as if they were normalised by 2 m and 4 m, of FLAIR-HUB's statistics.

    The weights of the first convolution undo the statistics (311 m and 538 m), as training would have to.
    """
    with Plan.open(plans("all")[0]) as plan:
        manifest = plan.manifest
        members = {name: bytes(plan.member(name)) for name in manifest.members}
    member = manifest.segment("encoder:DEM_ELEV").member
    height = manifest.modality("DEM_ELEV").channels[1]
    model = onnx.load_from_string(members[member])
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weight, bias = (numpy_helper.to_array(stored[name]).astype(np.float64) for name in first.input[1:])
    bias = bias + (weight[:, 1] * (height.mean - 2.0) / 4.0).sum(axis=(1, 2))
    weight = np.stack([weight[:, 0], weight[:, 1] * height.std / 4.0], axis=1)
    for name, array in zip(first.input[1:], (weight, bias), strict=True):
        stored[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    path = tmp_path_factory.mktemp("steep") / "steep.plan"
    members[member] = model.SerializeToString()
    write_plan(path, manifest.model_copy(update={"members": {}, "check": None}), members)
    return path


def test_heights_keep_their_centimetres_in_bf16(steep):
    with Engine.load(steep, precision="float32") as engine:
        if "BF16" not in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            pytest.skip("this processor has no bf16 instructions")
        tiles = check_tiles_of(engine.manifest, seed=2, dates=9)
        rng = np.random.default_rng(5)
        ground = 1500 + np.linspace(0, 10, 128)[:, None] + np.zeros((128, 128))
        raised = np.kron(rng.uniform(0, 12, (16, 16)), np.ones((8, 8))) + rng.normal(0, 0.2, (128, 128))
        tiles["DEM_ELEV"] = np.stack([ground + raised, ground])[None].astype(np.float32)
        expected = engine.predict(tiles, logits=True).logits
    with Engine.load(steep, precision="bf16") as engine:
        got = engine.predict(tiles, logits=True).logits
    for task, logits in expected.items():
        assert relative_error(got[task], logits) < 0.012  # 0.023 where heights are rounded to bf16 on their way in


@pytest.mark.parametrize("name", ["encoder:AERIAL_RGBI", "encoder:DEM_ELEV"])
def test_a_cut_encoder_computes_the_same(plans, name):
    core, settings = openvino_core(), {"INFERENCE_PRECISION_HINT": "f32"}
    with Plan.open(plans("all")[0]) as plan:
        segment = plan.manifest.segment(name)
        data = bytes(plan.member(segment.member))

    def model() -> ov.Model:
        return fix_shapes(core.read_model(data), segment)

    whole = core.compile_model(model(), "CPU", settings)
    pixels = np.random.default_rng(1).normal(size=(1, *segment.inputs[0].shape[1:])).astype(np.float32)
    expected = [array.copy() for array in whole(pixels).values()]
    stem, rest = split_stem(model())
    between = core.compile_model(stem, "CPU", settings)(pixels)[0]
    got = core.compile_model(rest, "CPU", settings)(between).values()
    for one, other in zip(got, expected, strict=True):
        assert relative_error(one, other) < 1e-6
