"""The simulation's laws of memory, contexts, faults and devices, through PyCUDA where it lets them through."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from tests.simulated_cuda.build import HERE, LIBRARY, environment
from tests.simulated_cuda.control import SimulationError

from . import raw

VALUES = np.arange(100, dtype=np.float32)
INVALID_VALUE, OUT_OF_MEMORY, NOT_INITIALIZED, DEVICE_UNAVAILABLE = 1, 2, 3, 46
INVALID_CONTEXT, ALREADY_REGISTERED, ILLEGAL_ADDRESS, CONTEXT_IS_DESTROYED, LAUNCH_FAILED, NOT_SUPPORTED = (
    201,
    712,
    700,
    709,
    719,
    801,
)


def floats(gpu, device, *, offset: int = 0, count: int = 100) -> np.ndarray:
    out = np.zeros(count, np.float32)
    gpu.memcpy_dtoh(out, int(device) + offset)
    return out


def only(problems: list[str], pattern: str) -> None:
    """There is one problem, and it reads like this."""
    assert len(problems) == 1, problems
    assert re.search(pattern, problems[0]), problems


def test_memory_begins_as_nan_and_keeps_what_is_copied(gpu):
    device, pinned = gpu.mem_alloc(VALUES.nbytes), gpu.pagelocked_empty(100, np.float32)
    assert np.isnan(floats(gpu, device)).all()
    assert np.isnan(pinned).all()
    gpu.memcpy_htod(device, VALUES)
    np.testing.assert_array_equal(floats(gpu, device), VALUES)
    np.testing.assert_array_equal(floats(gpu, device, offset=40, count=90), VALUES[10:])


OUTSIDE = {
    "past the end": (lambda device: device + 4, "with 400 bytes begins at byte 4 of an allocation of 400"),
    "before": (lambda device: device - 4, "lies in no allocation"),
    "null": (lambda device: 0, "0x0 is null"),
    "host": (lambda device: VALUES.ctypes.data, "is no device address, but one of the host or a number"),
}


@pytest.mark.parametrize("case", OUTSIDE)
@pytest.mark.parametrize("call", ["htod", "dtoh", "dtod", "memset", "htod_async", "dtoh_async", "memset_async"])
def test_a_pointer_outside_is_noticed(gpu, cuda, call, case):
    where, said = OUTSIDE[case]
    device, out = gpu.mem_alloc(VALUES.nbytes), np.zeros_like(VALUES)
    wrong = where(int(device))
    calls = {
        "htod": lambda: gpu.memcpy_htod(wrong, VALUES),
        "dtoh": lambda: gpu.memcpy_dtoh(out, wrong),
        "dtod": lambda: gpu.memcpy_dtod(device, wrong, VALUES.nbytes),
        "memset": lambda: gpu.memset_d8(wrong, 0, VALUES.nbytes),
        "htod_async": lambda: gpu.memcpy_htod_async(wrong, VALUES, gpu.Stream()),
        "dtoh_async": lambda: gpu.memcpy_dtoh_async(out, wrong, gpu.Stream()),
        "memset_async": lambda: gpu.memset_d8_async(wrong, 0, VALUES.nbytes, gpu.Stream()),
    }
    with pytest.raises(gpu.LogicError, match="invalid argument"):
        calls[call]()
    only(cuda.take_problems(), said)
    assert np.isnan(floats(gpu, device)).all()


def test_a_device_pointer_is_no_host_pointer(gpu, cuda):
    device, other = gpu.mem_alloc(400), gpu.mem_alloc(400)
    assert raw.call("cuMemcpyHtoD_v2", int(device), int(other), 400) == INVALID_VALUE
    only(cuda.take_problems(), "is no host address")


def test_the_host_cannot_read_device_memory():
    script = f"""
import ctypes
driver = ctypes.CDLL({str(LIBRARY)!r})
context, pointer = ctypes.c_void_p(), ctypes.c_uint64()
assert driver.cuInit(0) == 0
assert driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
assert driver.cuCtxPushCurrent_v2(context) == 0
assert driver.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(100)) == 0
print("allocated", flush=True)
ctypes.string_at(pointer.value, 1)
print("read")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["allocated"]
    assert done.returncode < 0, "the process should have been ended by a signal"


def test_freed_memory_is_seen_when_it_is_used(gpu, cuda):
    device = gpu.mem_alloc(400)
    address = int(device)
    device.free()
    with pytest.raises(gpu.LogicError):
        gpu.memcpy_htod(address, VALUES)
    only(cuda.take_problems(), "lies in memory of 400 bytes that was freed")
    with pytest.raises(SimulationError, match="that was freed"):
        cuda.memory(address, 4)


