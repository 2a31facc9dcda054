"""What the code names of TensorRT is there, in every version and flavour, or the table says that it is not."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from uperfuse.engine.tensorrt import api
from uperfuse.engine.tensorrt.capabilities import PACKAGES, SINCE, has

from .bindings import BINDINGS, ROOT, Bindings, Members, look_at, look_at_module

ENGINE = ROOT / "engine" / "tensorrt"
STANDINS = ROOT / "tests" / "simulated_cuda" / "standins"
INSTALLED = Bindings("tensorrt_rtx", "1.7", "")

# names that a package has although the table says that it is not to be used there, and why
UNUSED = {
    "tensorrt": {
        # of use to TensorRT-RTX alone; present in TensorRT 11, not in 10.3
        "ICudaEngine.create_runtime_config",
        "IRuntimeConfig.set_execution_context_allocation_strategy",
    },
    "tensorrt_rtx": {
        # "Timing cache operations are no-ops in TensorRT-RTX", and warn
        "ITimingCache.serialize",
        "IBuilderConfig.create_timing_cache",
        "IBuilderConfig.set_timing_cache",
        # its builder looks for a lean runtime that no wheel holds
        "BuilderFlag.VERSION_COMPATIBLE",
    },
}


def _listed() -> dict[str, type]:
    """Everything that `api` lists, as `Class.member` and as TensorRT names it -> where it stands."""
    found: dict[str, type] = {}
    for name, annotation in inspect.get_annotations(api.TensorRT).items():
        if name == "__version__":
            continue
        enum = getattr(api, annotation, None)
        if inspect.isclass(enum):
            found |= {f"{name}.{member}": enum for member in _members(enum)}
    for name in api.__all__:
        value = getattr(api, name)
        if inspect.isclass(value) and getattr(value, "_is_protocol", False) and name not in ("TensorRT", "Enumerator"):
            found |= {f"{name}.{member}": value for member in _members(value)}
    return found


def _members(protocol: type) -> list[str]:
    names = {*inspect.get_annotations(protocol), *vars(protocol)}
    return sorted(name for name in names if not name.startswith("_"))


LISTED = _listed()


def test_the_list_is_read():
    assert {
        "DataType.BF16",
        "BuilderFlag.TF32",
        "Builder.create_network",
        "ILogger.log",
        "Runtime.deserialize_cuda_engine",
    } <= {*LISTED}
    assert len(LISTED) > 70
    assert {name for name in SINCE if "." in name} <= {*LISTED}
    assert {name for name in SINCE if "." not in name} <= {
        *(name.split(".")[0] for name in LISTED),
        "ComputeCapability",
    }


def _real(bindings: Bindings) -> Members:
    if bindings is INSTALLED:
        return look_at_module("tensorrt_rtx")
    if bindings.version == "10.3.0" and sys.version_info >= (3, 13):
        pytest.skip("TensorRT 10.3 has no bindings for this Python")
    return look_at(bindings)


EVERY = pytest.mark.parametrize("bindings", [*BINDINGS, INSTALLED], ids=str)


@EVERY
def test_every_version_has_what_the_table_says(bindings):
    real = _real(bindings)
    assert real[""]["__version__"].startswith(bindings.version)
    wrong = [name for name in LISTED if _is_used(bindings, name) and not _is_there(real, name)]
    assert not wrong, f"{bindings} lacks {wrong}"


# the lean and dispatch runtimes have many of the builder's classes, which nothing makes there
@pytest.mark.parametrize(
    "bindings", [each for each in (*BINDINGS, INSTALLED) if PACKAGES[each.package].builds], ids=str
)
def test_the_table_says_no_where_a_version_has_nothing(bindings):
    real = _real(bindings)
    there = {name for name in LISTED if not _is_used(bindings, name) and _is_there(real, name)}
    assert there <= UNUSED[bindings.package]


@EVERY
def test_every_call_has_as_many_arguments_as_it_takes(bindings):
    real = _real(bindings)
    wrong = []
    for name, protocol in LISTED.items():
        kind, member = name.split(".")
        method = vars(protocol).get(member)
        if not _is_used(bindings, name) or not inspect.isfunction(method) or kind in ("ILogger", "IProgressMonitor"):
            continue
        given = len(inspect.signature(method).parameters) - 1
        counts = list(_arguments(member, real[kind][member]))
        if not any(least <= given <= most for least, most in counts):
            wrong.append(f"{name} is called with {given} arguments, takes {counts}")
    assert not wrong, f"{bindings}: {wrong}"


@EVERY
def test_what_we_derive_from_has_the_methods_that_we_override(bindings):
    real = _real(bindings)
    for kind in ("ILogger", "IProgressMonitor"):
        for member, method in vars(getattr(api, kind)).items():
            if inspect.isfunction(method) and not member.startswith("_") and _is_used(bindings, kind):
                given = len(inspect.signature(method).parameters) - 1
                assert (given, given) in list(_arguments(member, real[kind][member]))


def test_a_name_that_is_not_there_is_seen():
    real = {"IBuilderConfig": {"set_flag": "set_flag(self: t.IBuilderConfig, flag: t.BuilderFlag) -> None"}}
    assert _is_there(real, "IBuilderConfig.set_flag")
    assert not _is_there(real, "IBuilderConfig.int8_calibrator")
    assert list(_arguments("set_flag", real["IBuilderConfig"]["set_flag"])) == [(1, 1)]
    text = "f(*args, **kwargs)\n1. f(self: a.b, x: tuple[int, str], y: list[c.d] = <e: 0>) -> g\n2. f(self: h) -> i"
    assert list(_arguments("f", text)) == [(1, 2), (0, 0)]


def _is_used(bindings: Bindings, name: str) -> bool:
    return has(bindings.package, version=bindings.numbers, name=name)


def _is_there(real: Members, name: str) -> bool:
    kind, member = name.split(".")
    return member in real.get(kind, {})


def _arguments(name: str, doc: str) -> Iterator[tuple[int, int]]:
    """Least and largest number of arguments of each signature in a docstring, without `self`."""
    for signature in re.findall(rf"(?<![\w.]){name}\((self:.*?)\) ->", doc):
        depth, parts = 0, [""]
        for letter in re.sub(r"<[^<>]*>", "0", signature):
            depth += (letter in "[(") - (letter in "])")
            if letter == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += letter
        arguments = parts[1:]
        yield sum("=" not in each for each in arguments), len(arguments)


# the code


def _attributes(tree: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _own(trees: list[ast.AST]) -> set[str]:
    """Names that these files give: functions, classes, fields, attributes of `self`."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif _is_own_attribute(node):
            found.add(node.attr)
    return found


