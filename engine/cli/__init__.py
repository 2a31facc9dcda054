"""The command line: `uperfuse COMMAND`."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from ..errors import UPerFuseError
from . import benchmark, build, data, demo, doctor, evaluate, export, inspect, keys, predict, sign, train

__all__ = ["main"]

_INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Land-cover and crop maps from aerial images, elevation and satellite series.",
)
for command in (predict, export, build, inspect, doctor, benchmark, evaluate, sign, keys, data, train, demo):
    command.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"uperfuse {version('uperfuse')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the traceback of a failure.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    context.obj = verbose


def main() -> None:
    """Run one command; a failure prints one sentence and exits with 1."""
    try:
        app()
    except UPerFuseError as error:
        _fail(str(error))
    except OSError as error:
        what = f"{error.strerror}: {error.filename}" if error.filename else str(error)
        _fail(f"{what}; check the path, its permissions and the space left")
    except KeyboardInterrupt:
        _fail("stopped by the user; files that were not complete are not there", code=_INTERRUPTED)


def _fail(sentence: str, *, code: int = 1) -> None:
    if "--verbose" in sys.argv:
        Console(stderr=True).print_exception()
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(code)
