"""A checkpoint to one plan file, checked before it gets its name."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.check import check_tiles_of
from ...engine.engine import Engine
from ...engine.errors import BackendError, CheckpointError
from ...engine.plan.manifest import Manifest
from ...engine.plan.network import Accuracy, Check, Geometry, Provenance, Resize, Segment
from ...engine.plan.plan import Plan, write_plan
from ...engine.rasters import Scene
from ..checkpoint import load_checkpoint
from ..description import DescribedNetwork, ExportConfig, describe_network, each_once, tile_sides
from ..network import UPerFuse
from .check import MAX_RELATIVE_ERROR, MIN_ARGMAX_EQUAL, Sample, compare, real_samples, reference_logits
from .graph import Graph, export_graph
from .rewrite import rewritten
from .segments import segments_of
from .sharing import sharing_weights

__all__ = ["ExportReport", "export_checkpoint", "export_network"]

_SEED = 20_260
_CHECK_DATES = 13
_CHECK_STRIDE_PX = 16
_RANDOM_TILES = 2
_REAL_TILES = 4


@dataclass(frozen=True)
class ExportReport:
    """What was written: the plan's identity, its size in bytes, and how close it is to PyTorch."""

    plan_hash: str
    size: int
    accuracy: tuple[Accuracy, ...]


