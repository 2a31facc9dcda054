"""Expressions of launches: the same numbers as Python's own, and nothing but them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.launching.expressions import evaluate, names

NAMES = ("B", "T", "Y0", "BLOCK_SIZE")
INTEGERS = st.integers(-(10**9), 10**12)


def _texts() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(NAMES) | st.integers(0, 10**6).map(str)

    def grow(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        # with and without brackets, so that precedence counts
        pairs = st.tuples(inner, st.sampled_from([" + ", " - ", "*", "//", " // "]), inner).map("".join)
        calls = st.tuples(st.sampled_from(["min", "max", "cdiv"]), inner, inner).map(
            lambda at: f"{at[0]}({at[1]}, {at[2]})"
        )
        return pairs | pairs.map("({})".format) | calls

    return st.recursive(leaves, grow, max_leaves=12)


@given(_texts(), st.fixed_dictionaries(dict.fromkeys(NAMES, INTEGERS)))
def test_agrees_with_python(text, values):
    try:
        want = eval(text, {"cdiv": lambda a, b: -(-a // b), "min": min, "max": max}, dict(values))
    except ZeroDivisionError:
        with pytest.raises(ZeroDivisionError):
            evaluate(text, values)
        return
    assert evaluate(text, values) == want


@given(_texts())
def test_needs_the_names_that_it_says(text):
    needed = names(text)
    assert needed <= set(NAMES)
    values = dict.fromkeys(needed, 7)
    with suppress(ZeroDivisionError):
        evaluate(text, values)
    for name in needed:
        with pytest.raises((ValueError, ZeroDivisionError)):
            evaluate(text, dict.fromkeys(needed - {name}, 7))


def test_says_which_name_is_missing():
    with pytest.raises(ValueError, match=r"'Y \* X' uses X, expected one of \['Y'\]; give it a value"):
        evaluate("Y * X", {"Y": 3})


@pytest.mark.parametrize(
    "text",
    [
        "Y / X",
        "Y % X",
        "Y ** X",
        "-Y",
        "Y << 3",
        "Y if X else 0",
        "Y < X",
        "Y.real",
        "Y[0]",
        "2.0 * Y",
        "True",
        "'Y'",
        "abs(Y)",
        "__import__('os')",
        "(lambda: 3)()",
        "cdiv(Y, X, by=3)",
        "cdiv(*Y)",
        "cdiv(Y)",
        "cdiv(Y, X, Y)",
        "max(Y)",
        "min()",
        "[Y]",
    ],
)
def test_refuses_what_a_launch_record_may_not_hold(text):
    with pytest.raises(ValueError, match=r"holds .*; use integers, names, "):
        evaluate(text, {"Y": 3, "X": 2})


@pytest.mark.parametrize("text", ["", "Y *", "Y X", "import os", "Y = 3", "cdiv(Y,", "Y\nX"])
def test_refuses_what_is_no_expression(text):
    with pytest.raises(ValueError, match=r"is no expression .*; write it like 'cdiv\(Y \* X, 32\)'"):
        names(text)
