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


def stub_functions():
    return {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_stub_names_every_function():
    compiled = {name for name, value in vars(_native).items() if callable(value) and not name.startswith("_")}
    assert compiled == stub_functions().keys()


@pytest.mark.parametrize("name", ["classify", "levels", "prepare"])
def test_stub_has_the_compiled_signature(name):
    first_line = getattr(_native, name).__doc__.splitlines()[0]
    compiled = ast.parse(f"def {first_line}: ...").body[0]
    assert signature(stub_functions()[name]) == signature(compiled)
