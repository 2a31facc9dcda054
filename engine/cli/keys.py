"""`uperfuse keys`: whose plans may bring engines to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..errors import KeyringError
from ..keyring import MACHINE, Keyring
from .tables import console, table

__all__ = ["register"]

_Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the key.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add `keys` and its commands to the command line."""
    keys = typer.Typer(
        no_args_is_help=True,
        help="Keys that sign plans, and whose signatures are believed here.",
    )
    for name, command in (("list", _list), ("new", _new), ("add", _add), ("show", _show), ("remove", _remove)):
        keys.command(name)(command)
    app.add_typer(keys, name="keys")


def _list() -> None:
    """List every key that is believed here."""
    keyring = Keyring.open()
    found = keyring.keys()
    if not found:
        console().print(Text(f"No keys in {keyring.folder}; uperfuse keys new NAME makes one."), soft_wrap=True)
        return
    made = table("Key", "|Public key", "Signs here")
    for key in found:
        signs = "no" if not key.own else "what is built here" if key.name == MACHINE else "yes"
        made.add_row(Text(key.name), key.public.hex(), signs)
    console().print(made)


def _new(
    name: _Name,
    passphrase: Annotated[bool, typer.Option("--passphrase", help="Ask for one that the key is kept under.")] = False,
) -> None:
    """Make a key of your own, to sign plans with."""
    secret = None
    if passphrase:
        secret = str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True))
    keyring = Keyring.open()
    key = keyring.new(name, passphrase=secret)
    said = f"{name} lies in {keyring.folder}; hand on its public half:\n{key.line}"
    console().print(Text(said), end="", soft_wrap=True)


def _add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What uperfuse keys show printed.", show_default=False)],
    name: Annotated[str | None, typer.Option(help="Name in this keyring, in place of the one in the file.")] = None,
) -> None:
    """Believe somebody's signatures: engines run here from plans that they sign."""
    key = Keyring.open().add(file, name=name)
    console().print(
        Text(f"{key.name} is believed from now on; compare its digits with the owner's:\n{key.public.hex()}")
    )


def _show(name: _Name) -> None:
    """Print the public half of a key in one line, as uperfuse keys add takes it elsewhere."""
    typer.echo(Keyring.open().key(name).line, nl=False)


def _remove(
    name: _Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a private half is gone for good.")] = False,
) -> None:
    """Believe a key no more."""
    keyring = Keyring.open()
    if keyring.owns(name) and not yes:
        question = f"The private half of {name} will be gone for good. Remove it?"
        if not typer.confirm(question, err=True):
            raise KeyringError(f"{name} was not removed, as answered; give --yes to remove it without a question")
    keyring.remove(name)
    console().print(Text(f"{name} is believed no more."), soft_wrap=True)
