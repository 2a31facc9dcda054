"""What is exported in place of a module gives the module's numbers, and runs as it was meant to."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.trainer.export import taps
from uperfuse.trainer.export.graph import export_graph
from uperfuse.trainer.export.rewrite import rewritten
from uperfuse.trainer.export.segments import SegmentModule
from uperfuse.trainer.export.taps import TapsDecoder
from uperfuse.trainer.export.windows import WindowBlocks
from uperfuse.trainer.network import BackboneSpec

AERIAL = "AERIAL_RGBI"
LEVELS = ("level0", "level1", "level2", "level3")


class Levels(nn.Module):
    """An encoder as segments have it: a tuple comes out."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, pixels):
        return tuple(self.encoder(pixels))


def encoder_of(network, shape_yx, *, batch=2):
    """An aerial encoder as a segment, with biases of attention that are not all but zero."""
    encoder = network.encoders[AERIAL]
    for name, parameter in encoder.named_parameters():
        if name.endswith("relative_position_bias_table"):
            parameter.data.normal_()
    dtype = next(encoder.parameters()).dtype
    pixels = torch.randn(batch, 3, *shape_yx, generator=torch.Generator().manual_seed(2), dtype=dtype)
    network.set_tile(AERIAL, shape_yx)
    return SegmentModule(f"encoder:{AERIAL}", Levels(encoder), {"pixels": pixels}, LEVELS)


def run(segment):
    with torch.inference_mode():
        return segment.module(*segment.inputs.values())


@pytest.mark.parametrize(
    ("shape_yx", "window"),
    [((64, 64), 4), ((128, 64), 4), ((100, 68), 4), ((250, 130), 4), ((16, 200), 4), ((96, 96), 3), ((64, 64), 16)],
    ids=str,
)
def test_swin_in_windows_is_timms(spec_of, network_of, shape_yx, window):
    """Windows that divide no, one or both sides of a map, with maps that are one window among them."""
    backbone = BackboneSpec("swin", (8, 16, 32, 64), (2, 3, 4, 1), (1, 2, 4, 8), (window,) * 4)
    segment = encoder_of(network_of(spec_of(AERIAL, backbone=backbone)), shape_yx)
    made = rewritten(segment)
    assert sum(isinstance(each, WindowBlocks) for each in made.module.modules()) == 4
    for got, expected in zip(run(made), run(segment), strict=True):
        assert got.shape == expected.shape
        assert (got - expected).norm() < 1e-12 * expected.norm()


def test_nothing_but_scores_is_computed_for_padding(spec_of, network_of):
    """At 68 px a stage of 17 x 17 tokens takes 5 x 5 windows of 16: timm multiplies for 400, we for 289 and one."""
    segment = encoder_of(network_of(spec_of(AERIAL)), (68, 68), batch=1)
    counts = []
    for each in (segment, rewritten(segment)):
        with FlopCounterMode(display=False) as counter:
            run(each)
        counts.append(counter.get_flop_counts()["Global"][torch.ops.aten.addmm])
    C, hidden = 8, 32
    mlp = 2 * 2 * 2 * 289 * C * hidden  # two blocks of two products
    before, after = (2 * 2 * tokens * 4 * C * C for tokens in (400, 289))
    assert counts[0] - counts[1] > before - after - 2 * 2 * 3 * C * C > 0
    assert counts[1] > mlp


def test_the_network_is_left_alone(spec_of, network_of):
    network = network_of(spec_of(AERIAL))
    segment = encoder_of(network, (64, 64))
    before, names = run(segment), [name for name, _ in network.named_modules()]
    made = rewritten(segment)
    assert [name for name, _ in network.named_modules()] == names
    assert all(torch.equal(a, b) for a, b in zip(run(segment), before, strict=True))
    shared = {id(each) for each in segment.module.parameters()} & {id(each) for each in made.module.parameters()}
    assert len(shared) > len(list(segment.module.parameters())) / 2


def compiled_model(data, **settings):
    core = openvino_core()
    model = core.read_model(io.BytesIO(data))
    model.reshape({port.get_any_name(): [1, *list(port.get_partial_shape())[1:]] for port in model.inputs})
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **settings})


