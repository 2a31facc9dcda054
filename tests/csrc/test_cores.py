"""Threads that help a caller are kept off its core, and nothing else is moved."""

import os
import sys

import numpy as np
import pytest

from uperfuse.engine import _native

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads are kept on cores on Linux alone")


def test_a_caller_keeps_its_cores_however_soon_its_helpers_end():
    """An ended thread has no number any more; what is asked of it would be done to the caller."""
    before = os.sched_getaffinity(0)
    tile = np.zeros((1, 4096, 1), np.uint8)
    out = np.empty((1, 4096, 1), np.float32)
    channels = {"band": [0], "minus": [-1], "mean": [0.0], "std": [1.0]}
    try:
        for _ in range(1000):
            _native.prepare(tile, out=out, **channels, threads=8)
            assert os.sched_getaffinity(0) == before
    finally:
        os.sched_setaffinity(0, before)
