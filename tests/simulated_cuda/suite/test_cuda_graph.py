"""`_native.CudaGraph` on the simulated driver: what it records, what it gives back, what it says when a call fails."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from uperfuse.engine._native import CudaError, CudaGraph, cuda_driver_version

from . import raw

FLOATS = 64
OUT_OF_MEMORY, ILLEGAL_STATE, ILLEGAL_ADDRESS = 2, 401, 700
INVALID_HANDLE, UNSUPPORTED, INVALIDATED = 400, 900, 901


@pytest.fixture
def stream(gpu):
    return gpu.Stream(raw.NON_BLOCKING)


@pytest.fixture
def device(gpu):
    """Memory of 64 float32, and what lies there."""

    class Floats:
        memory = gpu.mem_alloc(4 * FLOATS)

        def read(self) -> np.ndarray:
            out = np.empty(FLOATS, np.float32)
            gpu.memcpy_dtoh(out, self.memory)
            return out

        def fill(self, value: int, stream) -> None:
            gpu.memset_d8_async(self.memory, value, 4 * FLOATS, stream)

    return Floats()


@pytest.fixture
def record(stream, device):
    """Records a fill: `record(7)`."""

    def make(value: int) -> CudaGraph:
        CudaGraph.capture_begin(stream.handle)
        device.fill(value, stream)
        return CudaGraph.capture_end(stream.handle)

    return make


def test_the_version_is_the_drivers(cuda):
    cuda.configure(driver_version=12060)
    assert cuda_driver_version() == 12060


def test_recording_runs_nothing_and_every_launch_all(record, stream, device):
    graph = record(0)
    stream.synchronize()
    assert np.isnan(device.read()).all()
    graph.launch(stream.handle)
    stream.synchronize()
    assert (device.read() == 0).all()
    device.fill(0xFF, stream)
    graph.launch(stream.handle)
    stream.synchronize()
    assert (device.read() == 0).all()


def test_a_launch_is_one_call(record, stream, cuda):
    graph = record(0)
    cuda.forget_calls()
    graph.launch(stream.handle)
    assert [(call.name, call.stream) for call in cuda.calls()] == [("cuGraphLaunch", stream.handle)]
    stream.synchronize()
    assert cuda.executed() == ["fill 256", "graph"]


def test_a_graph_runs_on_other_streams(record, device, gpu):
    other = gpu.Stream(raw.NON_BLOCKING)
    record(0).launch(other.handle)
    other.synchronize()
    assert (device.read() == 0).all()


def test_a_spoilt_recording_is_an_error_and_the_stream_runs_again(record, stream, device, gpu):
    CudaGraph.capture_begin(stream.handle)
    with pytest.raises(gpu.LogicError, match="operation not permitted when stream is capturing"):
        gpu.mem_alloc(16)
    with pytest.raises(
        CudaError, match=r"^cuStreamEndCapture failed: .*previous error during capture \(901\)$"
    ) as raised:
        CudaGraph.capture_end(stream.handle)
    assert (raised.value.code, raised.value.call) == (INVALIDATED, "cuStreamEndCapture")
    record(0).launch(stream.handle)
    stream.synchronize()
    assert (device.read() == 0).all()


def test_other_threads_may_allocate_meanwhile(stream, device, gpu):
    context = gpu.Context.get_current()

    def allocate() -> None:
        context.push()
        gpu.mem_alloc(16).free()
        gpu.Context.pop()

    CudaGraph.capture_begin(stream.handle)
    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    device.fill(0, stream)
    CudaGraph.capture_end(stream.handle).launch(stream.handle)
    stream.synchronize()
    assert (device.read() == 0).all()


def test_abort_drops_what_was_recorded(stream, device):
    CudaGraph.capture_abort(stream.handle)
    CudaGraph.capture_begin(stream.handle)
    device.fill(0, stream)
    CudaGraph.capture_abort(stream.handle)
    stream.synchronize()
    assert np.isnan(device.read()).all()
    device.fill(0, stream)
    stream.synchronize()
    assert (device.read() == 0).all()


def test_abort_after_a_spoilt_recording(stream, device, gpu):
    CudaGraph.capture_begin(stream.handle)
    with pytest.raises(gpu.LogicError):
        stream.synchronize()
    CudaGraph.capture_abort(stream.handle)
    stream.synchronize()


def test_the_end_without_a_beginning(stream):
    with pytest.raises(CudaError) as raised:
        CudaGraph.capture_end(stream.handle)
    assert raised.value.code == ILLEGAL_STATE


def test_a_closed_graph_is_not_launched(record, stream):
    graph = record(0)
    graph.close()
    graph.close()
    with pytest.raises(CudaError, match="the graph is closed, expected an open one; record it again") as raised:
        graph.launch(stream.handle)
    assert (raised.value.code, raised.value.call) == (INVALID_HANDLE, "cuGraphLaunch")


def test_closing_lets_launches_come_to_their_end(record, stream, device):
    graph = record(0)
    graph.launch(stream.handle)
    graph.close()
    stream.synchronize()
    assert (device.read() == 0).all()


def test_a_graph_is_closed_from_any_thread(record, cuda):
    graph = record(0)
    thread = threading.Thread(target=graph.close)
    thread.start()
    thread.join()
    assert not [each for each in cuda.left() if "graph" in each]


def test_a_collected_graph_is_closed(record, cuda):
    record(0)
    gc.collect()
    assert not [each for each in cuda.left() if "graph" in each]


@pytest.mark.parametrize("end", ["close", "collect"])
@pytest.mark.parametrize("again", [False, True])
def test_a_graph_goes_along_with_its_context(cuda, end, again):
    import pycuda.driver as driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    stream, memory = driver.Stream(), driver.mem_alloc(16)
    CudaGraph.capture_begin(stream.handle)
    driver.memset_d8_async(memory, 1, 16, stream)
    graph = CudaGraph.capture_end(stream.handle)
    memory.free()
    del stream
    context.detach()
    (problem,) = cuda.take_problems()
    assert problem == "a context was destroyed with 1 executable graph left in it"
    cuda.forget_calls()
    if again:
        context = driver.Device(0).retain_primary_context()
    if end == "close":
        graph.close()
    del graph
    assert "cuGraphExecDestroy" not in [call.name for call in cuda.calls()]
    if again:
        context.push()
        context.detach()


STEPS = {
    "cuStreamBeginCapture": OUT_OF_MEMORY,
    "cuStreamEndCapture": OUT_OF_MEMORY,
    "cuCtxGetCurrent": OUT_OF_MEMORY,
    "cuCtxGetId": OUT_OF_MEMORY,
    "cuGraphInstantiate": OUT_OF_MEMORY,
    "cuGraphLaunch": OUT_OF_MEMORY,
}


@pytest.mark.parametrize("call", STEPS)
def test_a_fault_in_any_call_is_said_leaves_nothing_and_the_next_works(call, record, stream, device, cuda):
    fault = cuda.inject(call, code=STEPS[call])
    with pytest.raises(CudaError, match=rf"^{call} failed: out of memory \(2\)$") as raised:
        record(0).launch(stream.handle)
    assert fault.fired
    assert (raised.value.code, raised.value.call) == (STEPS[call], call)
    del raised
    gc.collect()
    CudaGraph.capture_abort(stream.handle)
    assert not [each for each in cuda.left() if "graph" in each]
    graph = record(0)
    graph.launch(stream.handle)
    stream.synchronize()
    assert (device.read() == 0).all()


@pytest.mark.parametrize("call", ["cuGraphDestroy", "cuGraphExecDestroy"])
def test_a_fault_while_giving_back_is_an_older_errors(call, record, cuda):
    fault = cuda.inject(call, code=OUT_OF_MEMORY)
    record(0).close()
    assert fault.fired
    assert not [each for each in cuda.left() if "graph" in each]


def test_a_broken_context_is_said_at_every_launch(record, stream, device, cuda):
    graph = record(0)
    cuda.inject("cuGraphLaunch", code=ILLEGAL_ADDRESS)
    for _ in range(2):
        with pytest.raises(CudaError, match="illegal memory access") as raised:
            graph.launch(stream.handle)
        assert raised.value.code == ILLEGAL_ADDRESS
    graph.close()


def test_threads_launch_one_graph(record, stream, device, gpu, cuda):
    """Launches of several threads, none of which waits for the others with the interpreter's lock."""
    graph = record(0)
    context = gpu.Context.get_current()

    def launch() -> None:
        context.push()
        for _ in range(50):
            graph.launch(stream.handle)
        gpu.Context.pop()

    threads = [threading.Thread(target=launch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stream.synchronize()
    assert cuda.executed().count("graph") == 200
    assert (device.read() == 0).all()
