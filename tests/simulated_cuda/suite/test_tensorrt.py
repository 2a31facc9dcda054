"""TensorRT's runtime as the engine uses it, simulated, on the simulated driver with the real PyCUDA."""

from __future__ import annotations

import ctypes

import ml_dtypes
import numpy as np
import pytest
import simulated_tensorrt
from simulated_tensorrt.values import Severity

from tests.engine.tensorrt.graphs import COLUMNS, ONNX_TYPES, ROWS, image_graph, series_graph, weights_of
from uperfuse.engine import BackendError
from uperfuse.engine.tensorrt import ALIGNMENT, Compiler, Runtime, find_flavour

BATCHES, DATES = (1, 3), (2, 5)
WORKSPACE_BYTES = 64 << 20


@pytest.fixture
def flavour(cuda):
    simulated_tensorrt.configure(version="10.3.0")
    return find_flavour("tensorrt", need="build")


@pytest.fixture
def built(flavour, gpu):
    """Part and engine of a small graph."""

    def build(graph, **options):
        compiler = Compiler(flavour, workspace_bytes=WORKSPACE_BYTES, **options)
        return graph.part, compiler.compile(graph, batches=BATCHES, dates=DATES).data

    return build


@pytest.fixture
def runtime(flavour, gpu):
    runtime = Runtime(flavour)
    yield runtime
    runtime.close()


class Bench:
    """Arrays on the device, bound to a context."""

    def __init__(self, gpu, context, loaded, *, scratch: int | None = None) -> None:
        self.gpu = gpu
        self.context = context
        self.stream = gpu.Stream()
        self.doors = {door.name: door for door in (*loaded.part.inputs, *loaded.part.outputs)}
        self.arrays = {}
        for name, door in self.doors.items():
            item = np.dtype(ONNX_TYPES[door.dtype][1]).itemsize
            self.arrays[name] = gpu.mem_alloc(int(np.prod(context.shapes[name])) * item)
            context.bind(name, int(self.arrays[name]))
        self.scratch = gpu.mem_alloc(scratch or loaded.activation_bytes)
        context.use_memory(int(self.scratch), scratch or loaded.activation_bytes)

    def put(self, name: str, values: np.ndarray) -> None:
        kind = ONNX_TYPES[self.doors[name].dtype][1]
        self.gpu.memcpy_htod(self.arrays[name], np.ascontiguousarray(values.astype(kind)).view(np.uint8))

    def get(self, name: str) -> np.ndarray:
        kind = np.dtype(ONNX_TYPES[self.doors[name].dtype][1])
        raw = np.empty(int(np.prod(self.context.shapes[name])) * kind.itemsize, np.uint8)
        self.gpu.memcpy_dtoh(raw, self.arrays[name])
        return raw.view(kind).reshape(self.context.shapes[name]).astype(np.float32)


class Graph:
    """What a stream captures, through the driver."""

    def __init__(self, stream: int, work) -> None:
        self._driver = ctypes.CDLL("libcuda.so.1")
        self._stream = ctypes.c_void_p(stream)
        self._graph, self._ready = ctypes.c_void_p(), ctypes.c_void_p()
        assert self._driver.cuStreamBeginCapture_v2(self._stream, 1) == 0
        work()
        assert self._driver.cuStreamEndCapture(self._stream, ctypes.byref(self._graph)) == 0
        assert (
            self._driver.cuGraphInstantiateWithFlags(ctypes.byref(self._ready), self._graph, ctypes.c_ulonglong(0)) == 0
        )

    def launch(self) -> None:
        assert self._driver.cuGraphLaunch(self._ready, self._stream) == 0

    def close(self) -> None:
        assert self._driver.cuGraphExecDestroy(self._ready) == 0
        assert self._driver.cuGraphDestroy(self._graph) == 0


def pixels_of(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).normal(size=(batch, 3, ROWS, COLUMNS)).astype(np.float32)


