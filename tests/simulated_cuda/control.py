"""How a test talks to the simulated driver of its process: settings, faults, what was called, what is left.

A process has one driver, and so does this module; `suite/conftest.py` resets it before each test. Device memory and
streams are named as the driver names them, by integers.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from uperfuse.engine.launching import LaunchRecord
from uperfuse.kernels.boards import BOARDS

from .build import LIBRARY

__all__ = [
    "Call",
    "DriverError",
    "Injection",
    "SimulationError",
    "assert_clean",
    "calls",
    "configure",
    "enqueue",
    "executed",
    "forget_calls",
    "inject",
    "left",
    "memory",
    "problems",
    "register",
    "reset",
    "take_problems",
]

INVALID_VALUE = 1
OUT_OF_MEMORY = 2
DEVICE_UNAVAILABLE = 46
NO_BINARY_FOR_GPU = 209
ILLEGAL_ADDRESS = 700
LAUNCH_FAILED = 719
"""Codes that tests name; the others stand in `cuda.h`."""

EMBEDDED = {87, 110}
"""Capabilities of boards that share the memory of their host."""
SMALL_SHARED_BYTES = 64 * 1024
"""Shared memory of a block on boards for which no kernel is compiled."""


class SimulationError(RuntimeError):
    """Something was asked of device memory that the device could not do."""


class DriverError(RuntimeError):
    """A call failed, or is to fail: raised by `enqueue`, or by a function on a stream to fail with a code.

    Attributes:
        code: of the driver.
    """

    def __init__(self, code: int) -> None:
        super().__init__(f"the driver says {code}")
        self.code = code


@dataclass(frozen=True)
class Call:
    """One call of the driver.

    Attributes:
        name: without a version: `cuMemAlloc`; `enqueue` for a function put on a stream.
        code: its result.
        stream: handle of the stream it named, 0 if none.
        bytes: that it allocated, copied or filled.
    """

    name: str
    code: int
    stream: int
    bytes: int


@dataclass(frozen=True)
class Injection:
    """A fault that was ordered; `fired` says whether the call has come."""

    number: int

    @property
    def fired(self) -> bool:
        """Whether the call has come and failed."""
        return not _library.sim_is_injected(self.number)


class _Settings(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("capability", ctypes.c_int),
        ("memory_bytes", ctypes.c_uint64),
        ("integrated", ctypes.c_int),
        ("driver_version", ctypes.c_int),
        ("block_shared_bytes", ctypes.c_int),
        ("multiprocessors", ctypes.c_int),
        ("takes_ptx", ctypes.c_int),
        ("eager", ctypes.c_int),
    )


class RawLaunch(ctypes.Structure):
    """A kernel's launch as the driver hands it over."""

    _fields_ = (
        ("module", ctypes.c_uint64),
        ("image", ctypes.c_void_p),
        ("image_bytes", ctypes.c_size_t),
        ("kernel", ctypes.c_char_p),
        ("parameters", ctypes.c_void_p),
        ("parameter_bytes", ctypes.c_size_t),
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
    )


_RunKernel = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(RawLaunch))
_RunFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint64)
_DropFunction = ctypes.CFUNCTYPE(None, ctypes.c_uint64)

_numbers = itertools.count(1)
_functions: dict[int, Callable[[], None]] = {}
_records: dict[str, LaunchRecord] = {}


def configure(
    *,
    name: str = "Simulated GPU",
    capability: int = 87,
    memory_bytes: int = 4 << 30,
    integrated: bool | None = None,
    driver_version: int = 13000,
    ptx: bool = True,
    schedule: Literal["lazy", "eager"] = "lazy",
) -> None:
    """Choose the device and its driver; all that is left out becomes what it is by default.

    Args:
        name: of the device.
        capability: compute capability, 87 for 8.7.
        memory_bytes: of the device.
        integrated: shares the host's memory; follows from the capability if None.
        driver_version: 12060 for CUDA 12.6.
        ptx: whether the driver compiles PTX.
        schedule: "lazy" runs what is waited for and nothing else, in order; "eager" runs everything else first that
            may run, the latest first. A program is right when its numbers are, under both.
    """
    board = BOARDS.get(capability)
    settings = _Settings(
        name=name.encode(),
        capability=capability,
        memory_bytes=memory_bytes,
        integrated=capability in EMBEDDED if integrated is None else integrated,
        driver_version=driver_version,
        block_shared_bytes=board.block_shared_bytes if board else SMALL_SHARED_BYTES,
        multiprocessors=16,
        takes_ptx=ptx,
        eager=schedule == "eager",
    )
    _library.sim_configure(ctypes.byref(settings))


def reset() -> None:
    """Begin anew, with the default device: contexts and all that is in them are gone, and so are records and faults."""
    _library.sim_reset()
    _functions.clear()
    _records.clear()
    configure()


def register(records: Iterable[LaunchRecord]) -> None:
    """Make known what launches of these kernels mean, as cubin or as PTX.

    Args:
        records: as they lie beside the cubins.
    """
    for record in records:
        _records[record.cubin.sha256] = _records[record.ptx.sha256] = record


def record_of(sha256: str) -> LaunchRecord | None:
    """The registered record of a module's image."""
    return _records.get(sha256)


