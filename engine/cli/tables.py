"""How the commands write tables, numbers of things and sizes, for terminals of 80 columns or more."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["console", "count", "pairs", "size", "table", "titled"]

_WIDTH = 100  # where the output is not a terminal


def console() -> Console:
    """Where tables go: the terminal, or 100 columns where there is none."""
    made = Console()
    return made if made.is_terminal else Console(width=_WIDTH)


def titled(title: str, content: RenderableType) -> Group:
    """A table under its title."""
    return Group(Text(f"\n{title}", style="bold"), content)


def table(*columns: str) -> Table:
    """A table without frame; `>` before a title aligns the column to the right, `|` keeps it on one line."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="", show_edge=False)
    for column in columns:
        right, whole = column.startswith(">"), column[:1] in ">|"
        made.add_column(
            column.lstrip(">|"), justify="right" if right else "left", no_wrap=whole, overflow="fold", vertical="top"
        )
    return made


def pairs(rows: list[tuple[str, str]]) -> Table:
    """Words beside their label, a line each."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for label, words in rows:
        made.add_row(label, Text(words))
    return made


def size(octets: int) -> str:
    """Bytes for people: `412.3 MB`."""
    if octets < 1000:
        return f"{octets} B"
    value = float(octets)
    for unit in ("kB", "MB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} GB"


def count(number: int) -> str:
    """A number of things for people: `88.1 M`."""
    return f"{number / 1e6:.1f} M" if number >= 1_000_000 else f"{number:,}"
