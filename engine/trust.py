"""Whether the engines in a plan may run on this machine.

A TensorRT engine is native code: whoever made it decides what this process does. The portable graphs and the compiled
kernels of a plan are not asked about here. They are data that is hashed before use; a graph is walked before a library
reads it, and a kernel runs on the GPU, which reaches the GPU's memory and nothing of the host but what is mapped there.
docs/trust.md says what that leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from .errors import BackendError, KeyringError
from .keyring import MACHINE, Keyring
from .plan.plan import Plan

__all__ = ["Trust", "TrustLevel", "may_run_engines"]

TrustLevel = Literal["local", "any", "none"]
"""Whose engines run: those of plans that a key of the keyring signed, this machine's own included; whatever there is
in a plan; or nobody's."""


@dataclass(frozen=True)
class Trust:
    """An answer.

    Attributes:
        allowed: engines of the plan may run.
        reason: why, or why not and what to do, in words that follow the plan's name.
    """

    allowed: bool
    reason: str


def may_run_engines(plan: Plan, *, trust: TrustLevel = "local", keyring: Keyring | None = None) -> Trust:
    """Decide about the prebuilt engines of a plan; where they may not run, they are built anew from its graphs.

    Args:
        plan: an open plan, whose signatures are right therefore.
        trust: "local", "any" or "none".
        keyring: whose keys count; None for the user's own.

    Returns:
        The answer. A keyring that cannot be believed believes nobody, and the reason says what is wrong with it.

    Raises:
        BackendError: `trust` is none of the three.
    """
    if trust not in get_args(TrustLevel):
        raise BackendError(f"trust is {trust!r}, expected one of {', '.join(get_args(TrustLevel))}")
    if trust == "none":
        return Trust(False, "prebuilt engines are not run, as asked for by trust='none'")
    if trust == "any":
        return Trust(True, "engines are run whoever built them, as asked for by trust='any'")
    try:
        name = (keyring or Keyring.open()).trusted(plan)
    except KeyringError as error:
        return Trust(False, f"nobody's signature is believed, because {error}")
    if name == MACHINE:
        return Trust(True, "signed on this machine")
    if name is not None:
        return Trust(True, f"signed by {name} of the keyring")
    if not plan.signed_by:
        return Trust(False, "not signed; `uperfuse sign` vouches for it here, and trust='any' runs it whoever built it")
    keys = ", ".join(key.hex()[:16] for key in plan.signed_by)
    return Trust(False, f"signed by {keys}, which the keyring does not hold; `uperfuse keys add` believes a signer")
