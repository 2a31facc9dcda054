"""What is installed, and why it does not serve."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from uperfuse.engine import BackendError
from uperfuse.engine.tensorrt import find_flavour
from uperfuse.engine.tensorrt.capabilities import PACKAGES, has


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """`machine(tensorrt="10.3.0")` is a machine with these packages alone; a value may be a package's code."""

    def install(**packages: str) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        for name in PACKAGES:
            monkeypatch.delitem(sys.modules, name, raising=False)
            code = packages.get(name)
            if code is None:
                monkeypatch.setitem(sys.modules, name, None)
            else:
                text = code if "\n" in code else f"__version__ = {code!r}"
                (tmp_path / f"{name}.py").write_text(text + "\n")

    yield install
    for name in PACKAGES:  # those that were there before come back after this
        sys.modules.pop(name, None)


def refusal(asked: str = "auto", **how) -> str:
    with pytest.raises(BackendError) as caught:
        find_flavour(asked, **({"need": "run"} | how))
    return str(caught.value)


def test_nothing_installed_says_how_to_get_each(machine):
    machine()
    said = refusal(version_compatible=True)
    assert said.startswith(
        "no TensorRT can run engines here: tensorrt is not installed (pip install 'uperfuse[tensorrt]'"
    )
    assert "boards have it from JetPack: make the virtual environment with --system-site-packages" in said
    for name in PACKAGES:
        assert f"{name} is not installed (" in said
    assert "tensorrt_rtx" not in refusal("tensorrt")
    assert "tensorrt is" not in refusal("rtx")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("10.3.0", (10, 3, 0)), ("10.3.0.30", (10, 3, 0)), ("11.4.0.106", (11, 4, 0)), ("10.13.3.9.post1", (10, 13, 3))],
)
def test_versions_that_are_served(machine, version, numbers):
    machine(tensorrt=version)
    found = find_flavour("auto", need="build")
    assert (found.package, found.name, found.version) == ("tensorrt", "tensorrt", numbers)
    assert str(found) == f"tensorrt {version}"
    assert found.builds
    assert found.runs_any


@pytest.mark.parametrize(
    ("packages", "words"),
    [
        ({"tensorrt": "8.6.1"}, "tensorrt is version 8.6.1, expected 10.3 or later; update it"),
        ({"tensorrt": "10.2.0.19"}, "tensorrt is version 10.2.0.19, expected 10.3 or later"),
        ({"tensorrt": "12.0.0"}, "tensorrt is version 12.0.0, expected one before 12; install an earlier one"),
        ({"tensorrt_rtx": "1.3.0.35"}, "tensorrt_rtx is version 1.3.0.35, expected 1.4 or later"),
        ({"tensorrt": "import os\n"}, "tensorrt has no version: something else has its name"),
        ({"tensorrt": "raise OSError('libnvinfer.so.10 is gone')\n"}, "cannot be imported (libnvinfer.so.10 is gone)"),
        ({"tensorrt": "import no_such_bindings\n"}, "cannot be imported (No module named 'no_such_bindings')"),
        ({"tensorrt": "raise RuntimeError('no driver')\n"}, "tensorrt cannot be imported (no driver)"),
    ],
)
def test_what_is_there_and_does_not_serve_is_said(machine, packages, words):
    machine(**packages)
    assert words in refusal(need="build")


def test_an_earlier_one_that_does_not_serve_does_not_hide_a_later_one(machine):
    machine(tensorrt="8.6.1", tensorrt_rtx="1.7.1.116")
    assert find_flavour("auto", need="build").package == "tensorrt_rtx"
    assert "8.6.1" in refusal("tensorrt", need="build")


def test_runtimes_without_a_builder_run_version_compatible_engines(machine):
    machine(tensorrt_lean="10.9.0", tensorrt_dispatch="10.9.0")
    found = find_flavour("auto", need="run", version_compatible=True)
    assert (found.package, found.name, found.runs_any, found.builds) == ("tensorrt_lean", "tensorrt", False, False)
    assert "tensorrt_lean runs version-compatible engines alone" in refusal()
    assert "tensorrt_lean only runs engines; tensorrt_dispatch only runs engines" in refusal(need="build")


def test_two_of_the_same_are_the_same(machine):
    machine(tensorrt="10.3.0")
    assert find_flavour("auto", need="build") == find_flavour("tensorrt", need="run")
    assert isinstance(find_flavour("auto", need="build").module, ModuleType)


def test_a_member_is_there_only_where_its_class_is():
    assert has("tensorrt", version=(10, 3, 0), name="BuilderFlag.TF32")
    assert not has("tensorrt_lean", version=(10, 3, 0), name="BuilderFlag.TF32")
    assert not has("tensorrt_rtx", version=(1, 7, 1), name="BuilderFlag.VERSION_COMPATIBLE")
    assert not has("tensorrt_rtx", version=(1, 3, 0), name="ComputeCapability")
    assert has("tensorrt_dispatch", version=(11, 4, 0), name="Runtime.deserialize_cuda_engine")
