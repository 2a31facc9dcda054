"""Faults in every call of the driver: an error in words, nothing left behind, and a next attempt that works."""

from __future__ import annotations

import gc
from collections import Counter
from contextlib import suppress

import pytest

from tests.simulated_cuda.control import (
    DEVICE_UNAVAILABLE,
    ILLEGAL_ADDRESS,
    LAUNCH_FAILED,
    NO_BINARY_FOR_GPU,
    OUT_OF_MEMORY,
)
from tests.simulated_cuda.suite.engine_cases import assert_same, tiles_of
from uperfuse.engine import BackendError, Engine

# Calls that give something back report errors of earlier work; the program has nothing to do about them.
GIVES_BACK = {
    "cuCtxPopCurrent",
    "cuDevicePrimaryCtxRelease",
    "cuEventDestroy",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuMemFree",
    "cuMemFreeHost",
    "cuModuleUnload",
    "cuStreamDestroy",
}
# What tells of errors, of versions, or of the thread's context; PyCUDA takes these as they are.
ASKS = {"cuCtxGetCurrent", "cuCtxGetId", "cuDriverGetVersion", "cuGetErrorString", "cuInit", "enqueue"}


def use(path, tiles):
    """Load, predict twice, close."""
    with Engine.load(path, device="cuda") as engine:
        engine.predict(tiles)
        return engine.predict(tiles)


@pytest.fixture
def case(build, cuda):
    """A plan, tiles, what is right, and how often each call of the driver is made."""
    path = build("aerial")
    with Engine.load(path, device="cpu", precision="float32") as cpu:
        tiles = tiles_of(cpu, count=3)
        truth = cpu.predict(tiles)
    cuda.forget_calls()
    assert_same(use(path, tiles), truth)
    gc.collect()
    cuda.assert_clean()
    return path, tiles, truth, Counter(call.name for call in cuda.calls())


def spoil_and_recover(case, cuda, name, code, after):
    """One fault: an error in words, nothing left, and an attempt that works.

    Returns:
        The words; none where the fault came when all was done and things were given back.
    """
    path, tiles, truth, _ = case
    fault = cuda.inject(name, code=code, after=after)
    words = ""
    try:
        assert_same(use(path, tiles), truth)
    except BackendError as error:
        words = str(error)
    assert fault.fired, f"{name} was not called {after + 1} times"
    gc.collect()
    left = cuda.left()
    assert not left, f"{name} {code}: {words}: {left}"
    problems = [each for each in cuda.take_problems() if "broke" not in each]
    assert not problems, f"{name} {code}: {words}: {problems}"
    if code != DEVICE_UNAVAILABLE:  # which is gone for the rest of this process
        assert_same(use(path, tiles), truth)
    return words


@pytest.mark.parametrize(("where", "code"), [("first", OUT_OF_MEMORY), ("last", LAUNCH_FAILED)])
def test_every_call_may_fail(case, cuda, where, code):
    counts = {name: count for name, count in case[3].items() if name not in GIVES_BACK | ASKS}
    assert len(counts) > 15
    silent = set()
    for name, count in sorted(counts.items()):
        words = spoil_and_recover(case, cuda, name, code, 0 if where == "first" else count - 1)
        if not words:
            silent.add(name)
        else:
            assert words.count(";") >= 1, f"{name}: {words}"
    # what an engine waits for, and makes current, when it is closed; PyCUDA asks for memory twice
    assert silent <= ({"cuMemAlloc"} if where == "first" else {"cuCtxPushCurrent", "cuStreamSynchronize"})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(GIVES_BACK - {"cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"}))
def test_a_call_that_gives_something_back_may_complain(case, cuda, name):
    path, tiles, truth, _ = case
    fault = cuda.inject(name, code=LAUNCH_FAILED)
    with suppress(BackendError):
        assert_same(use(path, tiles), truth)
    gc.collect()
    assert fault.fired
    assert not cuda.left()
    cuda.take_problems()
    assert_same(use(path, tiles), truth)


def test_out_of_memory_says_how_much_is_missing(case, cuda):
    words = spoil_and_recover(case, cuda, "cuMemAlloc", OUT_OF_MEMORY, 0)
    assert "memory" in words.lower()
    assert "--batch" in words


def test_a_small_board_is_refused_before_anything_runs(case, cuda):
    path, tiles, truth, _ = case
    cuda.configure(memory_bytes=1 << 20)
    with pytest.raises(BackendError, match=r"has \d+ MB of 1 MB free, expected \d+ MB; close other programs"):
        Engine.load(path, device="cuda")
    gc.collect()
    assert not cuda.left()
    cuda.take_problems()
    cuda.configure()
    assert_same(use(path, tiles), truth)


def test_a_broken_context_is_said_to_be_lost_and_replaced(case, cuda):
    words = spoil_and_recover(case, cuda, "cuGraphLaunch", ILLEGAL_ADDRESS, 0)
    assert "illegal memory access" in words
    assert "load again" in words


def test_kernels_of_another_board_are_named(case, cuda):
    words = spoil_and_recover(case, cuda, "cuModuleLoadDataEx", NO_BINARY_FOR_GPU, 0)
    assert "no kernel image" in words or "cannot be loaded on Simulated GPU" in words
    assert "uperfuse build" in words


def test_a_lost_device_is_said_to_be_lost(case, cuda):
    words = spoil_and_recover(case, cuda, "cuGraphLaunch", DEVICE_UNAVAILABLE, 0)
    assert "load again" in words
