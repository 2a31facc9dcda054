"""Builds the simulated driver and PyCUDA on top of it: `python -m tests.simulated_cuda.build`.

    build/simulated_cuda/lib/libcuda.so.1    the driver
    build/simulated_cuda/site/pycuda         PyCUDA from its sources, as a user's pip builds it, linked to that driver

Neither is installed: a process meets them through `environment()`. PyCUDA is built once for its version, this Python,
NumPy and the CUDA headers.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import cmake
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
BUILT = ROOT / "build" / "simulated_cuda"
LIBRARY = BUILT / "lib" / "libcuda.so.1"
SITE = BUILT / "site"
STANDINS = HERE / "standins"
PYCUDA = "2026.1"

# What the wheels of NVIDIA's headers lack: the little that PyCUDA takes of it.
PROFILER_HEADER = """\
#pragma once
#include <cuda.h>
extern "C" {
typedef enum { CU_OUT_KEY_VALUE_PAIR = 0, CU_OUT_CSV = 1 } CUoutput_mode;
CUresult CUDAAPI cuProfilerInitialize(const char* configuration, const char* output, CUoutput_mode mode);
CUresult CUDAAPI cuProfilerStart(void);
CUresult CUDAAPI cuProfilerStop(void);
}
"""


class BuildError(RuntimeError):
    """The simulation cannot be built."""


def cuda_headers() -> Path:
    """Folder of `cuda.h` among the installed wheels."""
    spec = importlib.util.find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for header in sorted(Path(place).glob("*/include/cuda.h")):
            return header.parent
    raise BuildError("cuda.h is in none of the installed nvidia wheels, which torch brings on Linux; install torch")


def environment() -> dict[str, str]:
    """Environment of a process that finds the simulated driver, PyCUDA, and what takes the place of TensorRT."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    return outside | {
        "LD_LIBRARY_PATH": str(LIBRARY.parent),
        "PYTHONPATH": os.pathsep.join(map(str, (SITE, STANDINS, ROOT))),
    }


def build() -> None:
    """Build what is missing or older than its sources.

    Raises:
        BuildError: a compiler, header or package that is needed is not there; the message ends with what it said.
    """
    build_driver()
    wanted = "\n".join((PYCUDA, sys.version, np.__version__, str(cuda_headers()), _settings()))
    stamp = SITE / "built_for"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        build_pycuda()
        stamp.write_text(wanted, encoding="utf-8")


def build_driver() -> None:
    """Compile the driver."""
    objects = BUILT / "objects"
    tool = Path(cmake.CMAKE_BIN_DIR) / "cmake"
    settings = {
        "CMAKE_BUILD_TYPE": "Release",
        "CUDA_INCLUDE": cuda_headers(),
        "CMAKE_LIBRARY_OUTPUT_DIRECTORY": LIBRARY.parent,
    }
    defined = [f"-D{name}={value}" for name, value in settings.items()]
    _run(tool, "-S", HERE / "driver", "-B", objects, "-G", "Unix Makefiles", *defined)
    _run(tool, "--build", objects, "--parallel", os.cpu_count() or 1)


def build_pycuda() -> None:
    """Fetch PyCUDA's sources and build them against the simulated driver."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILT) as made:
        place = Path(made)
        pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
        _run(*pip, "download", "--no-deps", "--no-binary", "pycuda", f"pycuda=={PYCUDA}", "--dest", place)
        (archive,) = place.glob("pycuda-*.tar.gz")
        with tarfile.open(archive) as sources:
            sources.extractall(place, filter="data")
        folder = place / archive.name.removesuffix(".tar.gz")
        (BUILT / "include").mkdir(exist_ok=True)
        (BUILT / "include" / "cudaProfiler.h").write_text(PROFILER_HEADER, encoding="utf-8")
        (folder / "siteconf.py").write_text(_settings(), encoding="utf-8")
        _run(*pip, "install", "--no-deps", "--no-cache-dir", "--target", place / "site", folder)
        shutil.rmtree(SITE, ignore_errors=True)
        (place / "site").rename(SITE)


def _settings() -> str:
    """PyCUDA's `siteconf.py`: nothing but the driver is linked, and the compiler is asked for speed of its own."""
    driver = LIBRARY.parent
    return "\n".join(
        (
            f"CUDA_INC_DIR = {[str(cuda_headers()), str(BUILT / 'include')]!r}",
            "CUDA_ENABLE_CURAND = False",
            f"CUDADRV_LIB_DIR = {[str(driver)]!r}",
            "CUDADRV_LIBNAME = ['cuda']",
            "CXXFLAGS = ['-O0', '-g0', '-w']",
            f"LDFLAGS = ['-Wl,-rpath,{driver}']",
            "",
        )
    )


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr)[-4000:]
        raise BuildError(f"{command[0]} ended with {done.returncode}, expected 0; it said:\n{said}")


def main() -> int:
    """Run the command; returns its exit code."""
    if platform.system() != "Linux":
        print("the simulated driver is built on Linux alone; its tests skip here")
        return 0
    try:
        build()
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
