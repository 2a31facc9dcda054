"""Integer expressions of a launch (`cdiv(Y * X, PIXELS)`), as text that a launch record can carry.

A program that launches a compiled kernel without Triton evaluates the same text with the same rules: integers, names,
`+ - * //`, `cdiv`, `min` and `max`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import lru_cache

__all__ = ["evaluate", "names"]


def _cdiv(value: int, by: int) -> int:
    return -(-value // by)


_FUNCTIONS: dict[str, Callable[..., int]] = {"cdiv": _cdiv, "min": min, "max": max}
_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: int.__add__,
    ast.Sub: int.__sub__,
    ast.Mult: int.__mul__,
    ast.FloorDiv: int.__floordiv__,
}


def evaluate(text: str, values: Mapping[str, int]) -> int:
    """Value of an expression.

    Args:
        text: the expression.
        values: name -> integer; may hold more than is used.

    Returns:
        The integer.

    Raises:
        ValueError: an unknown name, function or form.

    Example:
        >>> evaluate("cdiv(Y * X, PIXELS)", {"Y": 10, "X": 10, "PIXELS": 32})
        4
    """
    return _evaluate(_parse(text), text, values)


def names(text: str) -> set[str]:
    """Names that an expression needs.

    Example:
        >>> sorted(names("cdiv(Y * X, PIXELS)"))
        ['PIXELS', 'X', 'Y']
    """
    return {node.id for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)} - _FUNCTIONS.keys()


@lru_cache(maxsize=1024)
def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is no expression ({error.msg}); write it like 'cdiv(Y * X, 32)'") from None


def _callable(function: str, call: ast.Call) -> bool:
    """Whether a call has the form of a known function: `cdiv` of two numbers, the others of two or more."""
    many = len(call.args) == 2 if function == "cdiv" else len(call.args) > 1
    return function in _FUNCTIONS and many and not call.keywords


def _evaluate(node: ast.expr, text: str, values: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    if isinstance(node, ast.Name):
        if node.id not in values:
            raise ValueError(f"{text!r} uses {node.id}, expected one of {sorted(values)}; give it a value")
        return int(values[node.id])
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = (_evaluate(side, text, values) for side in (node.left, node.right))
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _callable(node.func.id, node):
        return _FUNCTIONS[node.func.id](*(_evaluate(each, text, values) for each in node.args))
    raise ValueError(f"{text!r} holds {ast.unparse(node)!r}; use integers, names, + - * //, cdiv, min and max")
