"""What the payloads of a manifest must agree on: with the network, with each other, and whose members are whose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from .part_doors import check_part_doors
from .payloads import Agreement, EnginePayload

if TYPE_CHECKING:
    from .manifest import Manifest

__all__ = ["check_payloads", "payload_members"]


def check_payloads(manifest: Manifest) -> None:
    """Compare payloads with the rest of the manifest.

    Raises:
        ValueError: what does not agree, and with what.
    """
    expected = 2 if manifest.has_payloads else 1
    if manifest.schema_version != expected:
        raise ValueError(
            f"payloads came with schema 2: a plan with{'' if expected == 2 else 'out'} any is of schema {expected},"
            f" and this one says {manifest.schema_version}"
        )
    for kind, names in (
        ("engine target", [engine.target for engine in manifest.engines]),
        ("architecture", [str(payload.capability) for payload in manifest.kernels]),
        ("attention of", [weights.series for weights in manifest.attention]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{kind} {', '.join(twice)} occurs more than once")
    series = {modality.name for modality in manifest.modalities if modality.kind == "series"}
    unknown = sorted({weights.series for weights in manifest.attention} - series)
    if unknown:
        raise ValueError(f"attention of {', '.join(unknown)}, no series of the plan")
    for engine in manifest.engines:
        _check_engine(manifest, engine, series)
    _check_quantised(manifest)
    _check_members(manifest)


def payload_members(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Every member that a payload needs, and which one that is."""
    for engine in manifest.engines:
        yield from ((part.member, f"{part.name} of {engine.target}") for part in engine.parts)
    for payload in manifest.kernels:
        for kernel in payload.kernels:
            for member in (kernel.record, kernel.cubin, kernel.ptx):
                yield member, f"a kernel of sm_{payload.capability}"
    for weights in manifest.attention:
        yield from ((member, f"the attention of {weights.series}") for member in weights.arrays.values())
    if manifest.quantised is not None:
        yield from ((member, f"quantised {name}") for name, member in manifest.quantised.segments.items())


def _check_engine(manifest: Manifest, engine: EnginePayload, series: set[str]) -> None:
    wanted = manifest.parts_of(cut=engine.cut)
    if {part.name for part in engine.parts} != set(wanted):
        got = sorted(part.name for part in engine.parts)
        raise ValueError(f"{engine.target} has the parts {got}, expected {sorted(wanted)}")
    if bool(engine.dates) != bool(series):
        raise ValueError(f"{engine.target} has numbers of dates {engine.dates} for {len(series)} series")
    if engine.cut and not series:
        raise ValueError(f"{engine.target} is cut, and the plan has no series whose encoder could be")
    if engine.cut and {weights.series for weights in manifest.attention} != series:
        raise ValueError(f"{engine.target} is cut, and the attention of some series is missing")
    if engine.verified is not None:
        _check_tasks(manifest, engine.verified.agreement, of=engine.target)
    check_part_doors(manifest, engine)


def _check_quantised(manifest: Manifest) -> None:
    if manifest.quantised is None:
        return
    unknown = sorted(set(manifest.quantised.segments) - {segment.name for segment in manifest.segments})
    if unknown:
        raise ValueError(f"quantised segments {unknown} are none of the plan's")
    _check_tasks(manifest, manifest.quantised.agreement, of="the quantised segments")


def _check_tasks(manifest: Manifest, agreement: Iterable[Agreement], *, of: str) -> None:
    got, expected = [entry.task for entry in agreement], [task.name for task in manifest.tasks]
    if sorted(got) != sorted(expected):
        raise ValueError(f"agreement of {of} covers {sorted(got)}, tasks are {sorted(expected)}")


def _check_members(manifest: Manifest) -> None:
    """Payloads have members of their own: one that served two would be hashed as one and taken for another."""
    users = manifest.portable_members()
    for member, user in payload_members(manifest):
        if member in users:
            raise ValueError(f"{user} needs member {member}, which {users[member]} has already")
        users[member] = user
    folders = [(part.member, f"tensorrt/{engine.target}/") for engine in manifest.engines for part in engine.parts]
    for payload in manifest.kernels:
        files = (file for kernel in payload.kernels for file in (kernel.record, kernel.cubin, kernel.ptx))
        folders += [(file, f"kernels/sm_{payload.capability}/") for file in files]
    for member, folder in folders:
        if not member.startswith(folder):
            raise ValueError(f"member {member} of {users[member]} is expected in {folder}")
