"""The extension where there is no CUDA; `simulated_cuda/suite/test_cuda_graph.py` is about what it does with it."""

import re
import subprocess
import sys

import pytest

from uperfuse.engine import _native

NOT_FOUND = 500


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_importing_the_extension_opens_no_driver():
    says = "from uperfuse.engine import _native; print('libcuda' in open('/proc/self/maps').read())"
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_version_is_a_number_or_nothing():
    version = _native.cuda_driver_version()
    assert version == 0 or 12000 <= version < 100000


@pytest.mark.parametrize("call", ["capture_begin", "capture_end", "capture_abort"])
@pytest.mark.skipif(_native.cuda_driver_version() > 0, reason="this machine has a CUDA driver")
def test_without_a_driver_says_so(call):
    with pytest.raises(_native.CudaError) as raised:
        getattr(_native.CudaGraph, call)(0)
    assert isinstance(raised.value, RuntimeError)
    assert (raised.value.code, raised.value.call) == (NOT_FOUND, "libcuda.so.1")
    assert re.fullmatch(
        r"libcuda\.so\.1 cannot be opened, expected .* NVIDIA GPU; install the driver", str(raised.value)
    )


def test_a_graph_is_made_by_recording_alone():
    with pytest.raises(TypeError, match="No constructor"):
        _native.CudaGraph()


@pytest.mark.parametrize("stream", [-1, "0", None, 1.5])
def test_a_stream_is_a_handle(stream):
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _native.CudaGraph.capture_begin(stream)
