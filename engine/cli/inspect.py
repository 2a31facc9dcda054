"""`uperfuse inspect` and `uperfuse verify`: what a plan says, and whether it is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import PlanError
from ..plan import Plan
from .payload_tables import known_keys, said_signers
from .plan_tables import members_table, plan_tables
from .tables import console as make_console
from .tables import size, titled

__all__ = ["register"]

_WRONG = "not as listed"

_PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add `inspect` and `verify` to the command line."""
    app.command("inspect")(_inspect)
    app.command("verify")(_verify)


def _inspect(
    plan: _PlanPath,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the manifest, hash, size and signers as JSON.")
    ] = False,
) -> None:
    """Say what a plan takes, makes and holds. Members are not hashed; `verify` does that."""
    with Plan.open(plan) as opened:
        if as_json:
            names = known_keys().names
            said = {
                "path": str(plan),
                "hash": opened.hash,
                "size": opened.size,
                "signed_by": [{"key": key.hex(), "name": names.get(key)} for key in opened.signed_by],
                "manifest": opened.manifest.model_dump(mode="json"),
            }
            typer.echo(json.dumps(said, indent=2))
        else:
            make_console().print(plan_tables(opened, known=known_keys()))


def _verify(
    plan: _PlanPath,
    device: Annotated[str, typer.Option(help="Device that repeats the stored check.")] = "auto",
    precision: Annotated[str, typer.Option(help="Precision of the repeated check.")] = "auto",
) -> None:
    """Hash every member anew, then repeat the check that was stored at export."""
    console = make_console()
    with Plan.open(plan) as opened:
        _rehash(opened, console)
        manifest = opened.manifest
    sides = [side for side in manifest.tile_sides_px if manifest.at(side).check is not None]
    if not sides:
        console.print("The plan stores no check: its numbers were not computed again.")
    for side in sides:
        _repeat_check(plan, side, device=device, precision=precision, console=console)


def _rehash(plan: Plan, console: Console) -> None:
    """Say of each member whether it is what the manifest says; refuse the plan when one is not."""
    rows = [(name, member.size, _verdict(plan, name)) for name, member in plan.manifest.members.items()]
    table = members_table(rows, verdict="SHA-256 of the content")
    console.print(titled(f"{plan.manifest.name}, {size(plan.size)}", table))
    wrong = [name for name, _, verdict in rows if verdict == _WRONG]
    if wrong:
        raise PlanError(
            f"{plan.path}: {len(wrong)} of {len(rows)} members are not what the manifest says:"
            f" {', '.join(wrong)}; fetch or export the plan again"
        )
    console.print(
        Text(
            f"\nAll {len(rows)} members are what the manifest says.\nplan {plan.hash}\nsigned by"
            f" {said_signers(plan, known_keys())}"
        )
    )


def _verdict(plan: Plan, name: str) -> str:
    try:
        return f"{plan.rehash(name).sha256[:16]} as listed"
    except PlanError:
        return _WRONG


def _repeat_check(path: Path, tile_px: int, *, device: str, precision: str, console: Console) -> None:
    from ..engine import Engine

    with Engine.load(path, device=device, precision=precision, tile_px=tile_px) as engine:
        results = engine.verify()
        title = f"The check stored at export, repeated here on a tile of {tile_px} px"
        console.print(titled(title, Text(engine.describe())))
    table = Table.grid(padding=(0, 2))
    for result in results:
        table.add_row(
            Text(result.task),
            f"relative error {result.relative_error:.1e}, bound {result.bound:.1e}",
            f"same class {result.argmax_equal:.3%}",
            "passed" if result.passed else "FAILED",
        )
    console.print(table)
    failed = [result.task for result in results if not result.passed]
    if failed:
        raise PlanError(f"{path}: the stored check failed for {', '.join(failed)}; export the plan again")
