"""The stub that type checkers and readers see is the compiled module's own signature."""

import ast
from pathlib import Path

import pytest

from uperfuse.engine import _native, resize

STUB = Path(resize.__file__).with_name("_native.pyi")


def signature(definition):
    """Name -> (keyword only, default as text or None if required)."""
    arguments = definition.args
    padding = [None] * (len(arguments.args) - len(arguments.defaults))
    both = [*zip(arguments.args, [*padding, *arguments.defaults], strict=True)]
    found = {argument.arg: (False, default and ast.unparse(default)) for argument, default in both}
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        found[argument.arg] = (True, default and ast.unparse(default))
    return found


def stub_body():
    return ast.parse(STUB.read_text()).body


def functions(body, prefix=""):
    return {prefix + node.name: node for node in body if isinstance(node, ast.FunctionDef)}


def classes():
    return {node.name: node for node in stub_body() if isinstance(node, ast.ClassDef)}


def public(names):
    return {name for name in names if not name.startswith("_")}


# every function and method, `CudaGraph.launch` by its full name
STUBS = functions(stub_body()) | {
    k: v for name, node in classes().items() for k, v in functions(node.body, f"{name}.").items()
}


def test_stub_names_everything():
    compiled = public(name for name, value in vars(_native).items() if callable(value))
    assert compiled == functions(stub_body()).keys() | classes().keys()
    for name, node in classes().items():
        fields = {field.target.id for field in node.body if isinstance(field, ast.AnnAssign)}
        assert public(vars(getattr(_native, name))) == public(functions(node.body)) - fields


@pytest.mark.parametrize("name", STUBS)
def test_stub_has_the_compiled_signature(name):
    compiled = _native
    for part in name.split("."):
        compiled = getattr(compiled, part)
    first_line = compiled.__doc__.splitlines()[0].replace("self: uperfuse.engine._native.", "self: ")
    definition = ast.parse(f"def {first_line}: ...").body[0]
    assert signature(STUBS[name]) == signature(definition)
