"""Every part of LC-A, LC-F, LC-L, LPIS-I and the shipped plan, parsed and built by the real builder.

Parts that are equal but for their weights are built once: the decoders of LC-A and LC-F; the series of LC-F and LPIS-I,
and in front of the attention those of LC-L, too; behind it those of Sentinel-1 and Sentinel-2. Where the number of
channels alone differs, it is the same graph with another first convolution. `test_quantised_builder.py` does the same
in 8 bits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import ROOT
from uperfuse.engine import Plan
from uperfuse.engine.builder import FloatPart, PartGraph, float_parts, write_types
from uperfuse.engine.builder.cut import cut_encoder
from uperfuse.engine.builder.onnx_graph import Graph
from uperfuse.engine.builder.parts import decoder_part, encoder_part, half_parts
from uperfuse.engine.plan.network import Modality
from uperfuse.trainer.network import NetworkSpec

from .eight_bit_parts import check_eight_bits
from .golden_graphs import Exports, Wanted, spec_of
from .real_builder import Built, ParsedLayer, build

SMALL = ROOT / "models" / "uperfuse-small.plan"
PRECISIONS = {"float32": "float32", "fp16": "float16", "bf16": "bfloat16"}
PRODUCT_LAYERS = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}
PRODUCTS = {"Conv", "ConvTranspose", "MatMul", "Gemm"}

IMAGES = [
    Wanted("lc-a_convnextv2-tiny", "AERIAL_RGBI"),
    Wanted("lc-f_swin-tiny", "AERIAL_RGBI"),
    Wanted("lpis-i_swin-tiny", "SPOT_RGBI"),
]
SERIES = [Wanted("lc-f_swin-tiny", "SENTINEL2_TS"), Wanted("lc-l_swin-base", "SENTINEL2_TS")]
DECODERS = [Wanted(case, "decoder") for case in ("lc-a_convnextv2-tiny", "lpis-i_swin-tiny", "lc-l_swin-base")]
LARGE = [Wanted("lc-l_swin-base", "SPOT_RGBI"), Wanted("lc-l_swin-base", "AERIAL_RGBI")]


@pytest.fixture(scope="module")
def exports(shared, tmp_path_factory):
    made = Exports(shared, tmp_path_factory.mktemp("segments"), [*IMAGES, *SERIES, *DECODERS, *LARGE])
    yield made
    made.close()


def check(graph: PartGraph, *, short: str) -> Built:
    """Build a part, and compare what the builder has of it with what was promised."""
    built = build(graph)
    assert built.warnings == ()
    promised = tuple(
        (door.name, door.dtype, tuple(-1 if isinstance(axis, str) else axis for axis in door.shape))
        for door in (*graph.inputs, *graph.outputs)
    )
    assert built.doors == promised
    islands = set(graph.islands)
    _check_network(built.parsed, islands, short=short)
    _check_engine(built, onnx.load_from_string(graph.model), islands, short=short)
    return built


def _check_network(layers: tuple[ParsedLayer, ...], islands: set[str], *, short: str) -> None:
    """The network, whose types the builder must keep, has the islands in float32 and every other product short."""
    assert {layer.node for layer in layers} >= islands
    makers = {name: layer for layer in layers for name in layer.outputs}
    readers: dict[str, list[ParsedLayer]] = {}
    for layer in layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    for layer in layers:
        if layer.node in islands:
            kinds = {*layer.takes, *layer.gives} & {"float32", "float16", "bfloat16"}
            assert kinds <= {"float32"}, layer
        elif layer.kind in PRODUCT_LAYERS:
            if (short, layer.kind, set(layer.takes)) == ("float16", "MATRIX_MULTIPLY", {"float32"}):
                # sums in float32: both inputs come from float16, and nothing but float16 is made of the result
                sources = [_before_moves(name, makers) for name in layer.inputs]
                assert all((each.kind, each.takes) == ("CAST", ("float16",)) for each in sources), layer
                after = readers.get(layer.outputs[0], [])
                while [each.kind for each in after] == ["SHUFFLE"]:
                    after = readers.get(after[0].outputs[0], [])
                assert [(each.kind, each.gives) for each in after] == [("CAST", ("float16",))], layer
            else:
                assert set(layer.takes) == {short}, layer


def _before_moves(name: str, makers: dict[str, ParsedLayer]) -> ParsedLayer:
    layer = makers[name]
    while layer.kind == "SHUFFLE":
        layer = makers[layer.inputs[0]]
    return layer


def _check_engine(built: Built, model: onnx.ModelProto, islands: set[str], *, short: str) -> None:
    """The engine multiplies short numbers outside of the islands, and each softmax is within one attention kernel."""
    products = {node.name for node in model.graph.node if node.op_type in PRODUCTS}
    seen = set()
    for layer in built.engine:
        inside = products & set(layer.nodes)
        seen |= inside
        if not inside or inside & islands:
            continue
        weights = max(layer.stores, key=lambda each: each[1], default=None)
        if layer.name.startswith("_gemm_mha") or weights is None or weights[1] == 1:
            assert set(layer.reads) == {short}, layer
        else:
            assert weights[0] == short, layer
            assert short in layer.reads, layer
    assert len(seen) >= 0.9 * len(products - islands)  # what is left has been merged under another name
    softmaxes = {node.name for node in model.graph.node if node.op_type == "Softmax"}
    if short != "float32" and len(softmaxes) > 1:  # a single one is a series', of another form
        assert sum(layer.name.startswith("_gemm_mha") for layer in built.engine) == len(softmaxes)


def check_all(part: FloatPart) -> None:
    for precision, short in PRECISIONS.items():
        check(write_types(part, precision=precision), short=short)
    check_eight_bits(part)


@pytest.mark.parametrize("cut", [True, False])
def test_the_shipped_plan(cut):
    with Plan.open(SMALL) as plan:
        parts = float_parts(plan, cut=cut)
        for name in parts.names:
            if cut or name == "encoder:SENTINEL2_TS":
                check_all(parts.part(name))


def modality(name: str, *, dtype: str = "uint8") -> Modality:
    series = name.endswith("_TS")
    return Modality.model_validate(
        {
            "name": name,
            "kind": "series" if series else "image",
            "bands": ("R",),
            "dtype": dtype,
            "channels": ({"name": "R", "band": "R"},),
            "tile_px": 512,
            "gsd_m": 0.2,
            "reference_day": "05-15" if series else None,
        }
    )


@pytest.mark.parametrize("wanted", IMAGES, ids=str)
def test_images(exports, wanted):
    check_all(encoder_part(exports.graph(wanted), modality=modality(wanted.what)))


@pytest.mark.parametrize("wanted", SERIES, ids=str)
def test_series(exports, wanted):
    graph = exports.graph(wanted)
    spatial, temporal = half_parts(cut_encoder(graph, series=wanted.what), series=wanted.what)
    check_all(temporal)
    if wanted == SERIES[0]:
        check_all(spatial)
        check_all(encoder_part(graph, modality=modality(wanted.what, dtype="uint16")))
        radar = cut_encoder(with_channels(graph, 2), series="SENTINEL1-ASC_TS")
        check_all(half_parts(radar, series="SENTINEL1-ASC_TS")[0])


@pytest.mark.parametrize("wanted", DECODERS, ids=str)
def test_decoders(exports, wanted):
    check_all(decoder_part(exports.graph(wanted), task="AERIAL_LABEL-COSIA", averaged=1))


@pytest.mark.parametrize("wanted", LARGE, ids=str)
def test_large_images(exports, wanted):
    graph = exports.graph(wanted)
    check_all(encoder_part(graph, modality=modality(wanted.what)))
    if wanted == LARGE[-1]:
        elevation = encoder_part(with_channels(graph, 2), modality=modality("DEM_ELEV", dtype="float32"))
        built = check(write_types(elevation, precision="fp16"), short="float16")
        first = next(layer for layer in built.parsed if layer.kind == "CONVOLUTION")
        assert set(first.takes) == {"float32"}
        assert built.doors[0] == ("pixels", "float32", (-1, 2, 512, 512))


def with_channels(graph: Graph, channels: int) -> Graph:
    """The same encoder for fewer channels."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    before = axes[-3].dim_value
    axes[-3].dim_value = channels
    stem = next(node for node in model.graph.node if node.op_type == "Conv")
    reshape = next((node for node in model.graph.node if node.op_type == "Reshape"), stem)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.name == stem.input[1]:
            values = values[:, :channels]
        elif tensor.name == reshape.input[1] and len(axes) == 5:  # dates and batch of a series joined
            values = np.array([-1, channels, *values[2:]])
            assert numpy_helper.to_array(tensor)[1] == before
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
    return Graph(model)


