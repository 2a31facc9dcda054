"""Layers of real plans: what their ranges come from, which is given back, and that the limit holds elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from uperfuse.engine import Plan
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.builder.accuracy import FloatMaps
from uperfuse.engine.builder.calibrate import candidates, local_errors, ranges_of, read_model
from uperfuse.engine.builder.eight_bits import Range
from uperfuse.engine.builder.parts import float_parts
from uperfuse.engine.builder.pipeline import Graph, Pipeline
from uperfuse.engine.builder.quantise import imitate
from uperfuse.engine.builder.quantised import Quantisation, quantise_for_tensorrt, quantise_part
from uperfuse.engine.builder.search import Trial
from uperfuse.engine.builder.tiles import CalibrationTiles, Sample
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import dates_key

from .samples import IMAGE, poison, simulated


def drawn(manifest, seeds, *, without: tuple[str, ...] = ()) -> list[Sample]:
    """Tiles drawn from seeds; those of the second and every other lack `without`."""
    found = []
    for place, seed in enumerate(seeds):
        tiles = check_tiles_of(manifest, seed=seed, dates=5 + place)
        gone = {*without, *map(dates_key, without)} if place % 2 else set()
        found.append(Sample({name: value for name, value in tiles.items() if name not in gone}))
    return found


@pytest.fixture(scope="module")
def everything(plans):
    """The plan of all kinds of sensors, with its float32 pipeline."""
    with Plan.open(plans("all")[0]) as plan, Pipeline(plan) as pipeline:
        yield plan, pipeline


def test_a_replaced_segment_that_is_the_same_changes_nothing(everything):
    plan, pipeline = everything
    graphs = {name: Graph(read_model(plan, name)) for name in candidates(plan, kind="int8")}
    assert len(graphs) == 6
    for sample in drawn(plan.manifest, (1, 2), without=("DEM_ELEV", "SENTINEL2_TS")):
        tile = sample.checked(plan.manifest)
        expected, got = pipeline.map(tile), pipeline.map(tile, graphs)
        for task, each in expected.items():
            assert relative_error(got[task].logits, each.logits) < 1e-5
            assert (got[task].labels == each.labels).mean() > 0.9999


def test_series_alone_are_averaged_in_front_of_a_replaced_decoder(plans):
    with Plan.open(plans("series")[0]) as plan, Pipeline(plan) as pipeline:
        tile = drawn(plan.manifest, (3,))[0].checked(plan.manifest)
        graphs = {f"decode:{task.name}": Graph(read_model(plan, f"decode:{task.name}")) for task in plan.manifest.tasks}
        expected, got = pipeline.map(tile), pipeline.map(tile, graphs)
        for task, each in expected.items():
            assert relative_error(got[task].logits, each.logits) < 1e-6


def test_ranges_are_those_of_what_arrives_inside_the_plan(everything):
    plan, pipeline = everything
    layers = candidates(plan, kind="int8")
    tiles = [sample.checked(plan.manifest) for sample in drawn(plan.manifest, (1, 2, 3))]
    ranges = ranges_of(plan, pipeline, layers=layers, tiles=tiles)
    assert {name: set(each) for name, each in ranges.items()} == {
        name: {layer.name for layer in each} for name, each in layers.items()
    }
    met = {}  # what the decoder and the image's first convolution take, seen from outside

    def watching(name: str) -> None:
        graph = Graph(read_model(plan, name))

        def run(*inputs):
            met.setdefault(name, []).append([np.array(array) for array in inputs])
            return graph(*inputs)

        for tile in tiles:
            pipeline.map(tile, {name: run})

    decoder = f"decode:{plan.manifest.tasks[0].name}"
    for name in (IMAGE, decoder):
        watching(name)
        doors = [spec.name for spec in plan.manifest.segment(name).inputs]
        found = 0
        for layer in layers[name]:
            if layer.map not in doors:
                continue
            values = np.concatenate([each[doors.index(layer.map)].ravel() for each in met[name]])
            spread = np.abs(values).max()
            expected = np.quantile(np.abs(values), 0.99999, method="higher")
            got = ranges[name][layer.name]
            assert expected - spread / 512 <= got.amplitude <= min(spread, expected + spread / 512)
            found += 1
        assert found >= 1


def test_a_sensor_that_no_tile_has_gives_no_ranges(everything):
    plan, pipeline = everything
    layers = candidates(plan, kind="int8")
    tile = drawn(plan.manifest, (0, 1), without=("DEM_ELEV", "SENTINEL2_TS"))[1].checked(plan.manifest)
    assert "DEM_ELEV" not in tile
    found = ranges_of(plan, pipeline, layers=layers, tiles=[tile])
    assert set(layers) - set(found) == {"encoder:DEM_ELEV", "encoder:SENTINEL2_TS"}


def test_local_errors_are_those_of_each_layer_alone(everything):
    """Compared with the layer's own output in a graph where it alone is rounded."""
    plan, pipeline = everything
    name, whole = IMAGE, Graph(read_model(plan, IMAGE))
    layers = {name: candidates(plan, kind="int8")[name][:3]}
    tiles = [sample.checked(plan.manifest) for sample in drawn(plan.manifest, (4, 5))]
    ranges = ranges_of(plan, pipeline, layers=layers, tiles=tiles)
    errors = local_errors(plan, pipeline, layers=layers, ranges=ranges, tiles=tiles, kind="int8")
    for layer in layers[name]:
        sums = np.zeros(2)
        exact = read_model(plan, name)
        result = next(node.output[0] for node in exact.graph.node if node.name == layer.name)
        short = imitate(exact, ranges=ranges[name], layers=[layer.name], kind="int8")
        graphs = []
        for model in (exact, short):
            model.graph.node.append(helper.make_node("Identity", [result], ["watched"], name="watched"))
            del model.graph.output[:]
            model.graph.output.append(helper.make_tensor_value_info("watched", onnx.TensorProto.FLOAT, None))
            graphs.append(Graph(model))

        def run(*inputs, graphs=graphs, sums=sums):
            one, other = (np.array(graph(*inputs)[0], np.float64) for graph in graphs)
            sums += [((one - other) ** 2).sum(), (one**2).sum()]
            return whole(*inputs)

        for tile in tiles:
            pipeline.map(tile, {name: run})
        assert errors[name, layer.name] == pytest.approx(np.sqrt(sums[0] / sums[1]), rel=1e-3)


