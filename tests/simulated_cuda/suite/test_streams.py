"""The simulation's laws of streams and events: nothing runs before somebody waits, and then what has to, in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from . import raw

COUNT = 100
VALUES = np.arange(COUNT, dtype=np.float32)
INVALID_HANDLE, ILLEGAL_ADDRESS, LAUNCH_FAILED = 400, 700, 719


@pytest.fixture(params=["lazy", "eager"])
def schedule(request, cuda):
    cuda.configure(schedule=request.param)
    return request.param


@pytest.fixture
def pinned(gpu):
    """Pinned float32 arrays: `pinned(values)`."""

    def make(values) -> np.ndarray:
        array = gpu.pagelocked_empty(COUNT, np.float32)
        array[:] = values
        return array

    return make


@pytest.fixture
def side(gpu):
    """A stream that neither waits for the legacy stream nor is waited for by it."""
    return gpu.Stream(raw.NON_BLOCKING)


def read(cuda, device) -> np.ndarray:
    """What lies in device memory now; waits for nothing."""
    return cuda.memory(int(device), 4 * COUNT).view(np.float32).copy()


def test_nothing_runs_before_somebody_waits(gpu, cuda, pinned, side, schedule):
    device, source, target = gpu.mem_alloc(4 * COUNT), pinned(VALUES), pinned(-1)
    gpu.memcpy_htod_async(device, source, side)
    gpu.memcpy_dtoh_async(target, device, side)
    assert not side.is_done()
    assert np.isnan(read(cuda, device)).all()
    assert (target == -1).all()
    side.synchronize()
    assert side.is_done()
    np.testing.assert_array_equal(target, VALUES)


def test_pinned_memory_is_read_when_its_turn_comes_and_pageable_memory_at_once(gpu, cuda, pinned, side):
    devices = [gpu.mem_alloc(4 * COUNT) for _ in range(2)]
    sources = [pinned(VALUES), VALUES.copy()]
    for device, source in zip(devices, sources, strict=True):
        gpu.memcpy_htod_async(device, source, side)
        source[:] = -1
    side.synchronize()
    assert (read(cuda, devices[0]) == -1).all()
    np.testing.assert_array_equal(read(cuda, devices[1]), VALUES)


def test_a_copy_into_pageable_memory_is_waited_for(gpu, pinned, side):
    device, out = gpu.mem_alloc(4 * COUNT), np.zeros(COUNT, np.float32)
    source = pinned(VALUES)
    gpu.memcpy_htod_async(device, source, side)
    gpu.memcpy_dtoh_async(out, device, side)
    np.testing.assert_array_equal(out, VALUES)


@pytest.mark.parametrize("what", ["device", "pinned"])
def test_memory_that_goes_before_its_turn_is_noticed(gpu, cuda, pinned, what):
    memory = {"device": gpu.mem_alloc(4 * COUNT), "pinned": pinned(VALUES)}
    stream = gpu.Stream()
    gpu.memcpy_htod_async(memory["device"], memory["pinned"], stream)
    del memory[what]
    assert raw.call("cuStreamSynchronize", stream.handle) == ILLEGAL_ADDRESS
    (problem,) = cuda.take_problems()
    assert "freed before its turn came" in problem


def test_lazily_what_nobody_waits_for_stays(gpu, cuda, side):
    devices, other = [gpu.mem_alloc(4 * COUNT) for _ in range(2)], gpu.Stream(raw.NON_BLOCKING)
    for device, stream in zip(devices, (side, other), strict=True):
        gpu.memset_d8_async(device, 0, 4 * COUNT, stream)
    side.synchronize()
    assert (read(cuda, devices[0]) == 0).all()
    assert np.isnan(read(cuda, devices[1])).all()
    other.synchronize()


def test_eagerly_what_may_come_first_does(gpu, cuda, side):
    cuda.configure(schedule="eager")
    device, other = gpu.mem_alloc(4 * COUNT), gpu.Stream(raw.NON_BLOCKING)
    gpu.memset_d8_async(device, 0, 4 * COUNT, side)
    gpu.memset_d8_async(device, 1, 4, other)
    side.synchronize()
    assert (cuda.memory(int(device), 4) == 0).all(), "the later stream came first"
    assert other.is_done()


@pytest.mark.parametrize("waits", [True, False])
def test_a_stream_that_waits_for_an_event_comes_after_it(gpu, cuda, pinned, side, schedule, waits):
    """Without the wait, what was to be copied is not there yet: under both schedules."""
    source, between, target = pinned(VALUES), gpu.mem_alloc(4 * COUNT), gpu.mem_alloc(4 * COUNT)
    other, event = gpu.Stream(raw.NON_BLOCKING), gpu.Event()
    gpu.memcpy_htod_async(between, source, other)
    event.record(other)
    if waits:
        side.wait_for_event(event)
    gpu.memcpy_dtod_async(target, between, 4 * COUNT, side)
    (side if schedule == "lazy" else other).synchronize()
    side.synchronize()
    assert np.isnan(read(cuda, target)).all() != waits
    other.synchronize()


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_overwritten_too_early_is_seen_eagerly(gpu, cuda, pinned, side, waits):
    """Tile n + 1 is copied to where tile n is still to be read."""
    cuda.configure(schedule="eager")
    place, target, later = gpu.mem_alloc(4 * COUNT), gpu.mem_alloc(4 * COUNT), pinned(-1)
    copies, read_it = gpu.Stream(raw.NON_BLOCKING), gpu.Event()
    gpu.memcpy_htod(place, VALUES)
    gpu.memcpy_dtod_async(target, place, 4 * COUNT, side)
    read_it.record(side)
    if waits:
        copies.wait_for_event(read_it)
    gpu.memcpy_htod_async(place, later, copies)
    side.synchronize()
    assert (read(cuda, target) == VALUES).all() == waits
    copies.synchronize()


def test_an_event_is_of_when_it_was_recorded(gpu, cuda, side, schedule):
    device, event = gpu.mem_alloc(8), gpu.Event()
    gpu.memset_d32_async(device, 1, 1, side)
    event.record(side)
    gpu.memset_d32_async(int(device) + 4, 1, 1, side)
    assert not event.query()
    event.synchronize()
    assert event.query()
    assert cuda.memory(int(device), 8).view(np.uint32).tolist() == [1, 0xFFFFFFFF]
    side.synchronize()
    event.synchronize()


def test_an_event_that_was_never_recorded_is_past(gpu, side):
    event = gpu.Event()
    assert event.query()
    event.synchronize()
    side.wait_for_event(event)
    assert side.is_done()


def test_events_measure_time(gpu, cuda, side):
    start, end = gpu.Event(), gpu.Event()
    start.record(side)
    cuda.enqueue(side.handle, lambda: threading.Event().wait(0.02))
    end.record(side)
    with pytest.raises(gpu.RuntimeError, match="device not ready"):
        start.time_till(end)
    end.synchronize()
    assert 20 <= start.time_till(end) < 2000
    silent = gpu.Event(gpu.event_flags.DISABLE_TIMING)
    silent.record(side)
    silent.synchronize()
    with pytest.raises(gpu.LogicError, match="invalid resource handle"):
        start.time_till(silent)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_legacy_stream_waits_for_blocking_streams(gpu, cuda, schedule, blocking):
    """So does a copy without a stream; streams that do not block are neither waited for nor wait."""
    stream = gpu.Stream(0 if blocking else raw.NON_BLOCKING)
    first, second, other = (gpu.mem_alloc(4) for _ in range(3))
    gpu.memset_d8_async(first, 0, 4, stream)
    gpu.memset_d8(second, 0, 4)
    gpu.memset_d8_async(other, 0, 4, stream)
    if blocking or schedule == "lazy":
        gpu.memcpy_dtoh(np.zeros(4, np.uint8), second)
        assert (cuda.memory(int(second), 4) == 0).all()
        assert (cuda.memory(int(first), 4) == 0).all() == blocking
    stream.synchronize()
    gpu.Context.synchronize()


@pytest.mark.parametrize("blocking", [True, False])
def test_blocking_streams_wait_for_the_legacy_stream(gpu, cuda, blocking):
    stream, first, second = gpu.Stream(0 if blocking else raw.NON_BLOCKING), gpu.mem_alloc(4), gpu.mem_alloc(4)
    gpu.memset_d8(first, 0, 4)
    gpu.memcpy_dtod_async(second, first, 4, stream)
    stream.synchronize()
    assert (cuda.memory(int(second), 4) == 0).all() == blocking
    gpu.Context.synchronize()


def test_the_context_waits_for_all(gpu, cuda, schedule):
    streams, devices = [gpu.Stream(flags) for flags in (0, 1, 0)], [gpu.mem_alloc(4) for _ in range(3)]
    for stream, device in zip(streams, devices, strict=True):
        gpu.memset_d8_async(device, 0, 4, stream)
    gpu.Context.synchronize()
    assert all(stream.is_done() for stream in streams)
    assert all((cuda.memory(int(device), 4) == 0).all() for device in devices)


def test_a_stream_with_work_is_not_destroyed_unnoticed(gpu, cuda):
    stream, device = gpu.Stream(), gpu.mem_alloc(4)
    gpu.memset_d8_async(device, 0, 4, stream)
    del stream
    assert cuda.take_problems() == ["cuStreamDestroy: the stream has work that nobody waited for"]
    gpu.Context.synchronize()


def test_functions_run_in_turn(gpu, cuda, side, schedule):
    device, seen = gpu.mem_alloc(4), []
    gpu.memset_d8_async(device, 1, 4, side)
    cuda.enqueue(side.handle, lambda: seen.append(cuda.memory(int(device), 4).tolist()), name="look")
    gpu.memset_d8_async(device, 2, 4, side)
    assert not seen
    side.synchronize()
    assert seen == [[1, 1, 1, 1]]
    assert cuda.executed() == ["fill 4", "look", "fill 4"]


def test_a_function_that_raises_is_a_problem_and_breaks_the_context(gpu, cuda, side):
    cuda.enqueue(side.handle, lambda: 1 / 0)
    assert raw.call("cuStreamSynchronize", side.handle) == LAUNCH_FAILED
    (problem,) = cuda.take_problems()
    assert "ZeroDivisionError" in problem


def test_a_function_may_fail_with_a_code(gpu, cuda, side):
    def fail() -> None:
        raise cuda.DriverError(ILLEGAL_ADDRESS)

    cuda.enqueue(side.handle, fail)
    assert raw.call("cuStreamSynchronize", side.handle) == ILLEGAL_ADDRESS
    assert not cuda.problems()


def test_a_function_that_uses_the_driver_is_noticed(gpu, cuda, side):
    codes = []
    cuda.enqueue(side.handle, lambda: codes.append(raw.call("cuStreamSynchronize", side.handle)))
    side.synchronize()
    assert codes == [800]
    assert "called by what runs on a stream" in cuda.take_problems()[0]


def test_a_function_is_refused_where_a_launch_would_be(gpu, cuda, side):
    with pytest.raises(cuda.DriverError) as raised:
        cuda.enqueue(side.handle + 1, lambda: None)
    assert raised.value.code == INVALID_HANDLE
    assert "was destroyed or never made" in cuda.take_problems()[0]
    fault = cuda.inject("enqueue", code=LAUNCH_FAILED)
    with pytest.raises(cuda.DriverError):
        cuda.enqueue(side.handle, lambda: None)
    assert fault.fired


def test_functions_are_forgotten_once_they_ran(gpu, cuda, side):
    import weakref

    class Held:
        def __call__(self) -> None:
            pass

    held = Held()
    gone = weakref.ref(held)
    cuda.enqueue(side.handle, held)
    del held
    side.synchronize()
    cuda.enqueue(side.handle, lambda: None)
    side.synchronize()
    assert gone() is None


def test_threads_wait_for_streams_of_their_own(gpu, cuda, schedule):
    """Each finds its own numbers, whichever thread carried the work out."""
    context = gpu.Context.get_current()
    found = {}

    def work(number: int) -> None:
        context.push()
        stream, device = gpu.Stream(raw.NON_BLOCKING), gpu.mem_alloc(4 * COUNT)
        out = gpu.pagelocked_empty(COUNT, np.float32)
        for step in range(20):
            gpu.memcpy_htod_async(device, VALUES + number + step, stream)
            cuda.enqueue(stream.handle, lambda: sum(range(1000)))
            gpu.memcpy_dtoh_async(out, device, stream)
            stream.synchronize()
            found[number, step] = out.copy()
        del stream, device, out
        gpu.Context.pop()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(found) == 80
    for (number, step), out in found.items():
        np.testing.assert_array_equal(out, VALUES + number + step)
