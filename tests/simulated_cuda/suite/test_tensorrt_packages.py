"""The other packages of TensorRT: runtimes without a builder, and TensorRT-RTX, each simulated."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import simulated_tensorrt

from tests.engine.tensorrt.graphs import COLUMNS, ROWS, image_graph
from uperfuse.engine import BackendError
from uperfuse.engine.tensorrt import Compiler, Runtime, find_flavour

OTHERS = Path(__file__).resolve().parents[1] / "standins" / "others"
WORKSPACE_BYTES = 64 << 20


@pytest.fixture
def packages(cuda, monkeypatch):
    """`packages("tensorrt_lean")` is a machine that has these packages alone."""

    def install(*names: str) -> None:
        monkeypatch.syspath_prepend(str(OTHERS))
        for name in ("tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx"):
            monkeypatch.delitem(sys.modules, name, raising=False)
            if name not in names:
                monkeypatch.setitem(sys.modules, name, None)
        for name, version in (("tensorrt", "10.3.0"), ("tensorrt_rtx", "1.7.1.116")):
            simulated_tensorrt.configure(package=name, version=version)

    return install


def run_once(gpu, loaded) -> np.ndarray:
    """Bind everything, run, and give back what came out, in float32."""
    context, stream = loaded.context(0), gpu.Stream()
    pixels = gpu.mem_alloc(4 * 3 * ROWS * COLUMNS)
    level = gpu.mem_alloc(4 * 8 * ROWS * COLUMNS)
    scratch = gpu.mem_alloc(loaded.activation_bytes)
    gpu.memcpy_htod(pixels, np.linspace(-1, 1, 3 * ROWS * COLUMNS, dtype=np.float32))
    context.bind("pixels", int(pixels))
    context.bind("level0", int(level))
    context.use_memory(int(scratch), loaded.activation_bytes)
    assert context.capturable(stream.handle)
    context.enqueue(stream.handle)
    stream.synchronize()
    found = np.empty((ROWS, COLUMNS, 8), np.float32)
    gpu.memcpy_dtoh(found, level)
    return found


@pytest.mark.parametrize("package", ["tensorrt_lean", "tensorrt_dispatch"])
def test_runtimes_without_a_builder_take_version_compatible_engines(packages, gpu, package):
    packages("tensorrt")
    graph = image_graph(dtype="float32")
    full = find_flavour("auto", need="build")
    assert str(full) == "tensorrt 10.3.0"
    own = Compiler(full, workspace_bytes=WORKSPACE_BYTES).compile(graph, batches=(1,)).data
    portable = (
        Compiler(full, workspace_bytes=WORKSPACE_BYTES, version_compatible=True).compile(graph, batches=(1,)).data
    )
    whole = Runtime(full)
    expected = run_once(gpu, whole.load(graph.part, own, profiles=1))
    whole.close()

    packages(package)
    with pytest.raises(
        BackendError, match=rf"tensorrt is not installed.*{package} runs version-compatible engines alone"
    ):
        find_flavour("auto", need="run")
    with pytest.raises(BackendError, match=rf"{package} only runs engines"):
        find_flavour("tensorrt", need="build")
    flavour = find_flavour("auto", need="run", version_compatible=True)
    assert (flavour.package, flavour.name) == (package, "tensorrt")
    with pytest.raises(BackendError, match="only runs engines; install the whole of TensorRT"):
        Compiler(flavour, workspace_bytes=WORKSPACE_BYTES)
    with pytest.raises(BackendError, match="runs version-compatible engines alone"):
        Runtime(flavour)
    runtime = Runtime(flavour, version_compatible=True)
    with pytest.raises(BackendError, match="is not version-compatible, and this runtime takes no other"):
        runtime.load(graph.part, own, profiles=1)
    np.testing.assert_array_equal(run_once(gpu, runtime.load(graph.part, portable, profiles=1)), expected)
    runtime.close()


def test_the_whole_of_tensorrt_comes_first(packages, gpu):
    packages("tensorrt", "tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")
    assert find_flavour("auto", need="run", version_compatible=True).package == "tensorrt"
    packages("tensorrt_lean", "tensorrt_dispatch", "tensorrt_rtx")
    assert find_flavour("auto", need="run", version_compatible=True).package == "tensorrt_lean"
    assert find_flavour("auto", need="build").package == "tensorrt_rtx"
    packages("tensorrt", "tensorrt_rtx")
    assert find_flavour("rtx", need="run").package == "tensorrt_rtx"


def test_tensorrt_rtx_runs_what_was_built_without_the_gpu(packages, gpu, cuda):
    packages("tensorrt", "tensorrt_rtx")
    graph = image_graph(dtype="float32")
    rtx = find_flavour("rtx", need="build")
    data = Compiler(rtx, workspace_bytes=WORKSPACE_BYTES).compile(graph, batches=(1,)).data
    narrow = Compiler(rtx, workspace_bytes=WORKSPACE_BYTES, capability=120).compile(graph, batches=(1,)).data

    cuda.configure(capability=89, integrated=False)
    runtime = Runtime(rtx)
    assert np.isfinite(run_once(gpu, runtime.load(graph.part, data, profiles=1))).all()
    with pytest.raises(BackendError, match=r"another kind of GPU.*expecting compute 8\.9 got compute 12"):
        runtime.load(graph.part, narrow, profiles=1)
    runtime.close()

    other = Runtime(find_flavour("tensorrt", need="run"))
    with pytest.raises(BackendError, match="is damaged"):
        other.load(graph.part, data, profiles=1)
    other.close()
