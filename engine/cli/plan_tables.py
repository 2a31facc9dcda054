"""What a plan says of itself, as tables for a terminal of 80 columns or more, with or without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..plan.manifest import Manifest
from ..plan.network import Modality, Segment, SeriesFilter, Task
from ..plan.plan import Plan
from .payload_tables import KnownKeys, payload_sections, said_signers, signatures
from .tables import count, pairs, size, table, titled

__all__ = ["members_table", "plan_tables"]

_CLASS_COLUMNS = 2
_HASH_DIGITS = 16


def plan_tables(plan: Plan, *, known: KnownKeys | None = None) -> Group:
    """Everything that `uperfuse inspect` prints, in the order in which a user asks for it.

    Args:
        plan: an open plan.
        known: keys that have names; None for a keyring without any.
    """
    return Group(*_sections(plan, known or KnownKeys()))


def _sections(plan: Plan, known: KnownKeys) -> Iterator[RenderableType]:
    manifest = plan.manifest
    yield _head(plan, known)
    yield titled("Modalities", _modalities(manifest))
    yield titled("Channels of the network", _channels(manifest))
    series = [modality for modality in manifest.modalities if modality.kind == "series"]
    if series:
        yield titled("Series", _series(series))
    for task in manifest.tasks:
        yield titled(f"Classes of {task.name}", _classes(task))
    yield titled("Segments", _segments(manifest))
    if manifest.geometries:
        yield titled("Tiles of other sides, by the same weights", _geometries(manifest))
    yield from payload_sections(manifest)
    if plan.signed_by:
        yield titled("Signatures", signatures(plan, known))
    if manifest.accuracy:
        yield titled("Measured at export, against PyTorch float32", _accuracy(manifest))
    rows = ((name, member.size, member.sha256[:_HASH_DIGITS]) for name, member in manifest.members.items())
    yield titled("Members", members_table(rows, verdict="SHA-256 begins with"))


def members_table(rows: Iterable[tuple[str, int, str]], *, verdict: str) -> Table:
    """Name and size of each member, and what is said of it under the title `verdict`."""
    made = table("Member", ">Size", verdict)
    for name, octets, said in rows:
        made.add_row(Text(name), size(octets), Text(said))
    return made


def _head(plan: Plan, known: KnownKeys) -> Group:
    manifest = plan.manifest
    parameters = sum(segment.parameters for segment in manifest.segments)
    gflop = sum(segment.gflop for segment in manifest.segments if segment.role != "absent")
    side_m = manifest.label_px * manifest.label_gsd_m
    side = f"{manifest.label_px} x {manifest.label_px} px of {_metres(manifest.label_gsd_m)} ({side_m:g} m a side)"
    fusion = {"none": "one image", "sum": "pyramids resized and added", "mean": "logits of the series averaged"}
    made = manifest.provenance
    rows = [
        ("file", f"{plan.path.name}, {size(plan.size)}, schema {manifest.schema_version}"),
        ("hash", plan.hash),
        ("signed by", said_signers(plan, known)),
        ("network", f"{manifest.encoder}, {manifest.decoder}; {fusion[manifest.fusion]}"),
        ("weights", f"{count(parameters)} parameters, {gflop:,.2f} GFLOP per tile" + _at_dates(manifest)),
        ("maps", f"{side}, following {manifest.base}"),
        ("check", _check(manifest)),
        ("made", f"{made.created} from {made.checkpoint}"),
        ("checkpoint", made.checkpoint_sha256),
        ("with", ", ".join(f"{tool} {version}" for tool, version in made.tools.items()) or "nothing said"),
    ]
    return Group(Text(manifest.name, style="bold"), pairs(rows))


def _metres(value: float) -> str:
    """A pixel size."""
    return f"{value:g} m"


def _at_dates(manifest: Manifest) -> str:
    return " with 32 dates a series" if any(m.kind == "series" for m in manifest.modalities) else ""


def _check(manifest: Manifest) -> str:
    check = manifest.check
    if check is None:
        return "none stored"
    return f"seed {check.seed}, relative error <= {check.max_relative_error:g}; repeat it with uperfuse verify"


def _modalities(manifest: Manifest) -> Table:
    made = table("|Modality", "|Kind", ">Tile", ">Pixel", "|Type", "|May be\nabsent", "Bands, in this order")
    for modality in manifest.modalities:
        made.add_row(
            Text(modality.name),
            modality.kind,
            f"{modality.tile_px} px",
            _metres(modality.gsd_m),
            modality.dtype,
            "yes" if modality.may_be_absent else "no",
            Text(" ".join(modality.bands)),
        )
    return made


def _channels(manifest: Manifest) -> Table:
    made = table("|Modality", "|Channel", "Made from", ">Mean", ">Std")
    for modality in manifest.modalities:
        if all((c.name, c.minus, c.mean, c.std) == (c.band, None, 0.0, 1.0) for c in modality.channels):
            bands = " ".join(channel.band for channel in modality.channels)
            made.add_row(Text(modality.name), "all", Text(f"{bands}, raw numbers"), "-", "-")
            continue
        for place, channel in enumerate(modality.channels):
            source = channel.band if channel.minus is None else f"{channel.band} - {channel.minus}"
            name = modality.name if place == 0 else ""
            made.add_row(Text(name), Text(channel.name), Text(source), f"{channel.mean:g}", f"{channel.std:g}")
    return made


def _series(series: Iterable[Modality]) -> Table:
    made = table("|Modality", "|Days from", "|Seen in training", "Acquisitions used")
    for modality in series:
        seen = "not said" if modality.days_seen is None else "day {} to {}".format(*modality.days_seen)
        made.add_row(Text(modality.name), _day(modality.reference_day), seen, _used(modality.filter))
    return made


def _day(month_day: str | None) -> str:
    if month_day is None:
        return "-"
    month, day = month_day.split("-")
    return f"{int(day)} {date(2000, int(month), 1):%B}"


def _used(kept: SeriesFilter | None) -> str:
    if kept is None:
        return "all"
    rule = f"{100 * kept.clear_fraction:g} % of pixels with cloud <= {kept.max_cloud} %, snow <= {kept.max_snow} %"
    return rule if kept.composite == "none" else f"{rule}; {kept.composite} means"


def _classes(task: Task) -> Table:
    """Classes in columns, read downwards; swatches are blank where there is no colour."""
    rows = -(-len(task.classes) // _CLASS_COLUMNS)
    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(_CLASS_COLUMNS):
        grid.add_column(justify="right", style="dim", no_wrap=True)
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_column(style="dim", no_wrap=True)
    for row in range(rows):
        cells: list[RenderableType] = []
        for place in range(row, len(task.classes), rows):
            entry = task.classes[place]
            name = Text(entry.name)
            if entry.ignored:
                name.append(" (ignored)", style="dim")
            cells += [str(place), Text("    ", style=f"on {entry.colour}"), name, entry.colour]
        grid.add_row(*cells)
    return grid


def _segments(manifest: Manifest) -> Table:
    made = table("Segment", "Inputs", ">Parameters", ">GFLOP", ">Size")
    for segment in manifest.segments:
        stored = manifest.members[segment.member].size
        name = segment.name if segment.lender is None else f"{segment.name}, with weights of {segment.lender}"
        made.add_row(Text(name), _inputs(segment), count(segment.parameters), f"{segment.gflop:,.2f}", size(stored))
    return made


def _inputs(segment: Segment) -> Text:
    if not segment.inputs:
        return Text("none")
    first, *others = segment.inputs
    shape = ", ".join(str(length) for length in first.shape)
    more = f" and {len(others)} more" if len(others) > 2 else "".join(f", {tensor.name}" for tensor in others)
    return Text(f"{first.name} [{shape}]{more}")


def _geometries(manifest: Manifest) -> Table:
    made = table(">Tile", ">Maps", "Other modalities", ">GFLOP", ">GFLOP per megapixel", ">Own size")
    own = set(manifest.at(manifest.base_px).model_copy(update={"geometries": ()}).portable_members())
    for side in manifest.tile_sides_px:
        sized = manifest.at(side)
        gflop = sum(segment.gflop for segment in sized.segments if segment.role != "absent")
        others = (f"{each.name} {each.tile_px} px" for each in sized.modalities if each.name != manifest.base)
        members = set(sized.model_copy(update={"geometries": ()}).portable_members())
        stored = sum(manifest.members[name].size for name in (members if side == manifest.base_px else members - own))
        made.add_row(
            f"{side} px",
            f"{sized.label_px} px",
            Text(", ".join(others) or "none"),
            f"{gflop:,.2f}",
            f"{gflop / side**2 * 1e6:,.1f}",
            size(stored),
        )
    return made


def _accuracy(manifest: Manifest) -> Table:
    made = table("|Task", "Back end", "|Precision", "Tiles", ">Relative error", ">Same class")
    sides = [(manifest.base_px, manifest.accuracy)]
    sides += [(each.tiles_px[manifest.base], each.accuracy) for each in manifest.geometries]
    for side, entry in ((side, entry) for side, entries in sides for entry in entries):
        made.add_row(
            Text(entry.task),
            Text(entry.backend),
            entry.precision,
            Text(f"{entry.tiles} of {side} px" if manifest.geometries else entry.tiles),
            f"{entry.relative_error:.1e}",
            f"{entry.argmax_equal:.3%}",
        )
    return made