def convolved(pixels: np.ndarray, kind) -> np.ndarray:
    """What `image_graph` computes, in float64 from rounded inputs: [B, 3, Y, X] -> [B, Y, X, 8]."""
    weights = weights_of("w", (8, 3, 3, 3)).astype(kind).astype(np.float64)
    padded = np.pad(pixels.astype(kind).astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))  # [B, C, Y, X, 3, 3]
    return np.maximum(np.einsum("bcyxij,kcij->byxk", windows, weights), 0)


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [("float32", 1e-6), ("float16", 2.0**-11), ("bfloat16", 2.0**-8)],  # half a unit in the last place of the output
)
@pytest.mark.parametrize("profile", [0, 1])
def test_an_engine_runs_where_its_doors_are_bound(built, runtime, gpu, dtype, tolerance, profile):
    part, data = built(image_graph(dtype=dtype))
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(profile), loaded)
    pixels = pixels_of(BATCHES[profile])
    bench.put("pixels", pixels)
    bench.context.enqueue(bench.stream.handle)
    bench.stream.synchronize()
    expected = convolved(pixels, ONNX_TYPES[dtype][1])
    np.testing.assert_allclose(bench.get("level0"), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize(("profile", "batch", "dates"), [(0, 1, 2), (1, 1, 5), (2, 3, 2), (3, 3, 5)])
def test_profiles_of_a_series_come_in_their_order(built, runtime, gpu, profile, batch, dates):
    part, data = built(series_graph())
    loaded = runtime.load(part, data, profiles=4)
    context = loaded.context(profile)
    assert context.shapes["pixels"] == (batch, dates, 10, 6, 5)
    assert context.shapes["skip0"] == (batch, dates, 6, 5, 4)
    bench = Bench(gpu, context, loaded)
    generator = np.random.default_rng(profile)
    pixels = generator.normal(size=(batch, dates, 10, 6, 5)).astype(np.float32)
    mask = (generator.random((batch, dates)) < 0.7).astype(np.float32)
    bench.put("pixels", pixels)
    bench.put("mask", mask)
    context.enqueue(bench.stream.handle)
    bench.stream.synchronize()
    features = (pixels * mask[:, :, None, None, None]).transpose(0, 1, 3, 4, 2)
    np.testing.assert_array_equal(bench.get("features"), features.astype(np.float16).astype(np.float32))
    # on the processor maps inside of a graph are not rounded: only the output is
    expected = features @ weights_of("w", (10, 4)).astype(np.float16).astype(np.float64)
    np.testing.assert_allclose(bench.get("skip0"), expected, rtol=2.0**-11, atol=1e-6)


def test_nothing_runs_before_it_is_waited_for(built, runtime, gpu, cuda):
    part, data = built(image_graph(dtype="float32"))
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(0), loaded)
    bench.put("pixels", pixels_of(1))
    bench.context.enqueue(bench.stream.handle)
    nbytes = 4 * ROWS * COLUMNS * 8
    assert np.isnan(cuda.memory(int(bench.arrays["level0"]), nbytes).view(np.float32)).all()
    bench.stream.synchronize()
    assert np.isfinite(cuda.memory(int(bench.arrays["level0"]), nbytes).view(np.float32)).all()


def test_a_context_that_goes_before_its_run_is_seen(built, flavour, gpu, cuda):
    part, data = built(image_graph(dtype="float32"))
    runtime = Runtime(flavour)
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(0), loaded)
    bench.context.enqueue(bench.stream.handle)
    runtime.close()
    with pytest.raises(gpu.Error):
        bench.stream.synchronize()
    assert any("went before its run was done" in problem for problem in cuda.take_problems())


def test_a_captured_run_is_replayed(built, runtime, gpu, cuda):
    part, data = built(image_graph(dtype="float32"))
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(1), loaded)
    stream = bench.stream.handle
    assert bench.context.capturable(stream)
    graph = Graph(stream, lambda: bench.context.enqueue(stream))
    for batch_seed in (3, 4):
        pixels = np.random.default_rng(batch_seed).normal(size=(3, 3, ROWS, COLUMNS)).astype(np.float32)
        bench.put("pixels", pixels)
        cuda.forget_calls()
        graph.launch()
        bench.stream.synchronize()
        np.testing.assert_allclose(bench.get("level0"), convolved(pixels, np.float32), rtol=1e-5, atol=1e-5)
        assert next(call.name for call in cuda.calls() if call.stream == stream) == "cuGraphLaunch"
        assert "engine encoder:AERIAL_RGBI" in cuda.executed()
    graph.close()


