"""What a plan holds for one kind of machine, and who vouches for it, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ..errors import KeyringError
from ..keyring import Keyring
from ..plan.manifest import Manifest
from ..plan.payloads import Agreement, EnginePayload, QuantisedPayload
from ..plan.plan import Plan
from .tables import count, pairs, size, table, titled

__all__ = ["KnownKeys", "known_keys", "payload_sections", "said_signers", "signatures"]


@dataclass(frozen=True)
class KnownKeys:
    """What the user's keyring says of public keys.

    Attributes:
        names: public key -> its name.
        problem: why the keyring says nothing, where it cannot be believed.
    """

    names: Mapping[bytes, str] = field(default_factory=dict)
    problem: str | None = None


def known_keys() -> KnownKeys:
    """The user's keyring, or what is wrong with it: a plan can be looked at all the same."""
    try:
        return KnownKeys({key.public: key.name for key in tuple(Keyring.open().keys())})
    except KeyringError as error:
        return KnownKeys(problem=str(error))


def said_signers(plan: Plan, known: KnownKeys) -> str:
    """Who signed, in one line."""
    if not plan.signed_by:
        return "nobody"
    if known.problem is not None:
        return f"{_counted(len(plan.signed_by), 'key')}, and whose is not known: {known.problem}"
    named = [known.names[key] for key in plan.signed_by if key in known.names]
    strange = len(plan.signed_by) - len(named)
    return ", ".join([*named, *([f"{_counted(strange, 'key')} that the keyring does not hold"] if strange else [])])


def signatures(plan: Plan, known: KnownKeys) -> Table:
    """Every key that signed."""
    made = table("|Public key", "In the keyring as")
    for key in plan.signed_by:
        made.add_row(key.hex(), Text(known.names.get(key, "-")))
    return made


def payload_sections(manifest: Manifest) -> Iterator[RenderableType]:
    """What each kind of machine finds in the plan: all of it in brief, then each payload."""
    yield titled("Payloads", pairs(_brief(manifest)))
    for engine in manifest.engines:
        yield titled(f"Engines {engine.target}", pairs(_engine(manifest, engine)))
    if manifest.kernels:
        yield titled("Kernels", _kernels(manifest))
    if manifest.quantised is not None:
        yield titled("Segments in 8 bits, for the processor", pairs(_quantised(manifest, manifest.quantised)))


def _brief(manifest: Manifest) -> list[tuple[str, str]]:
    segments = [segment.member for segment in manifest.segments]
    rows = [("ONNX", f"{_files(manifest, segments, 'segment')}, for any machine")]
    parts = [part.member for engine in manifest.engines for part in engine.parts]
    targets = ", ".join(engine.target for engine in manifest.engines)
    rows.append(("TensorRT", f"{_files(manifest, parts, 'engine')}, for {targets}" if parts else "none"))
    members = [file for payload in manifest.kernels for file in _kernel_files(manifest, payload.capability)]
    boards = ", ".join(f"sm_{payload.capability}" for payload in manifest.kernels)
    rows.append(("kernels", f"{_files(manifest, members, 'file')}, for {boards}" if members else "none"))
    if manifest.attention:
        arrays = [member for weights in manifest.attention for member in weights.arrays.values()]
        series = ", ".join(weights.series for weights in manifest.attention)
        rows.append(("attention", f"{_files(manifest, arrays, 'file')}, of {series}"))
    if manifest.quantised is not None:
        files = list(manifest.quantised.segments.values())
        rows.append(("8 bits", f"{_files(manifest, files, 'segment')}, for the processor"))
    unused = sorted(set(manifest.members) - set(manifest.members_used()))
    if unused:
        rows.append(("of no use", _files(manifest, unused, "file")))
    return rows


def _engine(manifest: Manifest, engine: EnginePayload) -> list[tuple[str, str]]:
    where = "any GPU that it supports" if engine.capability is None else f"sm_{engine.capability}"
    later = " or later" if engine.version_compatible else ""
    shapes = f"{_listed(engine.batches)} tile{'' if engine.batches == (1,) else 's'} at a time"
    if engine.dates:
        shapes += f", {_listed(engine.dates)} dates"
    rows = [
        ("runs on", f"{where}, with {engine.flavour} {engine.version}{later}"),
        ("computes in", engine.precision),
        ("shapes", shapes),
        ("parts", _files(manifest, [part.member for part in engine.parts], "engine")),
    ]
    if engine.dates:
        rows.append(("series", "cut at the kernels" if engine.cut else "whole, without kernels"))
    if engine.precision in ("int8", "fp8"):
        rows.append(("stayed float", _counted(len(engine.float_layers), "layer")))
    rows.append(("built on", engine.machine or "a machine without a GPU"))
    if engine.verified is None:
        rows.append(("verified", "not yet; done when it is first loaded on a GPU"))
    else:
        rows.append(("verified", f"on {engine.verified.machine}; {_agreement(engine.verified.agreement)}"))
    return rows


def _kernels(manifest: Manifest) -> Table:
    made = table("|Board", "Kernels", ">Size")
    for payload in manifest.kernels:
        names = Counter(kernel.record.rsplit("/", 1)[-1].split(".", 1)[0] for kernel in payload.kernels)
        said = ", ".join(name if number == 1 else f"{name} x {number}" for name, number in sorted(names.items()))
        octets = sum(manifest.members[file].size for file in _kernel_files(manifest, payload.capability))
        made.add_row(f"sm_{payload.capability}", Text(said), size(octets))
    return made


def _quantised(manifest: Manifest, quantised: QuantisedPayload) -> list[tuple[str, str]]:
    return [
        ("segments", ", ".join(quantised.segments)),
        ("weights", f"{count(quantised.parameters)} in 8 bits"),
        ("stayed float", _counted(len(quantised.float_layers), "layer")),
        ("limit", f"mIoU may drop by {quantised.max_miou_drop:g} points"),
        ("measured", _agreement(quantised.agreement)),
        ("size", _files(manifest, list(quantised.segments.values()), "file")),
    ]


def _agreement(entries: Iterable[Agreement]) -> str:
    return "; ".join(
        f"{entry.task}: same class {entry.argmax_equal:.3%}, mIoU {entry.miou:.2f}, relative error"
        f" {entry.relative_error:.1e}"
        for entry in entries
    )


def _kernel_files(manifest: Manifest, capability: int) -> list[str]:
    kernels = next(payload.kernels for payload in manifest.kernels if payload.capability == capability)
    return [file for kernel in kernels for file in (kernel.record, kernel.cubin, kernel.ptx)]


def _files(manifest: Manifest, members: list[str], noun: str) -> str:
    return f"{_counted(len(members), noun)}, {size(sum(manifest.members[member].size for member in members))}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _listed(numbers: Iterable[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}" if first else last