@pytest.mark.parametrize("side", [128, 144], ids=["padded nowhere", "padded"])
def test_attention_is_one_layer_in_openvino(spec_of, network_of, side):
    """As timm writes them, attentions of shifted windows are not fused: scores, softmax and products stand alone."""
    network = network_of(spec_of(AERIAL), dtype=torch.float32)
    segment = encoder_of(network, (side, side))
    kinds = []
    for each in (segment, rewritten(segment)):
        runtime = compiled_model(export_graph(each).data).get_runtime_model()
        types = [node.get_rt_info()["layerType"].astype(str) for node in runtime.get_ordered_ops()]
        kinds.append(types.count("Softmax"))
    assert kinds[0] > 0
    assert kinds[1] == 0


def test_the_graph_takes_any_batch(spec_of, network_of):
    """Masks are repeated for every tile of a batch."""
    segment = encoder_of(network_of(spec_of(AERIAL), dtype=torch.float32), (72, 72), batch=3)
    data = export_graph(rewritten(segment)).data
    whole = openvino_core().compile_model(
        openvino_core().read_model(io.BytesIO(data)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    got = whole([each.numpy() for each in segment.inputs.values()])
    for place, expected in enumerate(run(segment)):
        assert relative_error(np.array(got[place]), expected.numpy()) < 1e-5


def test_a_graph_with_masks_made_inside_is_smaller(spec_of, network_of):
    """Of masks and biases it holds numbers and tables, once for all blocks of a stage."""
    backbone = BackboneSpec("swin", (8, 16, 32, 64), (2, 2, 4, 2), (1, 2, 4, 8), (8,) * 4)
    segment = encoder_of(network_of(spec_of(AERIAL, backbone=backbone), dtype=torch.float32), (512, 512))
    timms, ours = (len(export_graph(each).data) for each in (segment, rewritten(segment)))
    assert ours < 0.7 * timms


def pyramid_of(sizes, dims, dtype):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, dim, *size, generator=generator, dtype=dtype) for dim, size in zip(dims, sizes, strict=True)]


@pytest.mark.parametrize("pays", [None, True, False], ids=["as it pays", "always", "never"])
@pytest.mark.parametrize(
    "sizes",
    [
        [(16, 16), (8, 8), (4, 4), (2, 2)],
        [(17, 24), (9, 12), (5, 6), (3, 3)],
        [(25, 17), (12, 8), (6, 4), (3, 2)],
        [(8, 8), (4, 4), (2, 2), (1, 1)],
        [(3, 2), (2, 1), (1, 1), (1, 1)],
    ],
    ids=str,
)
def test_taps_before_the_resize_are_the_convolution_behind_it(spec_of, network_of, monkeypatch, sizes, pays):
    network = network_of(spec_of(AERIAL, pyramid_channels=128, segmentation_channels=8))
    decoder = network.main_decoders["AERIAL_LABEL-COSIA"].seg_model.decoder
    if pays is not None:
        monkeypatch.setattr(taps, "_pays", lambda own, _, *, size: pays and own != size)
    pyramid = pyramid_of(sizes, (8, 16, 32, 64), torch.float64)
    with torch.inference_mode():
        got, expected = TapsDecoder(decoder, sizes=sizes)(pyramid), decoder(pyramid)
    assert got.shape == expected.shape
    assert (got - expected).norm() < 1e-12 * expected.norm()


def test_taps_save_what_they_promise(spec_of, network_of):
    network = network_of(spec_of(AERIAL, pyramid_channels=256, segmentation_channels=64), dtype=torch.float32)
    decoder = network.main_decoders["AERIAL_LABEL-COSIA"].seg_model.decoder
    sizes = [(128, 128), (64, 64), (32, 32), (16, 16)]
    pyramid = pyramid_of(sizes, (8, 16, 32, 64), torch.float32)
    counts = []
    for each in (decoder, TapsDecoder(decoder, sizes=sizes)):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            each(pyramid)
        counts.append(counter.get_total_flops())
    assert counts[1] < 0.6 * counts[0]


def test_what_is_not_rewritten_stays(spec_of, network_of, convnext):
    segment = encoder_of(network_of(spec_of(AERIAL, backbone=convnext)), (64, 64))
    assert all(torch.equal(a, b) for a, b in zip(run(rewritten(segment)), run(segment), strict=True))
