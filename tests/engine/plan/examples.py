"""Small manifests and members for tests of the plan; the members are not graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from uperfuse.engine.plan.manifest import (
    Accuracy,
    Channel,
    Check,
    ClassEntry,
    Manifest,
    Modality,
    Provenance,
    Resize,
    Segment,
    SeriesFilter,
    Task,
    TensorSpec,
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


def members_of(manifest: Manifest, *, extra: Mapping[str, bytes] | None = None) -> dict[str, bytes]:
    """Bytes for every member that `manifest` names: all of different, uneven lengths, one of them empty."""
    members = {
        segment.member: f"graph of {segment.name};".encode() * (3 + i) for i, segment in enumerate(manifest.segments)
    }
    if manifest.check is not None:
        members |= {member: f"logits of {task}".encode() for task, member in manifest.check.members.items()}
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