@pytest.fixture(scope="module")
def poisoned(plans, tmp_path_factory):
    """A plan and the one layer of it that 8 bits ruin."""
    path = tmp_path_factory.mktemp("poisoned") / "poisoned.plan"
    return path, poison(plans("aerial")[0], path)


def test_the_layer_that_ruins_a_plan_is_found_and_given_back(poisoned):
    path, culprit = poisoned
    said = []
    with Plan.open(path) as plan:
        samples = simulated(plan.manifest, range(40, 46))
        tiles = CalibrationTiles.split(samples[:4])
        found = quantise_for_tensorrt(plan, tiles=tiles, kind="int8", max_miou_drop=1.0, say=said.append)
        assert found.float_layers[0] == f"{IMAGE}/{culprit}"
        count = sum(map(len, found.layers.values())) + len(found.float_layers)
        assert len(found.float_layers) < count / 4
        assert culprit not in found.layers[IMAGE]
        assert 0 <= found.miou_drop <= 1.0
        assert found.agreement[0].argmax_equal > 0.9
        assert any("in floating point: " in line for line in said)
        # on tiles that the search never saw the limit holds as well, and with the culprit it would not
        with Pipeline(plan) as pipeline:
            fresh = tuple(sample.checked(plan.manifest) for sample in samples[4:])
            float_maps = FloatMaps(plan.manifest, [pipeline.map(tile) for tile in fresh], samples=samples[4:])
            trial = Trial(plan, pipeline, ranges=found.ranges, kind="int8", tiles=fresh, float_maps=float_maps)
            back = [tuple(name.split("/", 1)) for name in found.float_layers]
            assert trial(back).miou_drop <= 1.0
            assert trial([]).miou_drop > 2 * trial(back).miou_drop
            assert trial([]).miou_drop > 1.0


def test_every_layer_lands_in_one_part_and_none_where_numbers_stay_raw(plans):
    with Plan.open(plans("all")[0]) as plan:
        layers = candidates(plan, kind="int8")
        quantisation = Quantisation(
            "int8",
            {name: {layer.name: Range(-3.0, 3.0) for layer in each} for name, each in layers.items()},
            {name: tuple(layer.name for layer in each) for name, each in layers.items()},
            (),
            0.0,
            (),
        )
        found = dict.fromkeys(layers, 0)
        for part in float_parts(plan, cut=True):
            made = quantise_part(part, quantisation)
            nodes = made.model.graph.node
            readers = [node for node in nodes if any(name.endswith(".rounded") for name in node.input)]
            assert not {node.name for node in readers} & part.float_nodes
            found[part.segment] += len(readers)
            assert made.model.graph.output == part.model.graph.output
        assert found == {name: len(each) for name, each in layers.items()}
