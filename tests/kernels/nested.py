"""Makes Triton's interpreter prepare Triton's language once for a launch.

It does so anew for every function that a kernel calls, which takes a good part of its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from unittest.mock import patch

import triton.language as tl
from triton.runtime import interpreter


@contextmanager
def prepared_once() -> Iterator[None]:
    """Inside, a function that sees the language as an earlier one of the same launch did is called directly."""
    prepared: set[tuple[bool, bool]] = set()
    launch = interpreter.GridExecutor.__call__

    def begin(executor, *args, **kwargs):
        prepared.clear()
        return launch(executor, *args, **kwargs)

    def call(function, *args, **kwargs):
        seen = _language(function.fn)
        if seen not in prepared:
            interpreter._patch_lang(function.fn)
            prepared.add(seen)
        return function.rewrite()(*args, **kwargs)

    with (
        patch.object(interpreter.GridExecutor, "__call__", begin),
        patch.object(interpreter.InterpretedFunction, "__call__", call),
    ):
        yield


@lru_cache(maxsize=256)
def _language(function) -> tuple[bool, bool]:
    """Which modules of the language a function's globals hold: the interpreter prepares these."""
    values = list(function.__globals__.values())
    return any(each is tl for each in values), any(each is tl.core for each in values)
