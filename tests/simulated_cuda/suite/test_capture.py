"""The simulation's laws of capture: what streams record, what they refuse meanwhile, what graphs do."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from . import raw

COUNT = 100
VALUES = np.arange(COUNT, dtype=np.float32)
INVALID_HANDLE, ILLEGAL_STATE, ILLEGAL_ADDRESS = 400, 401, 700
UNSUPPORTED, INVALIDATED, MERGE, UNMATCHED, UNJOINED, ISOLATION, IMPLICIT, CAPTURED_EVENT, WRONG_THREAD = range(
    900, 909
)


@pytest.fixture(params=["lazy", "eager"])
def schedule(request, cuda):
    cuda.configure(schedule=request.param)
    return request.param


@pytest.fixture
def stream(gpu):
    return gpu.Stream(raw.NON_BLOCKING)


@pytest.fixture
def other(gpu):
    return gpu.Stream(raw.NON_BLOCKING)


@pytest.fixture
def device(gpu):
    return gpu.mem_alloc(4 * COUNT)


def read(cuda, device) -> np.ndarray:
    return cuda.memory(int(device), 4 * COUNT).view(np.float32).copy()


def broken(stream) -> bool:
    """Ends a capture that was spoilt."""
    code, graph = raw.end(stream)
    return code == INVALIDATED and graph == 0


def test_everything_is_recorded_and_runs_at_every_launch(gpu, cuda, stream, device, schedule):
    source, target = gpu.pagelocked_zeros(COUNT, np.float32), gpu.pagelocked_zeros(COUNT, np.float32)
    seen = []
    assert raw.begin(stream) == 0
    gpu.memcpy_htod_async(device, source, stream)
    cuda.enqueue(stream.handle, lambda: seen.append(read(cuda, device)[3]), name="look")
    gpu.memset_d8_async(device, 0, 4, stream)
    gpu.memcpy_dtoh_async(target, device, stream)
    graph = raw.Graph(stream)
    stream.synchronize()
    assert not seen
    assert np.isnan(read(cuda, device)).all()
    for step in (1, 2):
        source[:] = VALUES * step
        assert graph.launch(stream) == 0
        target[:] = -1
        stream.synchronize()
        assert seen.pop() == 3 * step
        np.testing.assert_array_equal(target[1:], VALUES[1:] * step)
        assert target[0] == 0
    assert cuda.executed()[:5] == ["copy host to device 400", "look", "fill 4", "copy device to host 400", "graph"]
    graph.destroy()


@pytest.mark.parametrize("joined", [True, False])
def test_streams_fork_and_join_through_events(gpu, cuda, stream, other, device, schedule, joined):
    """Two halves by two streams; the copy comes after both only where the fork is joined."""
    target, forked, joining = gpu.mem_alloc(4 * COUNT), gpu.Event(), gpu.Event()
    assert raw.begin(stream) == 0
    forked.record(stream)
    other.wait_for_event(forked)
    gpu.memset_d8_async(device, 0, 200, stream)
    gpu.memset_d8_async(int(device) + 200, 0, 200, other)
    joining.record(other)
    if joined:
        stream.wait_for_event(joining)
    gpu.memcpy_dtod_async(target, device, 4 * COUNT, stream)
    if not joined:
        assert raw.end(stream) == (UNJOINED, 0)
        assert raw.call("cuStreamSynchronize", other.handle) == 0, "the fork is out of the capture, too"
        return
    graph = raw.Graph(stream)
    graph.launch(stream)
    stream.synchronize()
    assert (read(cuda, target) == 0).all()
    graph.destroy()


def test_branches_of_a_graph_run_in_any_order(gpu, cuda, stream, other, device):
    """Where a join is too late, the eager schedule shows it."""
    cuda.configure(schedule="eager")
    forked, joining, target = gpu.Event(), gpu.Event(), gpu.mem_alloc(4 * COUNT)
    assert raw.begin(stream) == 0
    forked.record(stream)
    other.wait_for_event(forked)
    gpu.memset_d8_async(device, 0, 4 * COUNT, stream)
    gpu.memcpy_dtod_async(target, device, 4 * COUNT, other)
    joining.record(other)
    stream.wait_for_event(joining)
    graph = raw.Graph(stream)
    graph.launch(stream)
    stream.synchronize()
    assert np.isnan(read(cuda, target)).all()
    graph.destroy()


def test_launches_of_a_graph_come_one_after_another(gpu, cuda, stream, other, device):
    order = []
    assert raw.begin(stream) == 0
    cuda.enqueue(stream.handle, lambda: order.append(len(order)))
    graph = raw.Graph(stream)
    graph.launch(stream)
    graph.launch(other)
    other.synchronize()
    assert order == [0, 1]
    graph.destroy()


def test_a_graph_that_is_destroyed_comes_to_its_end(gpu, cuda, stream, device):
    assert raw.begin(stream) == 0
    gpu.memset_d8_async(device, 0, 4 * COUNT, stream)
    graph = raw.Graph(stream)
    graph.launch(stream)
    graph.destroy()
    stream.synchronize()
    assert (read(cuda, device) == 0).all()
    assert graph.launch(stream) == 1
    assert "the executable graph was destroyed" in cuda.take_problems()[0]


def test_memory_that_a_graph_needs_must_stay(gpu, cuda, stream):
    memory = gpu.mem_alloc(16)
    assert raw.begin(stream) == 0
    gpu.memset_d8_async(memory, 0, 16, stream)
    graph = raw.Graph(stream)
    graph.launch(stream)
    stream.synchronize()
    memory.free()
    graph.launch(stream)
    assert raw.call("cuStreamSynchronize", stream.handle) == ILLEGAL_ADDRESS
    assert "that was freed before its turn came" in cuda.take_problems()[0]
    raw.call("cuGraphExecDestroy", graph.executable.value)
    raw.call("cuGraphDestroy", graph.graph)


UNSAFE = {
    "cuMemAlloc": lambda gpu, memory: raw.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16),
    "cuMemHostAlloc": lambda gpu, memory: raw.call("cuMemHostAlloc", ctypes.byref(ctypes.c_void_p()), 16, 0),
    "cuMemcpyHtoD": lambda gpu, memory: raw.call("cuMemcpyHtoD_v2", memory, VALUES.ctypes.data, 16),
    "cuModuleLoadData": lambda gpu, memory: raw.call("cuModuleLoadData", ctypes.byref(ctypes.c_void_p()), b"x"),
}


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("mode", [raw.GLOBAL, raw.THREAD_LOCAL])
def test_calls_that_could_wait_spoil_a_capture(gpu, stream, device, name, mode):
    assert raw.begin(stream, mode) == 0
    assert UNSAFE[name](gpu, int(device)) == UNSUPPORTED
    assert raw.call("cuMemsetD8Async", int(device), 0, 16, stream.handle) == INVALIDATED
    assert broken(stream)
    assert raw.call("cuMemsetD8Async", int(device), 0, 16, stream.handle) == 0
    stream.synchronize()


def test_a_relaxed_capture_lets_them_pass(gpu, stream, device):
    assert raw.begin(stream, raw.RELAXED) == 0
    gpu.mem_alloc(16).free()
    gpu.memcpy_htod(device, VALUES)
    raw.Graph(stream).destroy()


@pytest.mark.parametrize(("mode", "spoils"), [(raw.GLOBAL, True), (raw.THREAD_LOCAL, False), (raw.RELAXED, False)])
def test_other_threads_are_watched_by_a_global_capture_alone(gpu, stream, device, mode, spoils):
    context, codes = gpu.Context.get_current(), []

    def copy() -> None:
        context.push()
        codes.append(raw.call("cuMemcpyHtoD_v2", int(device), VALUES.ctypes.data, 16))
        gpu.Context.pop()

    assert raw.begin(stream, mode) == 0
    thread = threading.Thread(target=copy)
    thread.start()
    thread.join()
    assert codes == [UNSUPPORTED if spoils else 0]
    if spoils:
        assert broken(stream)
    else:
        raw.Graph(stream).destroy()


@pytest.mark.parametrize("wait", ["cuStreamSynchronize", "cuStreamQuery", "cuCtxSynchronize"])
def test_nobody_waits_for_a_stream_that_captures(gpu, stream, wait):
    assert raw.begin(stream) == 0
    assert raw.call(wait, *([] if wait == "cuCtxSynchronize" else [stream.handle])) == UNSUPPORTED
    assert broken(stream)


def test_nobody_waits_for_an_event_that_was_captured(gpu, stream):
    event = gpu.Event()
    assert raw.begin(stream) == 0
    event.record(stream)
    with pytest.raises(gpu.LogicError, match="event last recorded in a capturing stream"):
        event.synchronize()
    assert broken(stream)
    with pytest.raises(gpu.LogicError, match="event last recorded in a capturing stream"):
        stream.wait_for_event(event)
    event.record(stream)
    event.synchronize()


def test_pageable_memory_is_not_captured(gpu, stream, device):
    assert raw.begin(stream) == 0
    with pytest.raises(gpu.LogicError, match="not permitted when stream is capturing"):
        gpu.memcpy_htod_async(device, VALUES, stream)
    assert broken(stream)


def test_a_capture_does_not_wait_for_what_is_outside(gpu, stream, other):
    event = gpu.Event()
    event.record(other)
    assert raw.begin(stream) == 0
    with pytest.raises(gpu.LogicError, match="uncaptured work in another stream"):
        stream.wait_for_event(event)
    assert broken(stream)
    other.synchronize()


def test_captures_do_not_merge(gpu, stream, other):
    event = gpu.Event()
    assert raw.begin(stream) == raw.begin(other) == 0
    event.record(other)
    with pytest.raises(gpu.LogicError, match="merge of separate capture sequences"):
        stream.wait_for_event(event)
    assert broken(stream)
    assert broken(other)


def test_the_legacy_stream_takes_no_part(gpu, device):
    stream = gpu.Stream()
    assert raw.call("cuStreamBeginCapture_v2", 0, raw.THREAD_LOCAL) == UNSUPPORTED
    assert raw.begin(stream) == 0
    with pytest.raises(gpu.LogicError, match="legacy stream depend on a capturing blocking stream"):
        gpu.memset_d8(device, 0, 16)
    assert broken(stream)


def test_a_capture_ends_where_it_began(gpu, stream, other, device):
    event, codes = gpu.Event(), []
    assert raw.end(stream) == (ILLEGAL_STATE, 0)
    assert raw.begin(stream) == 0
    assert raw.begin(stream) == ILLEGAL_STATE
    event.record(stream)
    other.wait_for_event(event)
    assert raw.end(other) == (UNMATCHED, 0)
    context = gpu.Context.get_current()

    def end() -> None:
        context.push()
        codes.append(raw.end(stream))
        gpu.Context.pop()

    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert codes == [(WRONG_THREAD, 0)]
    raw.Graph(stream).destroy()


def test_a_stream_says_whether_it_captures(gpu, stream):
    status = ctypes.c_int()

    def asked() -> int:
        assert raw.call("cuStreamIsCapturing", stream.handle, ctypes.byref(status)) == 0
        return status.value

    assert asked() == 0
    assert raw.begin(stream) == 0
    assert asked() == 1
    raw.call("cuStreamSynchronize", stream.handle)
    assert asked() == 2
    assert broken(stream)
    assert asked() == 0


def test_a_stream_that_goes_spoils_its_capture(gpu, stream, other):
    event = gpu.Event()
    assert raw.begin(stream) == 0
    event.record(stream)
    third = gpu.Stream(raw.NON_BLOCKING)
    third.wait_for_event(event)
    del third
    assert broken(stream)


def test_a_graph_is_launched_in_its_own_context(gpu, cuda, stream, device):
    assert raw.begin(stream) == 0
    gpu.memset_d8_async(device, 0, 4, stream)
    graph = raw.Graph(stream)
    context = gpu.Device(0).make_context()
    inside = gpu.Stream()
    assert graph.launch(inside) == 201
    assert "the executable graph is of another context" in cuda.take_problems()[0]
    del inside
    context.pop()
    context.detach()
    graph.destroy()
