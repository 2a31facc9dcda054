"""Parts compiled by the real builder of TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import os
import signal
import threading
from ctypes.util import find_library
from dataclasses import replace

import onnx
import pytest

from uperfuse.engine import BackendError
from uperfuse.engine.plan.payloads import Door
from uperfuse.engine.tensorrt import Compiler, Profile, Runtime, find_flavour

from .graphs import image_graph, series_graph

WORKSPACE_BYTES = 256 << 20


@pytest.fixture(scope="module")
def flavour():
    return find_flavour("rtx", need="build")


@pytest.fixture
def compiler(flavour):
    return Compiler(flavour, workspace_bytes=WORKSPACE_BYTES)


def test_an_image_has_a_profile_for_each_number_of_tiles(compiler):
    compiled = compiler.compile(image_graph(), batches=(1, 4))
    assert compiled.profiles == (Profile(1), Profile(4))
    assert compiled.layers == 3
    assert compiled.warnings == ()
    first, second = compiled.listing
    assert "pixels (Half[1,3,12,20]) -> level0 (Half[1,12,20,8])" in first
    assert "pixels [profile 1] (Half[4,3,12,20]) -> level0 [profile 1] (Half[4,12,20,8])" in second
    assert len(compiled.data) > 1000


def test_a_series_has_a_profile_for_each_number_of_tiles_and_dates(compiler):
    compiled = compiler.compile(series_graph(), batches=(1, 3), dates=(2, 16))
    assert compiled.profiles == (Profile(1, 2), Profile(1, 16), Profile(3, 2), Profile(3, 16))
    for number, (layer, shape) in enumerate(zip(compiled.listing, ("1,2", "1,16", "3,2", "3,16"), strict=True)):
        assert f"(Float[{shape},10,6,5])" in layer, number
        assert f"(Half[{shape},6,5,4])" in layer, number


@pytest.mark.parametrize(("dtype", "said"), [("float32", "Float"), ("float16", "Half"), ("bfloat16", "BFloat16")])
def test_types_are_those_of_the_graph(compiler, dtype, said):
    (layer,) = compiler.compile(image_graph(dtype=dtype), batches=(2,)).listing
    assert f"pixels ({said}[2,3,12,20]) -> level0 ({said}[2,12,20,8])" in layer


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (replace(image_graph(), model=b"no graph"), "Failed to parse the ONNX model"),
        (image_graph(operation="Relu6000"), "Relu6000 bend"),
        (image_graph(weights="float32"), "`input` and `kernel` must be of same type"),
    ],
    ids=["broken", "unknown operation", "types do not match"],
)
def test_what_the_parser_does_not_take_is_said_in_its_words(compiler, graph, words):
    with pytest.raises(BackendError, match=r"does not take the graph of encoder:AERIAL_RGBI: TensorRT says") as caught:
        compiler.compile(graph, batches=(1,))
    assert words in str(caught.value)
    assert compiler.compile(image_graph(), batches=(1,)).warnings == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "image"}, r"takes \('pixels', 'float16', \(-1, 3, 12, 20\)\), its part lists \('image'"),
        ({"dtype": "float32"}, r"its part lists \('pixels', 'float32'"),
        ({"shape": ("B", 3, 12, 21)}, r"its part lists .*\(-1, 3, 12, 21\)"),
        ({"shape": (1, 3, 12, 20)}, r"its part lists .*\(1, 3, 12, 20\)"),
    ],
)
def test_doors_that_the_graph_does_not_have_are_refused(compiler, change, words):
    graph = image_graph()
    door = graph.inputs[0].model_copy(update=change)
    with pytest.raises(BackendError, match=words):
        compiler.compile(replace(graph, inputs=(door,)), batches=(1,))


def test_a_door_too_few_is_refused(compiler):
    graph = series_graph()
    with pytest.raises(BackendError, match=r"gives \('features', .* its part lists None; export the plan again"):
        compiler.compile(replace(graph, outputs=graph.outputs[:1]), batches=(1,), dates=(2,))
    more = (*graph.outputs, Door(name="skip1", dtype="float16", shape=("B", 1)))
    with pytest.raises(BackendError, match=r"gives None, its part lists \('skip1'"):
        compiler.compile(replace(graph, outputs=more), batches=(1,), dates=(2,))


def test_what_tensorrt_warns_of_is_kept_with_the_engine(compiler):
    graph = image_graph()
    model = onnx.load_model_from_string(graph.model)
    model.graph.input.append(onnx.helper.make_tensor_value_info("idle", onnx.TensorProto.FLOAT, ["B", 7]))
    idle = Door(name="idle", dtype="float32", shape=("B", 7))
    odd = replace(graph, model=model.SerializeToString(), inputs=(*graph.inputs, idle))
    for _ in range(2):
        warnings = compiler.compile(odd, batches=(1, 2)).warnings
        assert "Unused Input: idle" in warnings
        assert len(set(warnings)) == len(warnings)
    assert compiler.compile(graph, batches=(1, 2)).warnings == ()


def test_nothing_to_build_for_is_refused(compiler):
    with pytest.raises(BackendError, match="no number of tiles or dates to build for"):
        compiler.compile(series_graph(), batches=(1,))


def test_a_workspace_that_is_too_small_is_said(flavour):
    compiler = Compiler(flavour, workspace_bytes=1024)
    with pytest.raises(BackendError, match=r"within workspace limit.*close other programs, or build for fewer tiles"):
        compiler.compile(image_graph(), batches=(1,))


def test_progress_is_told_step_by_step(flavour):
    told = []
    compiler = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, progress=lambda *step: told.append(step))
    compiler.compile(image_graph(), batches=(1, 2))
    phases = {phase for phase, _, _ in told}
    assert {"Building engine", "Optimizing graph"} <= phases
    for phase, done, steps in told:
        assert 0 <= done <= steps, phase
    steps = [(done, of) for phase, done, of in told if phase == "Optimizing graph"]
    assert steps == [(done, steps[0][1]) for done in range(steps[0][1] + 1)]


def test_an_error_in_the_callers_function_stops_the_build_and_comes_back(flavour):
    def fail(phase: str, done: int, steps: int) -> None:
        if phase == "Optimizing graph" and done == 3:
            raise ZeroDivisionError("of the caller")
        told.append(phase)

    told = []
    compiler = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, progress=fail)
    with pytest.raises(ZeroDivisionError, match="of the caller"):
        compiler.compile(image_graph(), batches=(1,))
    assert told[-1] == "Optimizing graph"


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("sender", ["this thread", "another thread"])
def test_ctrl_c_stops_the_build_and_is_raised_again(flavour, sender):
    def press(phase: str, done: int, steps: int) -> None:
        told.append((phase, done))
        if (phase, done) == ("Optimizing graph", 2):
            if sender == "this thread":
                signal.raise_signal(signal.SIGINT)
            else:
                thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
                thread.start()
                thread.join()

    told = []
    compiler = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, progress=press)
    with pytest.raises(KeyboardInterrupt):
        compiler.compile(image_graph(), batches=(1,))
    assert told[-1] == ("Optimizing graph", 2)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1
    told.clear()
    compiler._progress = None
    assert compiler.compile(image_graph(), batches=(1,)).layers == 3


@pytest.mark.usefixtures("ctrl_c")
def test_a_build_in_another_thread_leaves_signals_alone(flavour):
    compiled = []
    compiler = Compiler(
        flavour,
        workspace_bytes=WORKSPACE_BYTES,
        progress=lambda *_: handlers.add(signal.getsignal(signal.SIGINT)),
    )
    handlers = set()
    thread = threading.Thread(target=lambda: compiled.append(compiler.compile(image_graph(), batches=(1,))))
    thread.start()
    thread.join()
    assert compiled[0].layers == 3
    assert handlers == {signal.default_int_handler}


def test_compilers_in_two_threads_hear_their_own_messages(flavour):
    def work(graph, place):
        try:
            results[place] = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES).compile(graph, batches=(1,))
        except BackendError as error:
            results[place] = str(error)

    results = {}
    graphs = [
        image_graph(),
        image_graph(operation="Relu6000"),
        image_graph(dtype="float32"),
        image_graph(weights="float32"),
    ]
    threads = [threading.Thread(target=work, args=(graph, place)) for place, graph in enumerate(graphs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0].warnings == results[2].warnings == ()
    assert "Half" in results[0].listing[0]
    assert "Float" in results[2].listing[0]
    assert "Relu6000" in results[1]
    assert "Relu6000" not in results[3]


def test_a_gpu_to_compile_for_may_be_named(flavour):
    compiled = {
        capability: Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, capability=capability)
        .compile(image_graph(), batches=(1,))
        .data
        for capability in (None, 86, 120)
    }
    assert len(set(compiled.values())) == 3
    with pytest.raises(
        BackendError, match=r"does not compile for compute capability 8\.7, expected one of .*8\.6, 8\.9"
    ):
        Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, capability=87)


def test_what_this_flavour_has_not_is_refused_or_left_out(flavour):
    with pytest.raises(BackendError, match="makes no version-compatible engines"):
        Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, version_compatible=True)
    compiler = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, timing_cache=b"of another build")
    assert compiler.compile(image_graph(), batches=(1,)).warnings == ()
    assert compiler.timing_cache() == b"of another build"


@pytest.mark.skipif(find_library("cuda") is not None, reason="a driver is here")
def test_without_a_driver_nothing_is_loaded_and_it_is_said(flavour, compiler):
    graph = image_graph()
    data = compiler.compile(graph, batches=(1,)).data
    runtime = Runtime(flavour)
    # there is none, or the simulated one that a test before has loaded
    with pytest.raises(BackendError, match=r"does not load with tensorrt_rtx .*CUDA driver"):
        runtime.load(graph.part, memoryview(data), profiles=1)
    runtime.close()
    runtime.close()
    with pytest.raises(BackendError, match="is closed"):
        runtime.load(graph.part, data, profiles=1)