def test_activations_are_written_all_over(built, runtime, gpu):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(1), loaded)
    gpu.memcpy_htod(bench.scratch, np.zeros(loaded.activation_bytes, np.uint8))
    bench.put("pixels", pixels_of(3))
    bench.context.enqueue(bench.stream.handle)
    bench.stream.synchronize()
    raw = np.empty(loaded.activation_bytes, np.uint8)
    gpu.memcpy_dtoh(raw, bench.scratch)
    assert (raw == 0xFF).all(), "the largest profile needs all of it"


def test_memory_that_does_not_suffice_is_refused(built, runtime, gpu):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    context = loaded.context(0)
    assert loaded.activation_bytes % ALIGNMENT == 0
    with pytest.raises(BackendError, match=rf"got \d+ bytes of memory at .*, expected {loaded.activation_bytes}"):
        context.use_memory(ALIGNMENT, loaded.activation_bytes - 1)
    with pytest.raises(BackendError, match="at a multiple of 256"):
        context.use_memory(ALIGNMENT + 16, loaded.activation_bytes)


def test_an_arena_that_is_smaller_than_was_said_is_seen(built, runtime, gpu, cuda):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(1), loaded)
    bench.scratch = gpu.mem_alloc(ALIGNMENT)
    bench.context.use_memory(int(bench.scratch), loaded.activation_bytes)
    bench.put("pixels", pixels_of(3))
    bench.context.enqueue(bench.stream.handle)
    with pytest.raises(gpu.Error):
        bench.stream.synchronize()
    assert any("host function" in problem for problem in cuda.take_problems())


def test_what_is_missing_is_said_before_anything_runs(built, runtime, gpu):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    context = loaded.context(0)
    with pytest.raises(BackendError, match="lacks addresses of level0, pixels, memory of activations"):
        context.enqueue(0)
    with pytest.raises(BackendError, match="has no door labels, expected one of pixels, level0"):
        context.bind("labels", 4096)
    with pytest.raises(BackendError, match="has no profile 2"):
        loaded.context(2)


def test_tensorrt_itself_refuses_a_run_without_addresses(built, runtime, gpu):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    context = loaded.context(0)
    context._unbound.clear()
    context._has_memory = True
    with pytest.raises(
        BackendError, match=r"does not run: TensorRT says: .*Address is not set for input tensor pixels"
    ):
        context.enqueue(0)
    context.bind("pixels", 4096)
    context.bind("level0", 8192)
    with pytest.raises(BackendError, match="setDeviceMemoryV2 should be called before enqueue"):
        context.enqueue(0)


def test_a_driver_that_fails_is_said_in_its_words(built, runtime, gpu, cuda):
    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(0), loaded)
    cuda.inject("enqueue", code=cuda.LAUNCH_FAILED)
    with pytest.raises(BackendError, match=r"encoder:AERIAL_RGBI does not run: TensorRT says: .*Cuda Runtime"):
        bench.context.enqueue(bench.stream.handle)


def test_an_error_that_is_logged_alone_is_an_error(built, runtime, gpu, monkeypatch):
    def run(self, stream: int) -> bool:
        self._voice.say(Severity.INTERNAL_ERROR, "a kernel's image is missing")
        return True

    part, data = built(image_graph())
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(0), loaded)
    monkeypatch.setattr("simulated_tensorrt.run.IExecutionContext.execute_async_v3", run)
    with pytest.raises(BackendError, match="does not run: TensorRT says: a kernel's image is missing"):
        bench.context.enqueue(bench.stream.handle)


def test_weights_that_do_not_fit_are_said(built, flavour, gpu, cuda):
    part, data = built(image_graph())
    runtime = Runtime(flavour)
    fault = cuda.inject("cuMemAlloc", code=cuda.OUT_OF_MEMORY)
    with pytest.raises(BackendError, match=r"OutOfMemory.*close other programs that use the GPU"):
        runtime.load(part, data, profiles=2)
    assert fault.fired
    runtime.load(part, data, profiles=2)
    runtime.close()


@pytest.mark.parametrize(
    ("version", "capability", "words"),
    [
        ("10.9.0", 87, r"built by another version.*tensorrt 10\.9\.0.*expecting library version 10\.9\.0 got 10\.3\.0"),
        ("10.3.0", 89, r"built for another kind of GPU.*expecting compute 8\.9 got compute 8\.7"),
    ],
)
def test_an_engine_of_another_machine_is_refused(built, gpu, cuda, version, capability, words):
    part, data = built(image_graph())
    simulated_tensorrt.configure(version=version)
    cuda.configure(capability=capability)
    runtime = Runtime(find_flavour("tensorrt", need="run"))
    with pytest.raises(BackendError, match=words + r".*run `uperfuse build PLAN` on this machine"):
        runtime.load(part, data, profiles=2)
    runtime.close()