def enqueue(stream: int, function: Callable[[], None], *, name: str = "host function") -> None:
    """Put a function on a stream, or into the graph that the stream captures.

    It runs when its turn comes, once per launch of a graph, on whichever thread waits. It may use `memory` and no call
    of the driver. What it raises is a problem and breaks the context; `DriverError` breaks it with that code alone.

    Args:
        stream: handle.
        function: takes and returns nothing.
        name: under which `executed` lists it.

    Raises:
        DriverError: the call is refused, as a kernel's launch would be.
    """
    number = next(_numbers)
    _functions[number] = function
    code = _library.sim_enqueue(stream, number, name.encode())
    if code:
        raise DriverError(code)


def memory(pointer: int, nbytes: int) -> NDArray[np.uint8]:
    """What lies at a device address, now: nothing is waited for.

    Args:
        pointer: device address.
        nbytes: from there.

    Returns:
        uint8 [nbytes] that can be written; must not be kept.

    Raises:
        SimulationError: not all of it lies inside of one live allocation.
    """
    why = ctypes.create_string_buffer(500)
    if nbytes == 0:
        return np.empty(0, np.uint8)
    host = _library.sim_reach(pointer, nbytes, why, len(why))
    if not host:
        raise SimulationError(why.value.decode())
    return np.frombuffer((ctypes.c_uint8 * nbytes).from_address(host), np.uint8)


def inject(call: str, *, code: int, after: int = 0) -> Injection:
    """Make a call fail that is still to come.

    A call that gives something back (`cuMemFree`) does so all the same, as a real one does that reports an error from
    before. An error that stays (ILLEGAL_ADDRESS, LAUNCH_FAILED) breaks the context until it is destroyed; a lost device
    (DEVICE_UNAVAILABLE) stays until `reset`. PyCUDA asks a second time for memory that it did not get.

    Args:
        call: its name, without a version.
        code: with which it fails.
        after: how many calls of that name work before.
    """
    number = next(_numbers)
    _library.sim_inject(call.encode(), code, after, number)
    return Injection(number)


def calls() -> list[Call]:
    """Everything that was called since the last `reset` or `forget_calls`, in order."""
    found = []
    for text in _texts("calls"):
        name, code, stream, size = text.split("\x1f")
        found.append(Call(name, int(code), int(stream), int(size)))
    return found


def executed() -> list[str]:
    """What was carried out on streams, in order: kernels, copies, functions by name, graphs after their nodes."""
    return _texts("executed")


def forget_calls() -> None:
    """Empty `calls` and `executed`."""
    _library.sim_forget(b"calls")


def problems() -> list[str]:
    """Mistakes that were noticed, in words, since the last `reset` or `take_problems`."""
    return _texts("problems")


def take_problems() -> list[str]:
    """The same, and forgets them: for tests that make mistakes on purpose."""
    found = problems()
    _library.sim_forget(b"problems")
    return found


def left() -> list[str]:
    """What nobody gave back: memory, handles, work on streams, contexts that are current on this thread."""
    return _texts("left")


def assert_clean() -> None:
    """Fail where a mistake was noticed or something was not given back."""
    found = problems() + left()
    assert not found, "\n".join(found)


def _texts(which: str) -> list[str]:
    size = _library.sim_text(which.encode(), None, 0)
    room = ctypes.create_string_buffer(size + 1)
    # nothing is called in between but by other threads, whose calls may be cut off
    size = min(size, _library.sim_text(which.encode(), room, size))
    return room.raw[:size].decode(errors="replace").split("\x1e")[:-1]


def _guarded(what: str, run: Callable[[], None]) -> int:
    """Run what an operation on a stream is; its code."""
    try:
        run()
    except DriverError as error:
        return error.code
    except SimulationError as error:
        _library.sim_problem(f"{what}: {error}".encode())
        return ILLEGAL_ADDRESS
    except BaseException:  # noqa: BLE001  nothing may pass through the driver
        _library.sim_problem(f"{what}: {traceback.format_exc()}".encode())
        return LAUNCH_FAILED
    return 0


@_RunFunction
def _run_function(number: int) -> int:
    return _guarded("host function", _functions[number])


@_DropFunction
def _drop_function(number: int) -> None:
    _functions.pop(number, None)


@_RunKernel
def _run_kernel(launch: ctypes._Pointer[RawLaunch]) -> int:
    def run() -> None:
        from .launches import carry_out  # what launches mean needs PyTorch

        carry_out(launch.contents)

    return _guarded(f"kernel {launch.contents.kernel.decode()}", run)


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(str(LIBRARY))
    library.sim_enqueue.argtypes = (ctypes.c_void_p, ctypes.c_uint64, ctypes.c_char_p)
    library.sim_reach.argtypes = (ctypes.c_uint64, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)
    library.sim_reach.restype = ctypes.c_void_p
    library.sim_inject.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_int, ctypes.c_uint64)
    library.sim_is_injected.argtypes = (ctypes.c_uint64,)
    library.sim_text.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
    library.sim_text.restype = ctypes.c_size_t
    library.sim_callbacks.argtypes = (_RunKernel, _RunFunction, _DropFunction)
    library.sim_callbacks(_run_kernel, _run_function, _drop_function)
    # objects that go with the interpreter may call the driver when nothing can answer any more
    atexit.register(library.sim_callbacks, _RunKernel(), _RunFunction(), _DropFunction())
    return library


_library = _load()
