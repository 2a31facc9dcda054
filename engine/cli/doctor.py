"""`uperfuse doctor`: what this machine can run, and what keeps it from running the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..plan.plan import Plan
from .tables import console, table

__all__ = ["register"]

_MARKS = {True: Text("yes", style="green"), False: Text("no", style="red"), None: Text()}


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

    out = console()
    machine = table("Looked for", "|Usable", "Found")
    for finding in examine():
        machine.add_row(finding.what, _MARKS[finding.good], Text(finding.found))
    out.print(machine)
    if plan is None:
        return
    with Plan.open(plan) as opened:
        found = examine_plan(opened)
        out.print(f"\n{opened.manifest.name}, plan {opened.hash[:12]}", highlight=False)
    if not found:
        out.print("holds no engines: it runs on the processor, or is built when it is loaded on a GPU")
        return
    payloads = table("Engines", "|Run here", "Because")
    for fit in found:
        verified = "verified" if fit.payload.verified else "to be verified by its first load on a GPU"
        why = "; ".join(fit.why_not) or f"{fit.flavour}, {verified}"
        payloads.add_row(fit.payload.target, _MARKS[not fit.why_not], Text(why))
    out.print(payloads)
