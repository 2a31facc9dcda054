"""What a plan says of its network: sensors, segments, maps, and where its weights come from.

What one part says must agree with the others: a network that passes here can be executed without asking again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints, model_validator

from .model import Colour, Count, Extent, Finite, Hex, Label, Model, MonthDay, Name, Piece, Pixels, Positive

__all__ = [
    "Accuracy",
    "Channel",
    "Check",
    "ClassEntry",
    "Geometry",
    "Modality",
    "Network",
    "Provenance",
    "Resize",
    "Segment",
    "SeriesFilter",
    "Task",
    "TensorSpec",
    "lenders_of",
]


class Channel(Model):
    """One channel of the network: `(band - minus - mean) / std`.

    `mean` 0 and `std` 1 stand for raw numbers.
    """

    name: Label
    band: Label
    minus: Label | None = None
    mean: Finite = 0.0
    std: Positive = 1.0


class SeriesFilter(Model):
    """Which acquisitions of an optical series are used.

    A date is kept when at least `clear_fraction` of its pixels have cloud <= `max_cloud` and snow <= `max_snow`
    (percent). If none is, snow alone decides. Kept dates may be averaged by month or half month.
    """

    clear_fraction: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_cloud: Annotated[int, Field(ge=0, le=100)] = 1
    max_snow: Annotated[int, Field(ge=0, le=100)] = 1
    composite: Literal["none", "monthly", "semi-monthly"] = "none"


class Modality(Model):
    """One sensor as the plan takes it.

    Attributes:
        bands: names of the bands that `predict` takes, in order.
        dtype: NumPy type of the digital numbers that `predict` takes.
        channels: what the network sees, made from `bands`.
        tile_px: side of a tile in this sensor's pixels.
        gsd_m: pixel size the network was trained at, in metres.
        may_be_absent: the network learnt a stand-in and tiles may lack this sensor.
        reference_day: for a series, month and day from which its days are counted, in the acquisition's year.
        days_seen: for a series, first and last day from the reference date that training saw, if known.
        filter: for an optical series, which acquisitions are used.
    """

    name: Name
    kind: Literal["image", "series"]
    bands: Annotated[tuple[Label, ...], Field(min_length=1, max_length=256)]
    dtype: Literal["uint8", "uint16", "int16", "float32"]
    channels: Annotated[tuple[Channel, ...], Field(min_length=1, max_length=256)]
    tile_px: Pixels
    gsd_m: Positive
    may_be_absent: bool = False
    reference_day: MonthDay | None = None
    days_seen: tuple[int, int] | None = None
    filter: SeriesFilter | None = None

    @model_validator(mode="after")
    def _bands_agree(self) -> Modality:
        _unique("band", self.bands)
        for channel in self.channels:
            for band in (channel.band, channel.minus):
                if band is not None and band not in self.bands:
                    raise ValueError(
                        f"channel {channel.name} of {self.name} takes band {band}, not one of {self.bands}"
                    )
        if (self.kind == "series") != (self.reference_day is not None):
            raise ValueError(f"{self.name}: a series, and only a series, has a reference_day")
        if self.kind == "image" and (self.filter is not None or self.days_seen is not None):
            raise ValueError(f"{self.name}: an image has neither days_seen nor filter")
        return self


class ClassEntry(Model):
    """One class; its value in the map is its place in the list."""

    name: Label
    colour: Colour
    ignored: bool = False


class Task(Model):
    """One map that the plan makes."""

    name: Name
    classes: Annotated[tuple[ClassEntry, ...], Field(min_length=1, max_length=255)]


class Resize(Model):
    """One bilinear resize of logits to `px` pixels a side."""

    px: Pixels
    align_corners: bool


class TensorSpec(Model):
    """One input or output of a segment; axes that vary are named ("B", "T")."""

    name: Name
    dtype: Literal["float32"]
    shape: Annotated[tuple[Extent | Literal["B", "T"], ...], Field(max_length=5)]


_SegmentName = Annotated[str, StringConstraints(pattern=r"^(encoder|absent|decode):[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")]


class Segment(Piece):
    """One part of the network, stored as an ONNX graph.

    Attributes:
        name: `encoder:<MODALITY>`, `absent:<MODALITY>` or `decode:<TASK>`.
        parameters: number of weights; those of its lender are the lender's.
        gflop: floating point operations in billions for one tile (series: at 32 dates), a multiply-add being two.
        lender: segment that has weights in common with this one and holds them: a weight that a node reads and the
            graph does not hold is that of the same name in the lender's graph.
    """

    name: _SegmentName
    member: Label
    inputs: Annotated[tuple[TensorSpec, ...], Field(max_length=16)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=16)]
    parameters: Count
    gflop: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    lender: _SegmentName | None = None


def lenders_of(segments: Sequence[Segment]) -> dict[str, str]:
    """Segments that lack weights of their own -> the segment that lends them."""
    return {segment.name: segment.lender for segment in segments if segment.lender is not None}


class Accuracy(Model):
    """The plan against the network in PyTorch float32, measured at export.

    Attributes:
        precision: precision of the back end that was measured.
        tiles: what was compared, in words.
        relative_error: L2 norm of the logits' difference over the L2 norm of the logits.
        argmax_equal: fraction of pixels with the same class.
    """

    task: Name
    backend: Label
    precision: Literal["float32", "bf16", "fp16", "int8"]
    tiles: Label
    relative_error: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    argmax_equal: Annotated[float, Field(ge=0, le=1)]


class Check(Model):
    """The check that `uperfuse verify` repeats: tiles drawn from `seed`, expected logits in `members` by task."""

    seed: Count
    dates: Annotated[int, Field(ge=1, le=366)]
    members: dict[Name, Label]
    stride_px: Pixels
    max_relative_error: Positive


class Provenance(Model):
    """Where the weights come from and what made the plan."""

    checkpoint: Label
    checkpoint_sha256: Hex
    created: Label
    tools: dict[Name, Label]


class Geometry(Model):
    """The same network for tiles of another side.

    Its graphs lack the weights that they share with the plan's own: a weight that a node reads and the graph does not
    hold is that of the same name in the plan's own graph of the segment, or else in that of the segment's lender.

    Attributes:
        tiles_px: modality -> side of a tile in its own pixels.
        label_px: see `Network`, as what follows.
    """

    tiles_px: Annotated[dict[Name, Pixels], Field(min_length=1, max_length=32)]
    label_px: Pixels
    logits_px: Pixels
    upsampling: Annotated[tuple[Resize, ...], Field(max_length=2)]
    segments: Annotated[tuple[Segment, ...], Field(min_length=1, max_length=128)]
    accuracy: Annotated[tuple[Accuracy, ...], Field(max_length=256)] = ()
    check: Check | None = None


class Network(Model):
    """The network that a plan holds, as any machine runs it.

    Attributes:
        name: name of the network, as published.
        base: modality whose pixel grid the maps follow: the first image, or the first series where there is none.
        label_px: side of the label tile that the network was trained on; `predict` returns maps of this size.
        fusion: "none" (one image alone), "sum" (projected pyramids are resized and added) or "mean" (series alone:
            class logits are resized and averaged).
        upsampling: resizes from the decoder's logits to `label_px`.
    """

    name: Label
    encoder: Label
    decoder: Label
    base: Name
    label_px: Pixels
    modalities: Annotated[tuple[Modality, ...], Field(min_length=1, max_length=32)]
    tasks: Annotated[tuple[Task, ...], Field(min_length=1, max_length=32)]
    fusion: Literal["none", "sum", "mean"]
    logits_px: Pixels
    upsampling: Annotated[tuple[Resize, ...], Field(max_length=2)]
    segments: Annotated[tuple[Segment, ...], Field(min_length=1, max_length=128)]
    accuracy: Annotated[tuple[Accuracy, ...], Field(max_length=256)] = ()
    check: Check | None = None
    provenance: Provenance

    def modality(self, name: str) -> Modality:
        """The modality `name`; KeyError where the plan has none."""
        return _named(self.modalities, name)

    def task(self, name: str) -> Task:
        """The task `name`; KeyError where the plan has none."""
        return _named(self.tasks, name)

    def segment(self, name: str) -> Segment:
        """The segment `name`; KeyError where the plan has none."""
        return _named(self.segments, name)

    @property
    def base_px(self) -> int:
        """Side of a tile in pixels of the base modality."""
        return self.modality(self.base).tile_px

    def resizes(self, *, grid: Literal["label", "base"]) -> tuple[Resize, ...]:
        """Resizes from logits to a map of `label_px`, or of the base modality's own pixels."""
        if grid == "label":
            return self.upsampling
        steps: list[Resize] = []
        px = self.logits_px
        for step in self.upsampling:
            if px == self.base_px:
                break
            steps.append(step)
            px = step.px
        if px != self.base_px:
            return (*steps, Resize(px=self.base_px, align_corners=False))
        return tuple(steps)

    @model_validator(mode="after")
    def _parts_agree(self) -> Network:
        for kind, names in (
            ("modality", [m.name for m in self.modalities]),
            ("task", [t.name for t in self.tasks]),
            ("segment", [s.name for s in self.segments]),
        ):
            _unique(kind, names)
        modalities, tasks = {m.name: m for m in self.modalities}, {t.name for t in self.tasks}
        images = [m.name for m in self.modalities if m.kind == "image"]
        first = images[0] if images else self.modalities[0].name
        if self.base != first:
            raise ValueError(f"base is {self.base}; the first image modality (or first series) is {first}")
        if bool(images) == (self.fusion == "mean"):
            raise ValueError(f"fusion {self.fusion!r} does not go with images {images}")
        if self.fusion == "none" and len(modalities) > 1:
            raise ValueError("fusion 'none' takes one modality")
        wanted = {f"encoder:{name}" for name in modalities} | {f"decode:{name}" for name in tasks}
        wanted |= {f"absent:{m.name}" for m in self.modalities if m.may_be_absent}
        if wanted != {s.name for s in self.segments}:
            raise ValueError(
                f"segments {sorted(s.name for s in self.segments)} differ from those needed: {sorted(wanted)}"
            )
        self._check_lenders()
        if self.upsampling and self.upsampling[-1].px != self.label_px:
            raise ValueError(f"upsampling ends at {self.upsampling[-1].px} px, label_px is {self.label_px}")
        if not self.upsampling and self.logits_px != self.label_px:
            raise ValueError(f"no upsampling, but logits_px {self.logits_px} differs from label_px {self.label_px}")
        if self.check is not None and set(self.check.members) != tasks:
            raise ValueError(f"check covers {sorted(self.check.members)}, tasks are {sorted(tasks)}")
        return self

    def _check_lenders(self) -> None:
        """Every lender is there and holds all of its own weights, so that none lends to itself or in a circle."""
        lenders, names = lenders_of(self.segments), {segment.name for segment in self.segments}
        for name, lender in lenders.items():
            if lender not in names:
                raise ValueError(f"segment {name} has weights of {lender}, which is none of the plan's segments")
            if lender in lenders:
                raise ValueError(
                    f"segment {name} has weights of {lender}, which has some of {lenders[lender]} itself; a lender "
                    "holds all of its own"
                )

    def _at(self, geometry: Geometry) -> dict[str, Any]:
        """What changes with the side of the tiles.

        Raises:
            ValueError: the geometry has sides of other modalities.
        """
        if set(geometry.tiles_px) != {modality.name for modality in self.modalities}:
            raise ValueError(
                f"a geometry has sides for {sorted(geometry.tiles_px)}, the plan's modalities are "
                f"{sorted(modality.name for modality in self.modalities)}"
            )
        sized = (each.model_copy(update={"tile_px": geometry.tiles_px[each.name]}) for each in self.modalities)
        kept = {name: getattr(geometry, name) for name in Geometry.model_fields if name != "tiles_px"}
        return {"modalities": tuple(sized), **kept}

    def parts_of(self, *, cut: bool) -> tuple[str, ...]:
        """Names of the parts that TensorRT runs, with series' encoders cut at our kernels or whole."""
        names = []
        for modality in self.modalities:
            roles = ("spatial", "temporal") if cut and modality.kind == "series" else ("encoder",)
            names += [f"{role}:{modality.name}" for role in roles]
        return (*names, *(f"decode:{task.name}" for task in self.tasks))

    def portable_members(self) -> dict[str, str]:
        """Every member that the network needs on any machine -> who needs it."""
        used = {segment.member: f"segment {segment.name}" for segment in self.segments}
        if self.check is not None:
            used |= {member: f"the check of {task}" for task, member in self.check.members.items()}
        return used

    @property
    def label_gsd_m(self) -> float:
        """Pixel size of the label grid in metres, from the base modality's tile."""
        base = self.modality(self.base)
        gsd_m = base.gsd_m * base.tile_px / self.label_px
        return round(gsd_m, 12 - math.ceil(math.log10(gsd_m)))


def _unique(kind: str, names: tuple[str, ...] | list[str]) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"{kind} {', '.join(twice)} occurs more than once")


_Entry = TypeVar("_Entry", Modality, Task, Segment)


def _named(entries: tuple[_Entry, ...], name: str) -> _Entry:
    for entry in entries:
        if entry.name == name:
            return entry
    raise KeyError(name)
