"""The simulation keeps its own laws, through PyCUDA."""

from __future__ import annotations

import numpy as np


def test_memory_begins_as_nan_and_keeps_what_is_copied(gpu):
    values = np.arange(100, dtype=np.float32)
    device, back = gpu.mem_alloc(values.nbytes), np.zeros_like(values)
    gpu.memcpy_dtoh(back, device)
    assert np.isnan(back).all()
    gpu.memcpy_htod(device, values)
    gpu.memcpy_dtoh(back, device)
    np.testing.assert_array_equal(back, values)
