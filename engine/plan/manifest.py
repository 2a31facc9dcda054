"""What a plan says of itself: the schema of `manifest.json`.

Unknown keys are errors, every model is frozen, and what one part says must agree with the others: a manifest
that passes here can be executed without asking again.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .model import Count, Hex, Label, Model
from .network import Network
from .payload_rules import check_payloads, payload_members
from .payloads import Payloads

__all__ = ["PAYLOADS", "SCHEMA_VERSIONS", "Manifest", "Member"]

SCHEMA_VERSIONS = (1, 2)
"""Schemas that this release reads: 1 has no payloads, and is what a plan without any is written in."""
PAYLOADS = tuple(Payloads.model_fields)
"""Keys of a manifest that came with schema 2."""


class Member(Model):
    """Size in bytes and SHA-256 of one member of the archive."""

    size: Count
    sha256: Hex


class Manifest(Payloads, Network):
    """`manifest.json`: a network, what `uperfuse build` added to it, and the members of the archive."""

    schema_version: Literal[1, 2]
    members: dict[Label, Member] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _payloads_agree(self) -> Manifest:
        expected = 2 if self.has_payloads else 1
        if self.schema_version != expected:
            raise ValueError(
                f"payloads came with schema 2: a plan with{'' if expected == 2 else 'out'} any is of schema {expected},"
                f" and this one says {self.schema_version}"
            )
        check_payloads(self, self)
        return self

    def members_used(self) -> dict[str, str]:
        """Every member that a part of the manifest names -> who needs it."""
        return {**self.portable_members(), **dict(payload_members(self))}