def test_what_is_not_built_again_is_equal(shared):
    light, lpis, full = (spec_of(shared, case)[0] for case in ("lc-f_swin-tiny", "lpis-i_swin-tiny", "lc-l_swin-base"))
    assert _of_series(light) == _of_series(lpis)
    assert _of_series(light)[:-1] == _of_series(full)[:-1]
    for spec in (light, full):
        optical, ascending, descending = spec.series
        assert replace(ascending, name="") == replace(descending, name="")
        assert replace(ascending, name="", channels=0) == replace(optical, name="", channels=0)
        assert (optical.channels, ascending.channels) == (10, 2)
    aerial, elevation = full.image("AERIAL_RGBI"), full.image("DEM_ELEV")
    assert (aerial.backbone, aerial.tile_px) == (elevation.backbone, elevation.tile_px)
    assert elevation.channels == 2
    alone = spec_of(shared, "lc-a_convnextv2-tiny")[0]
    for name in ("tasks", "pyramid_channels", "segmentation_channels", "decoder"):
        assert getattr(alone, name) == getattr(light, name)
    assert alone.images[0].backbone.dims == light.images[0].backbone.dims
    assert alone.images[0].tile_px == light.images[0].tile_px


def _of_series(spec: NetworkSpec) -> list:
    """What the series' parts are made of; their class scores are not looked at beside images."""
    return [*(replace(series, out_widths=()) for series in spec.series), spec.images[0].backbone.dims]


def test_a_promise_that_is_broken_is_seen():
    """The checks above can fail: at an island that is short, and at a product that is not."""
    with Plan.open(SMALL) as plan:
        part = float_parts(plan, cut=False).part("decode:ALL_LABEL-LPIS")
    graph = write_types(part, precision="fp16")
    short = next(n.name for n in part.model.graph.node if n.op_type == "Conv" and n.name not in graph.islands)
    with pytest.raises(AssertionError):
        check(replace(graph, islands=(*graph.islands, short)), short="float16")
    with pytest.raises(AssertionError):
        check(replace(graph, islands=graph.islands[:-1]), short="float16")
