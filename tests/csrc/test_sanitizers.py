"""The extension stays within its arrays: as built for users, and under the sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

import cmake
import pybind11
import pytest

from tests.simulated_cuda.build import LIBRARY
from uperfuse.engine import _native

HERE = Path(__file__).parent
CMAKE = Path(cmake.CMAKE_BIN_DIR) / "cmake"


def run(*command, **environment):
    result = subprocess.run(
        [str(part) for part in command], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, f"{command[0]} exited with {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    """The extension, built with the sanitizers."""
    build = tmp_path_factory.mktemp("sanitized")
    settings = {
        "UPERFUSE_SANITIZE": "ON",
        "CMAKE_BUILD_TYPE": "RelWithDebInfo",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    run(CMAKE, "-S", HERE.parent.parent, "-B", build, "-G", "Unix Makefiles", *defined)
    run(CMAKE, "--build", build, "--parallel", 2)
    return next(build.glob("_native*.so"))


@pytest.fixture(scope="module")
def preload(sanitized):
    """What must be loaded before a Python built without sanitizers: theirs, and the one whose exceptions they watch."""
    paths = [line.split()[2] for line in run("ldd", sanitized).splitlines() if "=> /" in line]
    chosen = [path for library in ("asan", "stdc++", "c++") for path in paths if f"lib{library}" in path]
    assert any("asan" in path for path in chosen), f"the sanitized build links no sanitizer: {paths}"
    return " ".join(dict.fromkeys(chosen))


def test_ugly_shapes_as_installed():
    assert run(sys.executable, HERE / "ugly_shapes.py", _native.__file__).split() == ["clean", *_native.levels()]


def test_ugly_shapes_under_sanitizers(sanitized, preload):
    # The interpreter keeps memory until the process ends; that is no leak of ours.
    options = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "OPENBLAS_NUM_THREADS": "1"}
    said = run(sys.executable, HERE / "ugly_shapes.py", sanitized, **options)
    assert said.split() == ["clean", *_native.levels()]


def test_graphs_without_a_driver_under_sanitizers(sanitized, preload):
    nowhere = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}
    assert run(sys.executable, HERE / "record_graphs.py", sanitized, **nowhere).split() in (["0"], ["driver"])


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated driver is built on Linux alone")
def test_graphs_on_the_simulated_driver_under_sanitizers(sanitized, preload):
    options = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0", "LD_LIBRARY_PATH": str(LIBRARY.parent)}
    said = run(sys.executable, HERE / "record_graphs.py", sanitized, LIBRARY, **options)
    assert said.split() == ["clean"]