def test_freed_memory_is_seen_when_it_was_kept(gpu, cuda):
    device = gpu.mem_alloc(400)
    view = cuda.memory(int(device), 400)
    device.free()
    assert (view == 0xDB).all()
    view[17] = 1
    only(cuda.take_problems(), "byte 17 of 400 bytes of device memory at 0x.* was written after it was freed")


@pytest.mark.parametrize("again", [True, False])
def test_what_is_freed_was_allocated_and_is_freed_once(gpu, cuda, again):
    device = gpu.mem_alloc(400)
    address = int(device)
    if again:
        device.free()
    assert raw.call("cuMemFree_v2", address if again else address + 256) == INVALID_VALUE
    only(cuda.take_problems(), "was freed already" if again else "is where no allocation begins")


def test_pinned_memory_is_freed_as_such(gpu, cuda):
    pinned = gpu.pagelocked_empty(100, np.float32)
    address = pinned.ctypes.data
    assert raw.call("cuMemFree_v2", int(pinned.base.get_device_pointer())) == INVALID_VALUE
    only(cuda.take_problems(), "is pinned memory")
    del pinned
    assert raw.call("cuMemFreeHost", address) == INVALID_VALUE
    only(cuda.take_problems(), "was freed already")


def test_the_device_reaches_pinned_memory_by_its_own_address(gpu, cuda):
    pinned = gpu.pagelocked_empty(100, np.float32)
    pinned[:] = VALUES
    address = int(pinned.base.get_device_pointer())
    assert address != pinned.ctypes.data
    np.testing.assert_array_equal(cuda.memory(address, 400).view(np.float32), VALUES)


def test_registered_memory_is_pinned(gpu, cuda):
    """By the driver's own call: PyCUDA's `register_host_memory` ends the process with today's NumPy."""
    values = np.zeros(100, np.float32)
    address, stream, device = values.ctypes.data, gpu.Stream(), gpu.mem_alloc(400)
    assert raw.call("cuMemHostRegister_v2", address, 400, 0) == 0
    assert raw.call("cuMemHostRegister_v2", address + 40, 4, 0) == ALREADY_REGISTERED
    gpu.memcpy_htod_async(device, values, stream)
    values[:] = VALUES
    stream.synchronize()
    np.testing.assert_array_equal(floats(gpu, device), VALUES)
    assert any("400 bytes of pinned memory" in each for each in cuda.left())
    assert raw.call("cuMemHostUnregister", address) == 0
    np.testing.assert_array_equal(values, VALUES)


def test_what_is_left_is_listed(gpu, cuda):
    assert cuda.left() == ["a context is current on this thread"]
    device, pinned, stream, event = gpu.mem_alloc(400), gpu.pagelocked_empty(8, np.uint8), gpu.Stream(), gpu.Event()
    event.record(stream)
    found = "\n".join(cuda.left())
    for said in ("400 bytes of device memory", "8 bytes of pinned", "stream 0x", "event 0x", "1 operations wait"):
        assert said in found
    with pytest.raises(AssertionError, match=r"400 bytes of device memory at 0x.* are left"):
        cuda.assert_clean()
    stream.synchronize()
    del device, pinned, stream, event


def test_memory_has_an_end(gpu, cuda):
    cuda.configure(memory_bytes=1000)
    first = gpu.mem_alloc(600)
    assert gpu.mem_get_info() == (400, 1000)
    with pytest.raises(gpu.MemoryError, match="cuMemAlloc failed: out of memory"):
        gpu.mem_alloc(401)
    second = gpu.mem_alloc(400)
    first.free()
    assert gpu.mem_get_info() == (600, 1000)
    gpu.mem_alloc(600).free()
    second.free()


@pytest.mark.parametrize(("kind", "value"), [("d8", 0xA1), ("d16", 0xA1B2), ("d32", 0xA1B2C3D4)])
def test_fills_are_of_their_width(gpu, kind, value):
    device = gpu.mem_alloc(64)
    dtype = np.dtype(f"u{int(kind[1:]) // 8}")
    getattr(gpu, f"memset_{kind}")(int(device) + 8, value, 3)
    out = np.zeros(64, np.uint8)
    gpu.memcpy_dtoh(out, device)
    width = dtype.itemsize
    assert (out[8 : 8 + 3 * width].view(dtype) == value).all()
    assert (np.delete(out, np.s_[8 : 8 + 3 * width]) == 0xFF).all()


