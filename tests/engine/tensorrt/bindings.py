"""The real Python bindings of TensorRT, looked at without TensorRT.

The wheels `tensorrt-*-bindings` hold the Python side alone, a megabyte each. Their libraries export nine functions to
it; with a library that has functions of these names, and nothing in them, the bindings import, and tell their classes,
members and signatures. Wheels are fetched once, into `build/`, and never installed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["BINDINGS", "Bindings", "Members", "look_at", "look_at_module"]

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "build" / "tensorrt_bindings"

Members = dict[str, dict[str, str]]
"""Class -> member -> the start of its docstring, which holds its signatures."""

_LIBRARIES = {
    "10": (
        "nvinfer.so.10",
        "nvonnxparser.so.10",
        "nvinfer_plugin.so.10",
        "nvinfer_lean.so.10",
        "nvinfer_dispatch.so.10",
    ),
    "11": (
        "nvinfer.so.11",
        "nvonnxparser.so.11",
        "nvinfer_plugin.so.11",
        "nvinfer_lean.so.11",
        "nvinfer_dispatch.so.11",
    ),
    "1": ("tensorrt_rtx.so.1", "tensorrt_onnxparser_rtx.so.1"),
}
_FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
_LOOK = """
import importlib, json, sys
module = importlib.import_module(sys.argv[1])
classes = {name: value for name, value in vars(module).items() if isinstance(value, type)}
members = {}
for name, value in classes.items():
    own = {each for kind in value.__mro__ for each in vars(kind).get("__annotations__", ())}
    names = [each for each in {*dir(value), *own} if not each.startswith("_")]
    members[name] = {each: (getattr(getattr(value, each, None), "__doc__", None) or "")[:4000] for each in names}
members[""] = {"__version__": module.__version__}
print(json.dumps(members))
"""


@dataclass(frozen=True)
class Bindings:
    """One wheel: what it is called, which version, and which package of TensorRT's it is the Python side of."""

    package: str
    version: str
    wheel: str

    def __str__(self) -> str:
        return f"{self.package}-{self.version}"

    @property
    def module(self) -> str:
        """What the wheel is imported as."""
        return f"{self.package}_bindings"

    @property
    def numbers(self) -> tuple[int, ...]:
        """The version in numbers."""
        return tuple(map(int, self.version.split(".")))


BINDINGS = (
    Bindings("tensorrt", "10.3.0", "tensorrt-cu12-bindings"),
    Bindings("tensorrt", "11.4.0.106", "tensorrt-cu13-bindings"),
    Bindings("tensorrt_lean", "10.3.0", "tensorrt-lean-cu12-bindings"),
    Bindings("tensorrt_lean", "11.4.0.106", "tensorrt-lean-cu13-bindings"),
    Bindings("tensorrt_dispatch", "10.3.0", "tensorrt-dispatch-cu12-bindings"),
    Bindings("tensorrt_dispatch", "11.4.0.106", "tensorrt-dispatch-cu13-bindings"),
    Bindings("tensorrt_rtx", "1.4.0.76", "tensorrt-rtx-cu13-bindings"),
)
"""The oldest and the newest version that is served; TensorRT-RTX's newest is installed."""


@cache
def look_at(bindings: Bindings) -> Members:
    """Classes and members of a wheel's bindings."""
    folder = _fetch(bindings)
    libraries = _make_libraries(bindings.version.split(".")[0])
    environment = {"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(folder), "PATH": os.environ["PATH"]}
    # without site-packages: the real libraries that one of them may hold are not to be found
    return _look(bindings.module, ["-S"], environment)


@cache
def look_at_module(module: str, *folders: Path) -> Members:
    """Classes and members of a module that is installed, or lies in one of the folders."""
    path = os.pathsep.join(map(str, folders))
    return _look(module, [], {**os.environ, "PYTHONPATH": path})


def _look(module: str, options: list[str], environment: dict[str, str]) -> Members:
    command = [sys.executable, *options, "-c", _LOOK, module]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def _fetch(bindings: Bindings) -> Path:
    """Folder of a wheel's content."""
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    folder = FOLDER / f"{bindings.package}-{bindings.version}-{tag}"
    if folder.is_dir():
        return folder
    working = FOLDER / f".{folder.name}.{os.getpid()}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(working), f"{bindings.wheel}=={bindings.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = working.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(working)
    wheel.unlink()
    try:
        working.rename(folder)
    except OSError:  # another run was faster
        assert folder.is_dir()
    return folder


@cache
def _make_libraries(major: str) -> Path:
    """Folder of libraries with TensorRT's names and functions that do nothing."""
    folder = FOLDER / f"libraries-{major}"
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "nothing.cpp"
    source.write_text("".join(f'extern "C" void* {name}() {{ return nullptr; }}\n' for name in _FUNCTIONS))
    for library in _LIBRARIES[major]:
        path = folder / f"lib{library}"
        if not path.exists():
            working = folder / f".{library}.{os.getpid()}"
            subprocess.run(["c++", "-shared", "-fPIC", "-o", str(working), str(source)], check=True, timeout=60)
            working.replace(path)
    return folder
