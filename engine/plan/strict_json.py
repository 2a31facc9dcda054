"""JSON as a plan may hold it: flat enough, no key twice, no number that is not one."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from ..errors import PlanError

__all__ = ["MAX_DEPTH", "MAX_VALUES", "parse"]

MAX_DEPTH = 16
MAX_VALUES = 20_000
_LONGEST_NUMBER = 40
_TOKEN = re.compile(r'\\.|[",\[\]{}]', re.DOTALL)


def parse(content: bytes, *, what: str) -> Any:
    """Parse JSON that comes from outside.

    Nesting is measured before anything is parsed, in one pass and without recursion.

    Args:
        content: UTF-8 text.
        what: name of the text for messages.

    Returns:
        Dictionaries, lists, strings, finite numbers, booleans and None.

    Raises:
        PlanError: not UTF-8, nested deeper than `MAX_DEPTH`, more than `MAX_VALUES` values, a key twice in one object,
            NaN or Infinity, a number that is too long or too large, or not JSON.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PlanError(f"{what} is not UTF-8 at byte {error.start}") from None
    _check_shape(text, what)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        for key, value in items:
            if key in entries:
                raise PlanError(f"duplicate key {key[:80]!a} in {what}")
            entries[key] = value
        return entries

    def constant(word: str) -> Any:
        raise PlanError(f"{word} in {what}, expected finite numbers")

    def number(digits: str) -> int:
        if len(digits) > _LONGEST_NUMBER:
            raise PlanError(f"number of {len(digits)} digits in {what}, expected at most {_LONGEST_NUMBER}")
        return int(digits)

    def fraction(digits: str) -> float:
        if len(digits) > _LONGEST_NUMBER or not math.isfinite(float(digits)):
            raise PlanError(f"number {digits[:40]} in {what} is too long or too large")
        return float(digits)

    try:
        return json.loads(
            text, object_pairs_hook=pairs, parse_constant=constant, parse_int=number, parse_float=fraction
        )
    except json.JSONDecodeError as error:
        raise PlanError(f"{what} is not JSON at line {error.lineno}, column {error.colno} ({error.msg})") from None


def _check_shape(text: str, what: str) -> None:
    """Count levels and values outside strings; right up to the first error of syntax, where parsing stops anyway."""
    depth, values, quoted = 0, 0, False
    for token in _TOKEN.finditer(text):
        character = token.group()
        if character == '"':
            quoted = not quoted
        elif quoted or character[0] == "\\":
            continue
        elif character == ",":
            values += 1
        else:
            depth += 1 if character in "[{" else -1
        if depth > MAX_DEPTH:
            raise PlanError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        if values > MAX_VALUES:
            raise PlanError(f"{what} holds more than {MAX_VALUES} values")