def test_a_rectangle_is_copied(gpu):
    """Rows of 5 bytes, 7 of them, out of rows of 16 and into rows of 9."""
    source = np.random.default_rng(0).integers(0, 255, (12, 16), dtype=np.uint8)
    device, out = gpu.mem_alloc(source.nbytes), np.zeros((7, 9), np.uint8)
    gpu.memcpy_htod(device, source)
    copy = gpu.Memcpy2D()
    copy.set_src_device(device)
    copy.set_dst_host(out)
    copy.src_pitch, copy.src_x_in_bytes, copy.src_y = 16, 3, 4
    copy.dst_pitch, copy.width_in_bytes, copy.height = 9, 5, 7
    copy(aligned=True)
    np.testing.assert_array_equal(out[:, :5], source[4:11, 3:8])
    assert (out[:, 5:] == 0).all()


def test_calls_need_a_context(cuda):
    pointer = ctypes.c_uint64()
    assert raw.call("cuMemAlloc_v2", ctypes.byref(pointer), 16) == INVALID_CONTEXT
    only(cuda.take_problems(), "cuMemAlloc: called without a current context")


def test_contexts_are_current_thread_by_thread(gpu, cuda):
    codes = []

    def allocate() -> None:
        codes.append(raw.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16))

    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert codes == [INVALID_CONTEXT]
    only(cuda.take_problems(), "without a current context")


def test_the_primary_context_is_one_until_its_last_release(cuda):
    import pycuda.driver as driver

    driver.init()
    device = driver.Device(0)
    first, second = device.retain_primary_context(), device.retain_primary_context()
    handle = first.handle
    assert second.handle == handle
    first.detach()
    second.push()
    memory = driver.mem_alloc(16)
    memory.free()
    second.detach()
    third = device.retain_primary_context()
    assert third.handle != handle
    third.detach()
    assert raw.call("cuDevicePrimaryCtxRelease_v2", 0) == INVALID_CONTEXT
    only(cuda.take_problems(), "released more often than retained")


def test_things_of_another_context_are_noticed(gpu, cuda):
    stream = gpu.Stream()
    other = gpu.Device(0).make_context()
    assert raw.call("cuStreamSynchronize", stream.handle) == INVALID_CONTEXT
    only(cuda.take_problems(), "stream 0x.* is of another context")
    other.pop()
    other.detach()
    stream.synchronize()


def test_a_destroyed_context_is_noticed(cuda):
    context, pointer = ctypes.c_uint64(), ctypes.c_uint64()
    assert raw.call("cuInit", 0) == 0
    assert raw.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0) == 0
    assert raw.call("cuCtxPushCurrent_v2", context.value) == 0
    assert raw.call("cuMemAlloc_v2", ctypes.byref(pointer), 16) == 0
    assert raw.call("cuDevicePrimaryCtxRelease_v2", 0) == 0
    only(cuda.take_problems(), "a context was destroyed with 1 allocation left in it")
    assert raw.call("cuMemAlloc_v2", ctypes.byref(pointer), 16) == CONTEXT_IS_DESTROYED
    only(cuda.take_problems(), "called on a context that was destroyed")
    assert raw.call("cuCtxPushCurrent_v2", context.value) == INVALID_CONTEXT
    only(cuda.take_problems(), "the context was destroyed or never made")


def test_a_handle_is_never_given_twice(gpu, cuda):
    handles = set()
    for _ in range(20):
        stream = gpu.Stream()
        assert stream.handle not in handles
        handles.add(stream.handle)
        del stream
    assert raw.call("cuStreamSynchronize", min(handles)) == 400
    only(cuda.take_problems(), "was destroyed or never made")


def test_the_nth_call_fails_once(gpu, cuda):
    fault = cuda.inject("cuStreamCreate", code=OUT_OF_MEMORY, after=2)
    device = gpu.mem_alloc(16)
    kept = [gpu.Stream(), gpu.Stream()]
    assert not fault.fired
    with pytest.raises(gpu.MemoryError):
        gpu.Stream()
    assert fault.fired
    kept.append(gpu.Stream())
    device.free()


def test_pycuda_asks_twice_for_memory(gpu, cuda):
    """It collects garbage in between: a test that wants an allocation to fail has two calls fail."""
    first = cuda.inject("cuMemAlloc", code=OUT_OF_MEMORY)
    gpu.mem_alloc(16).free()
    assert first.fired
    faults = [cuda.inject("cuMemAlloc", code=OUT_OF_MEMORY) for _ in range(2)]
    with pytest.raises(gpu.MemoryError):
        gpu.mem_alloc(16)
    assert all(fault.fired for fault in faults)


def test_what_gives_back_does_so_while_it_reports(gpu, cuda, capfd):
    device = gpu.mem_alloc(16)
    cuda.inject("cuMemFree", code=INVALID_VALUE)
    device.free()
    assert "cuMemFree failed: invalid argument" in capfd.readouterr().err
    assert gpu.mem_get_info()[0] == 4 << 30


@contextmanager
def current(driver):
    """The primary context of a driver that is `pycuda.driver`, current."""
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    yield
    context.detach()


