"""What the compiler does with TensorRT itself, simulated: timings, version-compatible engines, profiles."""

from __future__ import annotations

import importlib
import json
import signal
import sys
from pathlib import Path

import pytest

from uperfuse.engine import BackendError
from uperfuse.engine.plan.payloads import Door
from uperfuse.engine.tensorrt import Compiler, Profile, Runtime, door_shape, find_flavour, profiles_of

from .graphs import image_graph, series_graph

STANDINS = Path(__file__).resolve().parents[3] / "tests" / "simulated_cuda" / "standins"
WORKSPACE_BYTES = 64 << 20


@pytest.fixture
def simulated(monkeypatch):
    """The simulation; `tensorrt` is simulated while the test runs."""
    before = {*sys.modules}
    monkeypatch.syspath_prepend(str(STANDINS))
    module = importlib.import_module("simulated_tensorrt")
    module.configure(version="10.3.0", capability=87)
    yield module
    module.configure(version="10.3.0")
    for name in {*sys.modules} - before:
        if name.split(".")[0] in ("tensorrt", "simulated_tensorrt"):
            del sys.modules[name]


def a_compiler(**options) -> Compiler:
    return Compiler(find_flavour("tensorrt", need="build"), workspace_bytes=WORKSPACE_BYTES, **options)


def unpacked(data: bytes):
    return importlib.import_module("simulated_tensorrt.container").unpack(data)


@pytest.mark.parametrize("version", ["10.3.0", "11.4.0.106"])
def test_an_engine_is_what_was_asked_for(simulated, version):
    simulated.configure(version=version)
    graph = series_graph()
    compiled = a_compiler().compile(graph, batches=(1, 3), dates=(2, 5))
    engine = unpacked(compiled.data)
    assert (engine.flavour, engine.version, engine.capabilities) == ("tensorrt", version, [87])
    assert (engine.name, engine.model, engine.workspace) == (graph.name, graph.model, WORKSPACE_BYTES)
    assert not engine.lean
    assert engine.layers == compiled.layers == 5
    assert compiled.profiles == (Profile(1, 2), Profile(1, 5), Profile(3, 2), Profile(3, 5))
    assert [(shapes["pixels"][:2], shapes["mask"]) for shapes in engine.profiles] == [
        ([batch, dates], [batch, dates]) for batch in (1, 3) for dates in (2, 5)
    ]


def test_timings_of_one_part_serve_the_next_and_the_next_build(simulated):
    compiler = a_compiler()
    assert compiler.timing_cache() == b""
    compiler.compile(image_graph(), batches=(1,))
    first = compiler.timing_cache()
    compiler.compile(series_graph(), batches=(1,), dates=(2,))
    second = compiler.timing_cache()
    _, few = json.loads(first)
    made_by, more = json.loads(second)
    assert made_by == ["10.3.0", 87]
    assert len(few) == 3
    assert few.items() < more.items()
    again = a_compiler(timing_cache=second)
    assert again.compile(image_graph(), batches=(1,)).warnings == ()
    assert json.loads(again.timing_cache()) == [made_by, more]


@pytest.mark.parametrize("timings", [b"damaged", b'[["10.9.0", 87], {}]', b'[["10.3.0", 89], {}]'])
def test_timings_of_another_machine_are_left_aside_and_it_is_said(simulated, timings):
    compiler = a_compiler(timing_cache=timings)
    (warning,) = compiler.compile(image_graph(), batches=(1,)).warnings
    assert warning == "the timing cache is of another GPU or version, and was not used"
    assert json.loads(compiler.timing_cache())[0] == ["10.3.0", 87]


def test_a_failed_build_leaves_the_timings_as_they_were(simulated):
    compiler = a_compiler()
    compiler.compile(image_graph(), batches=(1,))
    before = compiler.timing_cache()
    with pytest.raises(BackendError, match="does not take the graph"):
        compiler.compile(image_graph(operation="Relu6000"), batches=(1,))
    assert compiler.timing_cache() == before


def test_version_compatible_engines_carry_a_lean_runtime(simulated):
    assert unpacked(a_compiler(version_compatible=True).compile(image_graph(), batches=(1,)).data).lean


def test_a_gpu_is_not_named_to_a_flavour_that_looks_for_it(simulated):
    with pytest.raises(
        BackendError, match=r"tensorrt 10\.3\.0 compiles for the GPU that it finds, got .* 8\.7; leave it"
    ):
        a_compiler(capability=87)


def test_without_a_gpu_nothing_is_built_and_it_is_said(simulated, monkeypatch):
    compiler = a_compiler()
    monkeypatch.setattr(simulated.SETTINGS, "capability", None)
    with pytest.raises(
        BackendError, match=r"cannot build encoder:AERIAL_RGBI: TensorRT says: .*no CUDA-capable device"
    ):
        compiler.compile(image_graph(), batches=(1,))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_stops_it(simulated):
    compiler = a_compiler(progress=lambda phase, done, steps: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        compiler.compile(image_graph(), batches=(1,))
    assert compiler.timing_cache() == b""


def test_another_logger_in_the_process_takes_the_words_and_nothing_else(simulated):
    """TensorRT keeps the logger of whoever was first; a graph that is refused is refused all the same."""
    trt = importlib.import_module("tensorrt")

    class Other(trt.ILogger):
        def log(self, severity, text):
            heard.append(text)

    heard = []
    theirs = trt.Builder(Other())
    compiler = a_compiler()
    with pytest.raises(BackendError, match="Relu6000 bend Plugin not found"):
        compiler.compile(image_graph(operation="Relu6000"), batches=(1,))
    with pytest.raises(BackendError, match=r"does not load with tensorrt 10\.3\.0: TensorRT gave no reason"):
        Runtime(compiler._flavour).load(image_graph().part, b"no engine", profiles=1)
    assert heard
    del theirs


IMAGE = Door(name="level0", dtype="float16", shape=("B", 8, 9, 16))
SERIES = Door(name="mask", dtype="float32", shape=("B", "T"))


def test_profiles_are_by_tiles_then_by_dates():
    assert profiles_of([IMAGE], batches=(1, 4), dates=(16, 32)) == (Profile(1), Profile(4))
    assert profiles_of([IMAGE, SERIES], batches=(1, 4), dates=(16, 32)) == (
        Profile(1, 16),
        Profile(1, 32),
        Profile(4, 16),
        Profile(4, 32),
    )
    assert profiles_of([SERIES], batches=(1,), dates=()) == ()
    assert door_shape(IMAGE, Profile(4)) == (4, 8, 9, 16)
    assert door_shape(SERIES, Profile(4, 32)) == (4, 32)
    assert str(Profile(4, 32)) == "4 tiles of 32 dates"
