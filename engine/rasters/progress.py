"""How far a map has come, on a terminal; nothing where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

__all__ = ["Advance", "progress_bar"]


class Advance(Protocol):
    """Says that more pixels are done."""

    def __call__(self, pixels: int) -> None:
        """Add `pixels` to what is done."""
        ...


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed / 1e6:.2f} Mpx/s" if task.speed else "")


@contextmanager
def progress_bar(title: str, *, pixels: int, shown: bool) -> Iterator[Advance]:
    """Show share, rate and time left while the context lasts, if `shown` and standard error is a terminal.

    Args:
        title: what is being done.
        pixels: how many there are to do.
        shown: False keeps quiet in any case.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        task = bar.add_task(title, total=pixels)
        yield lambda pixels: bar.advance(task, pixels)
