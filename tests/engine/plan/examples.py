"""Small manifests and members for tests of the plan; the members are not graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import (
    Accuracy,
    Channel,
    Check,
    ClassEntry,
    Modality,
    Provenance,
    Resize,
    Segment,
    SeriesFilter,
    Task,
    TensorSpec,
)
from uperfuse.engine.plan.payloads import (
    Agreement,
    AttentionWeights,
    CompiledKernel,
    Door,
    EnginePayload,
    KernelPayload,
    Part,
    QuantisedPayload,
    Verified,
)

AERIAL, DEM, S2, S1 = "AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"
COVER, CROPS = "AERIAL_LABEL-COSIA", "ALL_LABEL-LPIS"
_LEVEL_PX = (16, 8, 4, 2)

_MODALITIES = {
    AERIAL: Modality(
        name=AERIAL,
        kind="image",
        bands=("NIR", "R", "G"),
        dtype="uint8",
        channels=(
            Channel(name="NIR", band="NIR", mean=106.59, std=39.78),
            Channel(name="R", band="R", mean=105.66, std=52.23),
            Channel(name="G", band="G", mean=111.35, std=45.62),
        ),
        tile_px=64,
        gsd_m=0.2,
    ),
    DEM: Modality(
        name=DEM,
        kind="image",
        bands=("DSM", "DTM"),
        dtype="float32",
        channels=(
            Channel(name="DSM", band="DSM", mean=311.06, std=537.55),
            Channel(name="HEIGHT", band="DSM", minus="DTM", mean=311.06, std=537.55),
        ),
        tile_px=64,
        gsd_m=0.2,
        may_be_absent=True,
    ),
    S2: Modality(
        name=S2,
        kind="series",
        bands=("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12"),
        dtype="uint16",
        channels=tuple(
            Channel(name=band, band=band)
            for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
        ),
        tile_px=10,
        gsd_m=1.28,
        reference_day="05-15",
        days_seen=(-130, 228),
        filter=SeriesFilter(composite="monthly"),
    ),
    S1: Modality(
        name=S1,
        kind="series",
        bands=("VV", "VH"),
        dtype="float32",
        channels=(Channel(name="VV", band="VV"), Channel(name="VH", band="VH")),
        tile_px=10,
        gsd_m=1.28,
        reference_day="05-15",
    ),
}

_TASKS = {
    COVER: Task(
        name=COVER,
        classes=(
            ClassEntry(name="building", colour="#db0e9a"),
            ClassEntry(name="water", colour="#1553ae"),
            ClassEntry(name="vigne, cultivée", colour="#660082"),
            ClassEntry(name="undefined", colour="#000000", ignored=True),
        ),
    ),
    CROPS: Task(name=CROPS, classes=(ClassEntry(name="wheat", colour="#f2d15c"),)),
}


def a_manifest(modalities: tuple[str, ...] = (AERIAL, DEM, S2), tasks: tuple[str, ...] = (COVER, CROPS)) -> Manifest:
    """A sound manifest of a small network, without its list of members."""
    chosen = tuple(_MODALITIES[name] for name in modalities)
    images = [m for m in chosen if m.kind == "image"]
    if not images:
        chosen = tuple(m.model_copy(update={"gsd_m": 10.24}) for m in chosen)
    fusion = "mean" if not images else "none" if len(chosen) == 1 else "sum"
    base = (images or chosen)[0]
    label_px = base.tile_px if images else 512
    return Manifest(
        schema_version=1,
        name="example",
        encoder="tiny",
        decoder="upernet" if images else "utae",
        base=base.name,
        label_px=label_px,
        modalities=chosen,
        tasks=tuple(_TASKS[name] for name in tasks),
        fusion=fusion,
        logits_px=label_px // 4 if images else 10,
        upsampling=(Resize(px=label_px, align_corners=bool(images)),),
        segments=tuple(_segments(chosen, tasks, alone=not images)),
        accuracy=tuple(
            Accuracy(
                task=name,
                backend="OpenVINO CPU",
                precision="float32",
                tiles="4 random tiles",
                relative_error=1.25e-6,
                argmax_equal=1.0,
            )
            for name in tasks
        ),
        check=Check(
            seed=7,
            dates=9,
            members={name: f"check/{name}.npy" for name in tasks},
            stride_px=8,
            max_relative_error=1e-4,
        ),
        provenance=Provenance(
            checkpoint="example.safetensors",
            checkpoint_sha256=hashlib.sha256(b"checkpoint").hexdigest(),
            created="2026-01-31T12:00:00Z",
            tools={"uperfuse": "0.1.0", "torch": "2.14.1"},
        ),
    )


def with_payloads(manifest: Manifest) -> Manifest:
    """The manifest with a payload of every kind: engines for a board, for any RTX and in 8 bits, kernels of two."""
    series = [modality.name for modality in manifest.modalities if modality.kind == "series"]
    dates = (16, 32) if series else ()
    agreement = tuple(
        Agreement(task=task.name, relative_error=0.002, argmax_equal=0.9995, miou=99.91) for task in manifest.tasks
    )
    board = EnginePayload(
        target="sm_87-tensorrt-10.3.0-fp16",
        flavour="tensorrt",
        version="10.3.0",
        version_compatible=True,
        capability=87,
        machine="Orin",
        precision="fp16",
        batches=(1, 4),
        dates=dates,
        cut=bool(series),
        parts=parts_of(manifest, "sm_87-tensorrt-10.3.0-fp16", short="float16", cut=bool(series)),
        timing_cache=hashlib.sha256(b"cache").hexdigest(),
        verified=Verified(machine="Orin", agreement=agreement),
    )
    rtx = EnginePayload(
        target="rtx-1.7.1.116-float32",
        flavour="tensorrt_rtx",
        version="1.7.1.116",
        capability=None,
        machine=None,
        precision="float32",
        batches=(1,),
        dates=dates,
        cut=False,
        parts=parts_of(manifest, "rtx-1.7.1.116-float32", short="float32", cut=False),
    )
    small = board.model_copy(
        update={
            "target": "sm_90-tensorrt-11.4.0-int8",
            "version": "11.4.0",
            "capability": 90,
            "machine": "H100",
            "precision": "int8",
            "parts": parts_of(manifest, "sm_90-tensorrt-11.4.0-int8", short="bfloat16", cut=bool(series)),
            "float_layers": ("encoder/stem/conv", "encoder/stages.0/mlp"),
            "verified": Verified(machine="H100", agreement=agreement),
        }
    )
    tree = manifest.model_dump()
    added = {
        "schema_version": 2,
        "engines": [payload.model_dump() for payload in (board, rtx, small)],
        "kernels": [_kernels(capability).model_dump() for capability in (87, 90)],
        "attention": [_attention(name).model_dump() for name in series],
        "quantised": QuantisedPayload(
            segments={f"encoder:{manifest.base}": f"quantised/encoder.{manifest.base}.onnx"},
            float_layers=("stem",),
            max_miou_drop=0.5,
            agreement=agreement,
            parameters=12_000,
        ).model_dump(),
    }
    return Manifest.model_validate({**tree, **added})


def parts_of(manifest: Manifest, target: str, *, short: str, cut: bool) -> tuple[Part, ...]:
    """Parts with the doors that a build gives them."""
    return tuple(
        Part(
            name=name,
            member=f"tensorrt/{target}/{name.replace(':', '.')}.engine",
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )
        for name in manifest.parts_of(cut=cut)
        for inputs, outputs in [_part_doors(manifest, name, short)]
    )


def _part_doors(manifest: Manifest, name: str, short: str) -> tuple[list[Door], list[Door]]:
    role, subject = name.split(":")
    if role == "decode":
        segment = manifest.segment(name)
        logits = [_door(spec.name, "float32", *spec.shape) for spec in segment.outputs]
        return [_last(spec, short) for spec in segment.inputs], logits
    modality = manifest.modality(subject)
    levels = [_last(spec, short) for spec in manifest.segment(f"encoder:{subject}").outputs]
    px = (len(modality.channels), modality.tile_px, modality.tile_px)
    if modality.kind == "image":
        return [_door("pixels", "float32" if modality.dtype == "float32" else short, "B", *px)], levels
    pixels, mask = _door("pixels", "float32", "B", "T", *px), _door("mask", "float32", "B", "T")
    if role == "encoder":
        return [pixels, _door("days", "float32", "B", "T"), mask], levels
    side = modality.tile_px
    if role == "spatial":
        skips = [_door(f"skip{i}", short, "B", "T", side, side, 4 + i) for i in range(2)]
        return [pixels, mask], [*skips, _door("features", short, "B", "T", side, side, 16)]
    sums = [_door(f"sum{i}", short, "B", side, side, 4 + i) for i in range(2)]
    return [_door("context", short, "B", side, side, 32), *sums], levels


def _last(spec: TensorSpec, dtype: str) -> Door:
    batch, channels, *sides = spec.shape
    return _door(spec.name, dtype, batch, *sides, channels)


def _door(name: str, dtype: str, *shape: int | str) -> Door:
    return Door.model_validate({"name": name, "dtype": dtype, "shape": shape})


def _kernels(capability: int) -> KernelPayload:
    files = [f"kernels/sm_{capability}/{kernel}" for kernel in ("classify.fp32", "prepare.u8-fp16")]
    return KernelPayload(
        capability=capability,
        kernels=tuple(CompiledKernel(record=f"{f}.json", cubin=f"{f}.cubin", ptx=f"{f}.ptx") for f in files),
    )


def _attention(series: str) -> AttentionWeights:
    arrays = set(AttentionWeights.model_fields) - {"series", "period"}
    return AttentionWeights(series=series, period=1000.0, **{name: f"attention/{series}/{name}.npy" for name in arrays})


def members_of(manifest: Manifest, *, extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Bytes for every member that `manifest` names: all of different, uneven lengths, one of them empty."""
    members = {
        segment.member: f"graph of {segment.name};".encode() * (3 + i) for i, segment in enumerate(manifest.segments)
    }
    if manifest.check is not None:
        members |= {member: f"logits of {task}".encode() for task, member in manifest.check.members.items()}
    others = sorted(set(manifest.members_used()) - set(members))
    members |= {member: f"content of {member};".encode() * (1 + i % 7) for i, member in enumerate(others)}
    return {**members, "kernels/sm_90/nothing.cubin": b"", **(extra or {})}


