"""What this machine signs for when it writes a plan again: what it built, and what it would run itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import KeyringError
from ..keyring import MACHINE, Keyring
from ..plan.payloads import EnginePayload
from ..plan.plan import Plan
from ..trust import may_run_engines

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = ["Vouching", "vouch"]


@dataclass(frozen=True)
class Vouching:
    """How a plan is signed that is written again.

    Attributes:
        engines: of those that the plan has, the ones that stay.
        keys: that sign; the machine's own, where it has one.
        notes: what the user should read.
    """

    engines: tuple[EnginePayload, ...]
    keys: tuple[Ed25519PrivateKey, ...]
    notes: tuple[str, ...]

    @property
    def signed(self) -> str | None:
        """Name of the key that signs; None where none does."""
        return MACHINE if self.keys else None


def vouch(plan: Plan, *, replaced: Collection[str] = ()) -> Vouching:
    """Decide what stays of a plan's engines when this machine signs it, and with what.

    Engines of strangers are left out: the signature would make this machine run them.

    Args:
        plan: as it was.
        replaced: targets of engines that are built anew.
    """
    engines = tuple(each for each in plan.manifest.engines if each.target not in replaced)
    notes = []
    judged = may_run_engines(plan, trust="local")
    if engines and not judged.allowed:
        names = ", ".join(each.target for each in engines)
        notes.append(f"left out, as this machine signs for what it built alone: {names} ({judged.reason})")
        engines = ()
    keys: tuple[Ed25519PrivateKey, ...] = ()
    try:
        keys = (Keyring.open().machine_key(),)
    except KeyringError as error:
        notes.append(f"not signed, so that only trust='any' runs its engines: {error}")
    if plan.signed_by:
        notes.append("earlier signatures held for the plan as it was; sign it again with `uperfuse sign`")
    return Vouching(engines, keys, tuple(notes))