def export_checkpoint(
    checkpoint: Path,
    *,
    out: Path,
    config: Path | ExportConfig | None = None,
    tile_px: int | Sequence[int] | None = None,
    name: str | None = None,
    scene: Scene | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Turn a checkpoint into a plan.

    Args:
        checkpoint: weights as `.safetensors`, with the names of the published ones.
        out: the plan to write.
        config: what keys and shapes cannot tell, as YAML or as an object; None: what the file says of itself.
            Published names need none.
        tile_px: side of a tile in pixels of the first modality; other sensors follow. None: as trained. Several: the
            plan takes tiles of each, the first being its own.
        name: name of the network; None takes the file's.
        scene: rasters whose first tiles the check runs on beside random ones.
        overwrite: replace an existing plan.
        say: where progress goes, a line at a time.

    Raises:
        CheckpointError: keys, shapes or what is known of them do not make a network, or the plan's results are
            not PyTorch's. Nothing is written then.
    """
    if out.exists() and not overwrite:
        raise CheckpointError(f"{out} exists; choose another name or allow it to be overwritten (--overwrite)")
    if out.is_dir():
        raise CheckpointError(f"{out} is a folder; choose the name of a file")
    told = None if config is None else config if isinstance(config, ExportConfig) else ExportConfig.read(config)
    sizes = None if told is None else {m: words.tile_px for m, words in told.modalities.items() if words.tile_px}
    loaded = load_checkpoint(checkpoint, tile_px=sizes)
    said = loaded.said if told is None else told
    network_name = name or said.name or checkpoint.stem
    for line in loaded.notes:
        say(line)
    provenance = Provenance(
        checkpoint=checkpoint.name,
        checkpoint_sha256=_sha256(checkpoint),
        created=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        tools={tool: version(tool) for tool in ("uperfuse", "torch", "timm", "onnx", "openvino")},
    )
    return export_network(
        loaded.network,
        out=out,
        name=network_name,
        provenance=provenance,
        said=said,
        tile_px=tile_px,
        scene=scene,
        say=say,
    )


def export_network(
    network: UPerFuse,
    *,
    out: Path,
    name: str,
    provenance: Provenance,
    said: ExportConfig | None = None,
    tile_px: int | Sequence[int] | None = None,
    scene: Scene | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Turn a network into a plan; see `export_checkpoint`."""
    network = network.eval()
    said = said or ExportConfig()
    # what can be refused is refused before the work begins
    sides = each_once(tile_px)
    tiles_px = [tile_sides(network.spec, said=said.modalities, tile_px=side) for side in sides]
    described = [
        describe_network(network.spec, name=name, said=said, tiles_px=each, say=say if first else lambda _line: None)
        for first, each in zip((True, *(False,) * len(sides)), tiles_px, strict=False)
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    if not os.access(out.parent, os.W_OK):
        raise CheckpointError(f"{out.parent} cannot be written to; choose another folder")
    trials = [
        _trial(network, each, name=name, provenance=provenance, scene=scene, say=say)
        for each in reversed(described)  # so that the network is left as the plan's own tiles want it
    ]
    own, *others = reversed(trials)
    manifest, members = own.manifest, dict(own.members)
    if others:
        geometries = [_geometry(trial, own, members) for trial in others]
        manifest = manifest.model_copy(update={"geometries": tuple(geometries)})
        manifest = manifest.model_copy(update={"schema_version": manifest.schema_needed})
    with tempfile.TemporaryDirectory(prefix=".uperfuse-export-", dir=out.parent) as folder:
        trial_plan = Path(folder) / "trial.plan"
        write_plan(trial_plan, manifest, members)
        say("comparing with PyTorch")
        accuracy = [tuple(_measure(trial_plan, trial)) for trial in (own, *others)]
    for trial, measured in zip((own, *others), accuracy, strict=True):
        _accept(measured)
        of_side = f", tiles of {trial.manifest.base_px} px" if others else ""
        for entry in measured:
            error, equal = f"{entry.relative_error:.1e}", f"{entry.argmax_equal:.3%}"
            say(f"{entry.task} in {entry.precision}{of_side}: relative error {error}, {equal} of classes equal")
    measured_geometries = (
        geometry.model_copy(update={"accuracy": measured})
        for geometry, measured in zip(manifest.geometries, accuracy[1:], strict=True)
    )
    manifest = manifest.model_copy(update={"accuracy": accuracy[0], "geometries": tuple(measured_geometries)})
    write_plan(out, manifest, members)
    with Plan.open(out) as plan:
        return ExportReport(plan.hash, out.stat().st_size, accuracy[0])


@dataclass(frozen=True)
class _Trial:
    """The network for tiles of one side, by itself, and what PyTorch gives for some of them.

    Attributes:
        manifest: of a plan for these tiles alone.
        graphs: of its segments, complete.
        stored: the same as that plan stores them, without what another of them holds.
        members: of that plan.
        samples: tiles and PyTorch's logits.
        tiles: what they are, in words.
    """

    manifest: Manifest
    graphs: Sequence[Graph]
    stored: Sequence[Graph]
    members: Mapping[str, bytes]
    samples: Sequence[tuple[Sample, Mapping[str, NDArray[np.float32]]]]
    tiles: str


def _trial(
    network: UPerFuse,
    described: DescribedNetwork,
    *,
    name: str,
    provenance: Provenance,
    scene: Scene | None,
    say: Callable[[str], None],
) -> _Trial:
    """Export every segment for tiles of one side."""
    tiles_px = {modality.name: modality.tile_px for modality in described.modalities}
    for image in network.spec.images:
        network.set_tile(image.name, (tiles_px[image.name],) * 2)
    graphs = []
    for segment in segments_of(network, tiles_px=tiles_px):
        say(f"exporting {segment.name} for tiles of {tiles_px[network.spec.modalities[0]]} px")
        graphs.append(export_graph(rewritten(segment)))
    stored = _each_weight_once(graphs)
    manifest = _manifest(network, stored, described, name=name, provenance=provenance)
    members: dict[str, bytes] = {f"segments/{_file(graph.name)}": graph.data for graph in stored}
    real = real_samples(scene, manifest, most=_REAL_TILES) if scene is not None else []
    samples = _samples(network, manifest, real)
    for task, logits in samples[0][1].items():
        members[f"check/{task}.npy"] = _npy(logits[0, :, ::_CHECK_STRIDE_PX, ::_CHECK_STRIDE_PX])
    tiles = f"{_RANDOM_TILES} random" + (f" and {len(real)} real" if real else "")
    return _Trial(manifest, graphs, stored, members, samples, tiles)


def _each_weight_once(graphs: Sequence[Graph]) -> list[Graph]:
    """Graphs of one side without what their lenders hold."""
    named = {graph.name: graph for graph in graphs}
    return [graph if graph.lender is None else sharing_weights(graph, named[graph.lender]) for graph in graphs]


def _geometry(trial: _Trial, own: _Trial, members: dict[str, bytes]) -> Geometry:
    """What a plan says of tiles of another side; its graphs and check go to the members."""
    manifest = trial.manifest
    assert manifest.check is not None, "every trial has a check"
    segments = []
    stored = {graph.name: graph for graph in own.stored}
    for segment, graph, same in zip(manifest.segments, trial.graphs, own.graphs, strict=True):
        if graph.data != same.data:
            lenders = [stored[name] for name in (graph.name, graph.lender) if name is not None]
            segment = segment.model_copy(update={"member": f"segments/{manifest.base_px}/{_file(graph.name)}"})
            members[segment.member] = sharing_weights(graph, *lenders).data
        segments.append(segment)
    checks = {task: f"check/{manifest.base_px}/{task}.npy" for task in manifest.check.members}
    members |= {checks[task]: trial.members[member] for task, member in manifest.check.members.items()}
    return Geometry(
        tiles_px={modality.name: modality.tile_px for modality in manifest.modalities},
        label_px=manifest.label_px,
        logits_px=manifest.logits_px,
        upsampling=manifest.upsampling,
        segments=tuple(segments),
        check=manifest.check.model_copy(update={"members": checks}),
    )


def _manifest(
    network: UPerFuse, graphs: Sequence[Graph], described: DescribedNetwork, *, name: str, provenance: Provenance
) -> Manifest:
    spec = network.spec
    logits_px = int(next(graph for graph in graphs if graph.name.startswith("decode:")).outputs[0].shape[-1])
    return Manifest(
        schema_version=4 if spec.shared else 1,
        name=name,
        encoder=_encoder_words(network),
        decoder=spec.decoder if spec.images else "mean of series",
        base=spec.modalities[0],
        label_px=described.label_px,
        modalities=described.modalities,
        tasks=described.tasks,
        fusion="mean" if not spec.images else "sum" if spec.fused else "none",
        logits_px=logits_px,
        upsampling=tuple(_upsampling(logits_px, scale=network.head_scale, label_px=described.label_px)),
        segments=tuple(
            Segment(
                name=graph.name,
                member=f"segments/{_file(graph.name)}",
                inputs=graph.inputs,
                outputs=graph.outputs,
                parameters=graph.parameters,
                gflop=graph.gflop,
                lender=graph.lender,
            )
            for graph in graphs
        ),
        check=Check(
            seed=_SEED,
            dates=_CHECK_DATES,
            members={task.name: f"check/{task.name}.npy" for task in spec.tasks},
            stride_px=_CHECK_STRIDE_PX,
            max_relative_error=MAX_RELATIVE_ERROR,
        ),
        provenance=provenance,
    )


def _upsampling(logits_px: int, *, scale: int, label_px: int) -> Iterator[Resize]:
    px = logits_px
    if scale != 1:
        px *= scale
        yield Resize(px=px, align_corners=True)
    if px != label_px:
        yield Resize(px=label_px, align_corners=False)


def _samples(
    network: UPerFuse, manifest: Manifest, real: Sequence[Sample]
) -> list[tuple[Sample, dict[str, NDArray[np.float32]]]]:
    seeds = range(_SEED, _SEED + _RANDOM_TILES)
    random = [Sample(check_tiles_of(manifest, seed=seed, dates=_CHECK_DATES), {}) for seed in seeds]
    return [(each, reference_logits(network, manifest, each.tiles, voids=each.voids)) for each in (*random, *real)]


def _measure(plan: Path, trial: _Trial) -> Iterator[Accuracy]:
    for precision in ("float32", "bf16"):
        try:
            engine = Engine.load(plan, device="cpu", precision=precision, tile_px=trial.manifest.base_px)
        except BackendError:
            if precision == "float32":
                raise
            continue  # this processor has no bf16; the manifest then says nothing of it
        with engine:
            yield from compare(engine, trial.samples, what=trial.tiles)


def _accept(accuracy: Sequence[Accuracy]) -> None:
    for entry in accuracy:
        exact = entry.relative_error <= MAX_RELATIVE_ERROR and entry.argmax_equal >= MIN_ARGMAX_EQUAL
        if entry.precision == "float32" and not exact:
            raise CheckpointError(
                f"the plan differs from PyTorch on {entry.task}: relative error {entry.relative_error:.1e} and "
                f"{entry.argmax_equal:.3%} of classes equal, expected at most {MAX_RELATIVE_ERROR:.0e} and at least "
                f"{MIN_ARGMAX_EQUAL:.2%}; nothing was written"
            )


def _encoder_words(network: UPerFuse) -> str:
    if not network.spec.images:
        return "U-TAE"
    backbone = network.spec.images[0].backbone
    words = f"{backbone.family} {'-'.join(map(str, backbone.dims))}, depths {'-'.join(map(str, backbone.depths))}"
    if network.spec.shared:
        words += f", one for {', '.join((network.spec.images[0].name, *network.spec.shared))}"
    return f"{words}, U-TAE" if network.spec.series else words


def _file(segment: str) -> str:
    return segment.replace(":", ".") + ".onnx"


def _npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
