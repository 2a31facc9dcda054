"""What a plan says of itself: the schema of `manifest.json`.

Unknown keys are errors, every model is frozen, and what one part says must agree with the others: a manifest
that passes here can be executed without asking again.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from .model import Count, Hex, Label, Model
from .network import Geometry, Network, lenders_of
from .payload_rules import check_payloads, payload_members
from .payloads import Payloads

__all__ = ["NEW_KEYS", "NEW_SEGMENT_KEYS", "PAYLOADS", "SCHEMA_VERSIONS", "Manifest", "Member"]

SCHEMA_VERSIONS = (1, 2, 3, 4)
"""Schemas that this release reads. A plan is written in the first that has all of its keys."""
PAYLOADS = tuple(Payloads.model_fields)
"""Keys of what `uperfuse build` adds."""
NEW_KEYS = {2: PAYLOADS, 3: ("geometries",)}
"""Schema -> keys of a manifest that came with it."""
NEW_SEGMENT_KEYS = {4: ("lender",)}
"""Schema -> keys of a segment that came with it."""


class Member(Model):
    """Size in bytes and SHA-256 of one member of the archive."""

    size: Count
    sha256: Hex


class Manifest(Payloads, Network):
    """`manifest.json`: a network, what `uperfuse build` added to it, and the members of the archive.

    Attributes:
        geometries: the network for tiles of other sides than its own.
    """

    schema_version: Literal[1, 2, 3, 4]
    geometries: Annotated[tuple[Geometry, ...], Field(max_length=16)] = ()
    members: dict[Label, Member] = Field(default_factory=dict)

    @property
    def schema_needed(self) -> Literal[1, 2, 3, 4]:
        """The first schema that has all of its keys."""
        if self.lenders:
            return 4
        if self.geometries:
            return 3
        return 2 if self.has_payloads else 1

    @property
    def lenders(self) -> dict[str, str]:
        """Segments that lack weights of their own -> the segment that lends them."""
        return lenders_of(self.segments)

    @property
    def tile_sides_px(self) -> tuple[int, ...]:
        """Sides of the tiles that it takes, in pixels of the base modality, its own first."""
        return (self.base_px, *(geometry.tiles_px[self.base] for geometry in self.geometries))

    def at(self, tile_px: int) -> Manifest:
        """As if the plan had tiles of this side alone; without payloads, which are for its own.

        Args:
            tile_px: one of `tile_sides_px`.

        Raises:
            KeyError: the plan has none of this side.
        """
        if tile_px == self.base_px:
            return self
        for geometry in self.geometries:
            if geometry.tiles_px[self.base] == tile_px:
                bare = {name: Payloads.model_fields[name].get_default() for name in PAYLOADS}
                alone = self.model_copy(update={**self._at(geometry), **bare, "geometries": ()})
                return alone.model_copy(update={"schema_version": alone.schema_needed})
        raise KeyError(tile_px)

    @model_validator(mode="after")
    def _geometries_agree(self) -> Manifest:
        for geometry in self.geometries:
            changed = self._at(geometry)
            tile_px = geometry.tiles_px[self.base]
            if self.tile_sides_px.count(tile_px) > 1:
                raise ValueError(f"tiles of {tile_px} px occur more than once")
            fields = {name: getattr(self, name) for name in Network.model_fields} | changed
            try:
                Network.model_validate(fields)
            except ValidationError as error:
                reason = error.errors(include_url=False, include_context=False)[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"tiles of {tile_px} px: {reason}") from None
            lenders = lenders_of(geometry.segments)
            if lenders != self.lenders:
                raise ValueError(f"tiles of {tile_px} px: lenders {lenders} differ from the plan's own {self.lenders}")
        return self

    @model_validator(mode="after")
    def _payloads_agree(self) -> Manifest:
        needed = self.schema_needed
        if self.schema_version != needed:
            held = [name for name in ("lenders", "geometries", *PAYLOADS) if getattr(self, name)]
            raise ValueError(
                f"a plan with {', '.join(held) or 'no payloads'} is of schema {needed}, and this one says"
                f" {self.schema_version}"
            )
        check_payloads(self, self)
        return self

    def portable_members(self) -> dict[str, str]:
        """Every member that the network needs on any machine, at any side of its tiles -> who needs it."""
        used = super().portable_members()
        for tile_px in self.tile_sides_px[1:]:
            for member, user in self.at(tile_px).portable_members().items():
                used.setdefault(member, f"{user} for tiles of {tile_px} px")
        return used

    def members_used(self) -> dict[str, str]:
        """Every member that a part of the manifest names -> who needs it."""
        return {**self.portable_members(), **dict(payload_members(self))}
