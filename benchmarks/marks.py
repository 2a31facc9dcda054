"""Parts of documents that programs write, between two marks."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["between"]


def between(text: str, lines: Sequence[str], *, begin: str, end: str) -> str:
    """A document with these lines between its marks.

    Raises:
        ValueError: a mark is missing, or there twice.
    """
    for mark in (begin, end):
        if text.count(mark) != 1:
            raise ValueError(f"the document holds {mark!r} {text.count(mark)} times, expected once; put it back")
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])
