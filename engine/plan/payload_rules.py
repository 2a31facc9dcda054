"""What the payloads of a plan must agree on: with the network, with each other, and whose members are whose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .network import Network
from .part_doors import check_part_doors
from .payloads import Agreement, EnginePayload, Payloads

__all__ = ["check_payloads", "payload_members"]


def check_payloads(network: Network, payloads: Payloads) -> None:
    """Compare payloads with the network that they compute, and with each other.

    Raises:
        ValueError: what does not agree, and with what.
    """
    for kind, names in (
        ("engine target", [engine.target for engine in payloads.engines]),
        ("architecture", [str(payload.capability) for payload in payloads.kernels]),
        ("attention of", [weights.series for weights in payloads.attention]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{kind} {', '.join(twice)} occurs more than once")
    series = {modality.name for modality in network.modalities if modality.kind == "series"}
    unknown = sorted({weights.series for weights in payloads.attention} - series)
    if unknown:
        raise ValueError(f"attention of {', '.join(unknown)}, no series of the plan")
    for engine in payloads.engines:
        _check_engine(network, payloads, engine, series)
    _check_quantised(network, payloads)
    _check_members(network, payloads)


def payload_members(payloads: Payloads) -> Iterator[tuple[str, str]]:
    """Every member that a payload needs, and which one that is."""
    for engine in payloads.engines:
        yield from ((part.member, f"{part.name} of {engine.target}") for part in engine.parts)
    for payload in payloads.kernels:
        for kernel in payload.kernels:
            for member in (kernel.record, kernel.cubin, kernel.ptx):
                yield member, f"a kernel of sm_{payload.capability}"
    for weights in payloads.attention:
        yield from ((member, f"the attention of {weights.series}") for member in weights.arrays.values())
    if payloads.quantised is not None:
        yield from ((member, f"quantised {name}") for name, member in payloads.quantised.segments.items())


def _check_engine(network: Network, payloads: Payloads, engine: EnginePayload, series: set[str]) -> None:
    wanted = network.parts_of(cut=engine.cut)
    if {part.name for part in engine.parts} != set(wanted):
        got = sorted(part.name for part in engine.parts)
        raise ValueError(f"{engine.target} has the parts {got}, expected {sorted(wanted)}")
    if bool(engine.dates) != bool(series):
        raise ValueError(f"{engine.target} has numbers of dates {engine.dates} for {len(series)} series")
    if engine.cut and not series:
        raise ValueError(f"{engine.target} is cut, and the plan has no series whose encoder could be")
    if engine.cut and {weights.series for weights in payloads.attention} != series:
        raise ValueError(f"{engine.target} is cut, and the attention of some series is missing")
    if engine.verified is not None:
        _check_tasks(network, engine.verified.agreement, of=engine.target)
    check_part_doors(network, engine)


def _check_quantised(network: Network, payloads: Payloads) -> None:
    if payloads.quantised is None:
        return
    unknown = sorted(set(payloads.quantised.segments) - {segment.name for segment in network.segments})
    if unknown:
        raise ValueError(f"quantised segments {unknown} are none of the plan's")
    _check_tasks(network, payloads.quantised.agreement, of="the quantised segments")


def _check_tasks(network: Network, agreement: Iterable[Agreement], *, of: str) -> None:
    got, expected = [entry.task for entry in agreement], [task.name for task in network.tasks]
    if sorted(got) != sorted(expected):
        raise ValueError(f"agreement of {of} covers {sorted(got)}, tasks are {sorted(expected)}")


def _check_members(network: Network, payloads: Payloads) -> None:
    """Payloads have members of their own: one that served two would be hashed as one and taken for another."""
    users = network.portable_members()
    for member, user in payload_members(payloads):
        if member in users:
            raise ValueError(f"{user} needs member {member}, which {users[member]} has already")
        users[member] = user
    folders = [(part.member, f"tensorrt/{engine.target}/") for engine in payloads.engines for part in engine.parts]
    for payload in payloads.kernels:
        files = (file for kernel in payload.kernels for file in (kernel.record, kernel.cubin, kernel.ptx))
        folders += [(file, f"kernels/sm_{payload.capability}/") for file in files]
    for member, folder in folders:
        if not member.startswith(folder):
            raise ValueError(f"member {member} of {users[member]} is expected in {folder}")
