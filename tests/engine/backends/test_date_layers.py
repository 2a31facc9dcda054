"""A series' encoder in two halves gives what its graph gives as a whole."""

from __future__ import annotations

import numpy as np
import openvino as ov
import pytest

from uperfuse.engine import Engine, Plan
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.backends.cpu.compiling import compile_graph
from uperfuse.engine.backends.cpu.date_layers import DateEncoder, split_dates
from uperfuse.engine.backends.cpu.graphs import fix_shapes
from uperfuse.engine.backends.cpu.segments import CpuSegments
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.check import check_tiles_of

SERIES = ["SENTINEL2_TS", "SENTINEL1-ASC_TS"]


def encoder_of(plans, name, *, dates):
    with Plan.open(plans("all")[0]) as plan:
        segment = plan.manifest.segment(f"encoder:{name}")
        data = bytes(plan.member(segment.member))
    return fix_shapes(openvino_core().read_model(data), segment, dates=dates)


def kinds(model):
    return [node.get_type_name() for node in model.get_ops()]


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("gone", [[], [2, 6, 7], [*range(8)]], ids=["all dates", "some", "none"])
def test_both_halves_give_what_the_whole_gives(plans, name, gone):
    whole = compile_graph(encoder_of(plans, name, dates=8), key="whole", precision="float32", threads=1)
    rng = np.random.default_rng(3)
    pixels = rng.normal(size=whole.inputs[0].shape).astype(np.float32)
    days, mask = np.sort(rng.uniform(-130, 220, (1, 8)).astype(np.float32)), np.ones((1, 8), np.float32)
    mask[0, gone] = 0
    expected = [array.copy() for array in whole([pixels, days, mask]).values()]

    split = split_dates(encoder_of(plans, name, dates=8))
    assert len(split.layers) == 11
    assert [level.layer for level in split.levels] == [1, 4, 7, 10]
    assert [level.by_pixel for level in split.levels] == [False, False, False, True]
    rest = compile_graph(split.rest, key="rest", precision="float32", threads=1)
    layers = DateEncoder(split, threads=2)
    levels = layers.empty(pixels[0])
    for array in levels:
        array.fill(np.nan)  # what another series left
    layers.run(pixels[0], mask[0], levels)
    got = rest([*levels, days, mask]).values()
    for one, other in zip(got, expected, strict=True):
        assert np.isfinite(one).all()
        assert relative_error(one, other) < 1e-5


def test_only_the_rest_is_left_to_openvino(plans):
    whole = encoder_of(plans, "SENTINEL2_TS", dates=8)
    convolutions = kinds(whole).count("Convolution")
    assert kinds(split_dates(whole).rest).count("Convolution") == convolutions - 11


def test_weights_are_there_once_for_all_numbers_of_dates(plans):
    with Plan.open(plans("series")[0]) as plan:
        segments = CpuSegments(plan, precision="float32", threads=1)
        (first, one), (second, other) = (segments.series_encoder("SENTINEL2_TS", dates) for dates in (8, 16))
        assert one is other
        assert first is not second
        assert one is not segments.series_encoder("SENTINEL1-ASC_TS", 8)[1]
        segments.close()


def edited(model, kind, edit, *, index=0):
    """The model with a node of a kind replaced."""
    node = [node for node in model.get_ordered_ops() if node.get_type_name() == kind][index]
    other = edit(node)
    for reader in node.output(0).get_target_inputs():
        if reader.get_node() != other:
            reader.replace_source_output(other.output(0))
    return model


def symmetric(pad):
    return ov.opset14.pad(*(pad.input_value(place) for place in range(3)), "symmetric")


def dilated(convolution):
    weight = convolution.input_value(1)
    padded = ov.opset14.pad(convolution.input_value(0), [0, 0, 1, 1], [0, 0, 1, 1], "constant", 0.0)
    return ov.opset14.convolution(padded, weight, [1, 1], [0, 0], [0, 0], [2, 2])


def outside(mvn):
    return ov.opset14.mvn(mvn.input_value(0), mvn.input_value(1), True, 1e-5, "OUTSIDE_SQRT")


def ones_outside(select):
    return ov.opset14.select(select.input_value(0), select.input_value(1), np.float32(1))


def exponential(relu):
    return ov.opset14.elu(relu.input_value(0), 1.0)


@pytest.mark.parametrize(
    ("kind", "edit"),
    [("Pad", symmetric), ("Convolution", dilated), ("MVN", outside), ("Select", ones_outside), ("Relu", exponential)],
    ids=["border", "dilation", "epsilon", "masked dates", "rectifier"],
)
def test_a_graph_that_begins_otherwise_is_not_cut(plans, kind, edit):
    whole = edited(encoder_of(plans, "SENTINEL2_TS", dates=8), kind, edit)
    assert split_dates(whole) is None
    compile_graph(whole, key="whole", precision="float32", threads=1)


def test_a_graph_that_goes_on_otherwise_is_cut_before(plans):
    whole = edited(encoder_of(plans, "SENTINEL2_TS", dates=8), "Relu", exponential, index=2)
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=whole.inputs[0].shape).astype(np.float32)
    days, mask = np.arange(8, dtype=np.float32)[None], np.ones((1, 8), np.float32)
    compiled = compile_graph(whole.clone(), key="whole", precision="float32", threads=1)
    expected = [array.copy() for array in compiled([pixels, days, mask]).values()]
    split = split_dates(whole)
    assert [level.layer for level in split.levels] == [1]
    layers = DateEncoder(split, threads=1)
    levels = layers.empty(pixels[0])
    layers.run(pixels[0], mask[0], levels)
    got = compile_graph(split.rest, key="rest", precision="float32", threads=1)([*levels, days, mask]).values()
    for one, other in zip(got, expected, strict=True):
        assert relative_error(one, other) < 1e-5


def test_series_that_follow_each_other_do_not_meet(plans):
    """Sessions keep the room for levels: what a longer series left must not be seen by a shorter one."""
    with Engine.load(plans("series")[0], device="cpu", precision="float32") as engine:
        long, short = (check_tiles_of(engine.manifest, seed=seed, dates=dates) for seed, dates in ((1, 8), (2, 3)))
        alone = engine.predict(short, logits=True).logits
        engine.predict(long)
        again = engine.predict(short, logits=True).logits
    for task, logits in alone.items():
        np.testing.assert_array_equal(again[task], logits)