def _segments(modalities: tuple[Modality, ...], tasks: tuple[str, ...], *, alone: bool) -> list[Segment]:
    levels = ("level0",) if alone else ("level0", "level1", "level2", "level3")
    sizes = (10,) if alone else _LEVEL_PX
    made: list[Segment] = []
    for modality in modalities:
        c, px = len(modality.channels), modality.tile_px
        inputs = [_tensor("pixels", "B", *(("T",) if modality.kind == "series" else ()), c, px, px)]
        if modality.kind == "series":
            inputs += [_tensor("days", "B", "T"), _tensor("mask", "B", "T")]
        outputs = [_tensor(name, "B", 8, side, side) for name, side in zip(levels, sizes, strict=True)]
        made.append(_segment(f"encoder:{modality.name}", inputs, outputs))
        if modality.may_be_absent:
            made.append(_segment(f"absent:{modality.name}", [], [_tensor(name, 1, 8, 1, 1) for name in levels]))
    fused = [_tensor(name, "B", 8, side, side) for name, side in zip(levels, sizes, strict=True)]
    logits = [_tensor("logits", "B", 4, sizes[0], sizes[0])]
    return [*made, *(_segment(f"decode:{task}", fused, logits) for task in tasks)]


def _segment(name: str, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> Segment:
    member = f"segments/{name}.onnx"
    return Segment(
        name=name, member=member, inputs=tuple(inputs), outputs=tuple(outputs), parameters=12_345, gflop=0.25
    )


def _tensor(name: str, *shape: int | str) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": "float32", "shape": shape})