def _is_own_attribute(node: ast.AST) -> bool:
    """Whether it is `self.name` that is assigned to."""
    stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    return stored and isinstance(node.value, ast.Name) and node.value.id == "self"


def _pythons(trees: list[ast.AST]) -> set[str]:
    """Names of Python's own: members of its types, and of the modules that these files import."""
    kinds = [value for value in vars(builtins).values() if isinstance(value, type)]
    modules = {
        name
        for tree in trees
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom) and node.module and not node.level
            else []
        )
    }
    values = [importlib.import_module(name) for name in modules]
    inner = [value for module in values for value in vars(module).values() if isinstance(value, type)]
    return {name for value in (*kinds, *values, *inner) for name in dir(value)}


def _foreign(paths: list[Path], also: str = "") -> set[str]:
    """Attributes that the code reads or writes and that are neither its own nor Python's."""
    trees: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    own = _own([*trees, ast.parse((ROOT / "engine" / "plan" / "payloads.py").read_text(encoding="utf-8"))])
    asked = set().union(*map(_attributes, [*trees, ast.parse(also)]))
    return asked - own - _pythons(trees)


CODE = [path for path in sorted(ENGINE.glob("*.py")) if path.name != "api.py"]
KINDS = {*(name.split(".")[0] for name in LISTED), "ComputeCapability"}
MEMBERS = {name.split(".")[1] for name in LISTED}


def test_the_code_names_nothing_that_is_not_listed():
    assert len(CODE) > 8
    foreign = _foreign(CODE)
    assert {"execute_async_v3", "set_memory_pool_limit", "USER_MANAGED", "MemoryPoolType"} <= foreign
    assert foreign <= KINDS | MEMBERS, sorted(foreign - KINDS - MEMBERS)


@pytest.mark.parametrize(
    "line",
    [
        "config.builder_optimization_level = 5",
        "trt.BuilderFlag.FP16",
        "engine.device_memory_size",
        "parser.get_flag(x)",
    ],
)
def test_a_name_that_is_not_listed_is_seen(line):
    assert _foreign(CODE, also=line) - KINDS - MEMBERS


def test_everything_listed_is_used():
    code = "\n".join(path.read_text(encoding="utf-8") for path in CODE)
    # what IHostMemory is good for is its buffer; severities are compared by number
    idle = {name for name in LISTED if not re.search(rf"\b{name.split('.')[1]}\b", code)}
    assert idle <= {"IHostMemory.nbytes", "ILogger.INFO", "ILogger.VERBOSE"}


def test_what_is_asked_of_the_table_is_listed():
    asked = {
        node.args[0].value
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "has"
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(asked) >= 4
    assert asked <= {*LISTED, *KINDS}
    assert all(name in SINCE for name in asked), "a thing that every version has is not asked for"


# the simulation


@pytest.mark.parametrize("package", list(PACKAGES))
def test_the_simulation_offers_what_is_used_and_nothing_else(package):
    folder = STANDINS if package == "tensorrt" else STANDINS / "others"
    offered = look_at_module(package, folder, STANDINS)
    reals = [_real(each) for each in (*BINDINGS, INSTALLED) if each.package == package]
    assert len(reals) == 2
    version = tuple(map(int, offered[""]["__version__"].split(".")))
    lacking = {name for name in LISTED if has(package, version=version, name=name)} - _offers(offered)
    assert not lacking
    for real in reals:
        extra = _offers(offered) - {f"{kind}.{member}" for kind, members in real.items() for member in members}
        assert not extra


def test_the_simulation_says_of_its_attributes_what_they_are():
    for path in sorted((STANDINS / "simulated_tensorrt").glob("*.py")):
        for kind in (node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ClassDef)):
            stored = {node.attr for node in ast.walk(kind) if _is_own_attribute(node) and not node.attr.startswith("_")}
            said = {node.target.id for node in kind.body if isinstance(node, ast.AnnAssign)}
            assert stored <= said | {"logger"}, f"{path.name}: {kind.name} offers {stored - said}"


def _offers(offered: Members) -> set[str]:
    own = {"IHostMemory": {*dir(bytes)}}  # it is bytes here
    return {
        f"{kind}.{each}" for kind, members in offered.items() if kind for each in members.keys() - own.get(kind, set())
    }