def test_bytes_that_are_no_engine_are_refused(built, runtime):
    part, data = built(image_graph())
    for damaged in (b"", b"engine", data[10:], memoryview(data)[:20]):
        with pytest.raises(BackendError, match=r"the engine of encoder:AERIAL_RGBI is damaged"):
            runtime.load(part, damaged, profiles=2)


def changed(part, **changes):
    door = part.inputs[0].model_copy(update=changes)
    return part.model_copy(update={"inputs": (door,)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda part: part.model_copy(update={"name": "encoder:SPOT_RGBI"}), "was built of encoder:AERIAL_RGBI"),
        (lambda part: changed(part, name="image"), "takes pixels, expected image"),
        (lambda part: changed(part, dtype="float32"), r"takes pixels as float16 of shape .*, expected float32"),
        (
            lambda part: changed(part, shape=("B", 3, ROWS, COLUMNS + 1)),
            rf"of shape \[-1, 3, {ROWS}, {COLUMNS}\], expected",
        ),
        (lambda part: changed(part, shape=("B", 3, ROWS * COLUMNS)), "expected float16 of shape"),
        (lambda part: part.model_copy(update={"outputs": part.outputs * 2}), "gives level0, expected level0, level0"),
    ],
)
def test_an_engine_that_is_not_what_the_plan_says_is_refused(built, runtime, change, words):
    part, data = built(image_graph())
    with pytest.raises(BackendError, match=words + ".*run `uperfuse build` on the plan again"):
        runtime.load(change(part), data, profiles=2)


def test_a_number_of_profiles_that_is_not_the_plans_is_refused(built, runtime):
    part, data = built(image_graph())
    with pytest.raises(BackendError, match="has 2 profiles, expected 3"):
        runtime.load(part, data, profiles=3)


def test_contexts_are_made_once_and_go_with_what_loaded_them(built, flavour, gpu, cuda):
    part, data = built(image_graph())
    runtime = Runtime(flavour)
    loaded = runtime.load(part, data, profiles=2)
    context = loaded.context(0)
    assert loaded.context(0) is context
    assert loaded.context(1) is not context
    runtime.close()
    runtime.close()
    for use in (lambda: context.enqueue(0), lambda: loaded.context(0), lambda: runtime.load(part, data, profiles=2)):
        with pytest.raises(BackendError, match=r"is closed; load the plan again"):
            use()
    loaded.close()
    context.close()


def test_every_part_gives_its_memory_back(built, flavour, gpu, cuda):
    part, data = built(image_graph())
    free = gpu.mem_get_info()[0]
    runtime = Runtime(flavour)
    first, second = (runtime.load(part, data, profiles=2) for _ in range(2))
    assert gpu.mem_get_info()[0] < free
    first.context(0)
    first.close()
    kept = gpu.mem_get_info()[0]
    second.context(1)
    runtime.close()
    assert kept < gpu.mem_get_info()[0] == free


def test_version_compatible_engines_run_elsewhere_if_they_are_trusted(built, gpu, cuda, monkeypatch):
    part, data = built(image_graph(), version_compatible=True)
    simulated_tensorrt.configure(version="11.4.0.106")
    flavour = find_flavour("tensorrt", need="run")
    distrustful = Runtime(flavour)
    with pytest.raises(BackendError, match="code that this process did not say it trusts"):
        distrustful.load(part, data, profiles=2)
    distrustful.close()
    trusting = Runtime(flavour, version_compatible=True)
    assert trusting.load(part, data, profiles=2).profiles == 2
    trusting.close()


def test_bfloat16_goes_in_and_out_as_it_lies(built, runtime, gpu):
    part, data = built(image_graph(dtype="bfloat16"))
    loaded = runtime.load(part, data, profiles=2)
    bench = Bench(gpu, loaded.context(0), loaded)
    pixels = pixels_of(1)
    bench.put("pixels", pixels)
    bench.context.enqueue(bench.stream.handle)
    bench.stream.synchronize()
    got = bench.get("level0")
    assert np.array_equal(got, got.astype(ml_dtypes.bfloat16).astype(np.float32))
