"""`uperfuse doctor`: what this machine can run, and what keeps it from running the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..plan.plan import Plan

__all__ = ["register"]

_MARKS = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}


def register(app: typer.Typer) -> None:
    """Add `doctor` to the command line."""
    app.command("doctor")(_doctor)


def _doctor(
    plan: Annotated[
        Path | None, typer.Argument(help="A plan whose payloads are compared with this machine.", show_default=False)
    ] = None,
) -> None:
    """Say what this machine has: GPU, driver, TensorRT, libraries; and which payloads of a plan would run."""
    from ..doctor import examine, examine_plan

    console = Console()
    table = Table(box=box.SIMPLE, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in examine():
        table.add_row(finding.what, _MARKS[finding.good], escape(finding.found))
    console.print(table)
    if plan is None:
        return
    with Plan.open(plan) as opened:
        found = examine_plan(opened)
        console.print(f"{opened.manifest.name}, plan {opened.hash[:12]}", highlight=False)
    if not found:
        console.print("holds no engines: it runs on the processor, or is built when it is loaded on a GPU")
        return
    payloads = Table(box=box.SIMPLE)
    payloads.add_column("engines", overflow="fold")
    payloads.add_column("runs here", no_wrap=True)
    payloads.add_column("because", overflow="fold")
    for fit in found:
        verified = "verified" if fit.payload.verified else "verified at its first load"
        why = "; ".join(fit.why_not) or f"{fit.flavour}, {verified}"
        payloads.add_row(fit.payload.target, _MARKS[not fit.why_not], escape(why))
    console.print(payloads)
