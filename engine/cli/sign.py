"""`uperfuse sign`: vouch for a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..keyring import MACHINE, Keyring
from ..plan import Plan, sign_plan
from .tables import console

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `sign` to the command line."""
    app.command("sign")(_sign)


def _sign(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan file.", show_default=False)],
    key: Annotated[str, typer.Option(help="Name of a key of your own; see uperfuse keys.")] = MACHINE,
) -> None:
    """Sign a plan, so that its engines run where the key is known; the machine's own key is known here alone.

    Every member is hashed first. The plan's hash and the signatures of others stay.
    """
    keyring = Keyring.open()
    with Plan.open(plan) as opened:
        before = opened.signed_by
    private = keyring.machine_key() if key == MACHINE else keyring.private_key(key, ask=lambda: _ask(key))
    signers = sign_plan(plan, private)
    made = "is signed" if len(signers) > len(before) else "was signed already"
    others = len(signers) - 1
    also = f", and by {others} other key" + ("s" if others > 1 else "") if others else ""
    console().print(
        Text(f"{plan} {made} by {key}{also}\nkey {private.public_key().public_bytes_raw().hex()}"), soft_wrap=True
    )


def _ask(name: str) -> str:
    return str(typer.prompt(f"Passphrase of {name}", hide_input=True, err=True))