@pytest.mark.parametrize("code", [ILLEGAL_ADDRESS, LAUNCH_FAILED])
def test_an_error_of_the_context_stays_until_it_is_destroyed(cuda, capfd, code):
    import pycuda.driver as driver

    with current(driver):
        device, stream = driver.mem_alloc(16), driver.Stream()
        driver.memset_d8_async(device, 0, 16, stream)
        cuda.inject("cuStreamSynchronize", code=code)
        for _ in range(2):
            assert raw.call("cuStreamSynchronize", stream.handle) == code
            assert raw.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16) == code
            assert raw.call("cuMemcpyHtoD_v2", int(device), VALUES.ctypes.data, 16) == code
        assert raw.call("cuDeviceGetCount", ctypes.byref(ctypes.c_int())) == 0
        del device, stream
    assert "a clean-up operation failed" in capfd.readouterr().err
    with current(driver):
        driver.mem_alloc(16).free()


def test_what_a_broken_context_could_not_give_back_is_no_leak(cuda):
    import pycuda.driver as driver

    with current(driver):
        raw.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 16)
        cuda.inject("cuCtxSynchronize", code=ILLEGAL_ADDRESS)
        with pytest.raises(driver.LogicError):
            driver.Context.synchronize()


def test_a_lost_device_stays_lost(cuda):
    import pycuda.driver as driver

    driver.init()
    cuda.inject("cuDeviceGetCount", code=DEVICE_UNAVAILABLE)
    for _ in range(2):
        with pytest.raises(driver.LogicError, match="busy or unavailable"):
            driver.Device.count()
        with pytest.raises(driver.LogicError, match="busy or unavailable"):
            driver.Device(0)
    cuda.reset()
    assert driver.Device.count() == 1


def test_calls_are_written_down(gpu, cuda):
    cuda.forget_calls()
    stream, device = gpu.Stream(), gpu.mem_alloc(400)
    gpu.memset_d8_async(device, 0, 400, stream)
    assert raw.call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), 1 << 40) == OUT_OF_MEMORY
    stream.synchronize()
    assert [(call.name, call.code, call.stream, call.bytes) for call in cuda.calls()] == [
        ("cuStreamCreate", 0, 0, 0),
        ("cuMemAlloc", 0, 0, 400),
        ("cuMemsetD8Async", 0, stream.handle, 400),
        ("cuMemAlloc", OUT_OF_MEMORY, 0, 1 << 40),
        ("cuStreamSynchronize", 0, stream.handle, 0),
    ]
    assert cuda.executed() == ["fill 400"]


@pytest.mark.parametrize(("capability", "integrated", "shared"), [(87, 1, 163), (90, 0, 227), (110, 1, 227)])
def test_the_device_is_as_configured(cuda, capability, integrated, shared):
    import pycuda.driver as driver

    driver.init()
    cuda.configure(name="A board", capability=capability, memory_bytes=5 << 30, driver_version=12060)
    device = driver.Device(0)
    assert (device.name(), device.total_memory()) == ("A board", 5 << 30)
    assert device.compute_capability() == divmod(capability, 10)
    assert driver.get_driver_version() == 12060
    attribute = driver.device_attribute
    assert device.get_attribute(attribute.INTEGRATED) == integrated
    assert device.get_attribute(attribute.MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) == shared * 1024
    assert len(device.get_attributes()) > 50


def test_what_is_not_simulated_says_so(gpu):
    with pytest.raises(gpu.LogicError, match="operation not supported"):
        gpu.managed_empty(16, np.uint8, mem_flags=gpu.mem_attach_flags.GLOBAL)
    source = (HERE / "driver" / "api_unsupported.cpp").read_text(encoding="utf-8")
    names = re.findall(r"^UPERFUSE_UNSUPPORTED\((\w+)\)", source, re.MULTILINE)
    assert len(names) > 50
    for name in names:
        assert raw.call(name) == NOT_SUPPORTED


def test_entry_points_are_looked_up(cuda):
    found, status = ctypes.c_void_p(), ctypes.c_int()
    for name, code in (("cuMemAlloc", 0), ("cuStreamBeginCapture", 0), ("cuNothing", 500)):
        asked = (name.encode(), ctypes.byref(found), 13000, 0, ctypes.byref(status))
        assert raw.call("cuGetProcAddress_v2", *asked) == code
        assert bool(found.value) == (code == 0)


def test_calls_before_the_beginning_are_noticed():
    script = """
import ctypes
from tests.simulated_cuda import control
driver = ctypes.CDLL("libcuda.so.1")
print(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())), *control.problems())
"""
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == f"{NOT_INITIALIZED} cuDeviceGetCount: called before cuInit\n"
