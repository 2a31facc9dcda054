"""What `uperfuse build` adds to a plan: its segments again, made for one kind of machine.

Nothing here says what the network computes: a plan without payloads, or whose payloads fit no machine at hand, gives
the same maps from its portable segments. What payloads must agree on with the rest is in `payload_rules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from .model import Count, Extent, Finite, Hex, Label, Model, Name, Piece

__all__ = [
    "Agreement",
    "AttentionWeights",
    "CompiledKernel",
    "Door",
    "EnginePayload",
    "KernelPayload",
    "Part",
    "Payloads",
    "QuantisedPayload",
    "Verified",
]

Capability = Annotated[int, Field(ge=50, le=999)]
Size = Annotated[int, Field(ge=1, le=4096)]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,5}(\.[0-9]{1,5}){1,4}$")]


class Door(Model):
    """One input or output of a part. Maps lie channels last.

    Attributes:
        shape: the batch, named "B", first; in a series the dates, named "T", second; then the lengths of other axes.
    """

    name: Name
    dtype: Literal["float32", "float16", "bfloat16"]
    shape: Annotated[tuple[Extent | Literal["B", "T"], ...], Field(min_length=2, max_length=5)]

    @model_validator(mode="after")
    def _axes_in_order(self) -> Door:
        first, second, *others = self.shape
        if first != "B" or second == "B" or any(isinstance(axis, str) for axis in others):
            raise ValueError(f"axes of {self.name} are {list(self.shape)}; B comes first, T may come second")
        return self


class Part(Piece):
    """What TensorRT runs in one go: a whole segment, or one side of a series' encoder that is cut at our kernels.

    Attributes:
        name: `encoder:<MODALITY>`, `spatial:<SERIES>` (in front of the attention), `temporal:<SERIES>` (behind it) or
            `decode:<TASK>`.
        member: the serialised engine, in the folder `tensorrt/<target>/`.
        inputs: in the order of `part_doors`.
        outputs: in the order of `part_doors`.
    """

    name: Annotated[
        str, StringConstraints(pattern=r"^(encoder|spatial|temporal|decode):[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}$")
    ]
    member: Label
    inputs: Annotated[tuple[Door, ...], Field(min_length=1, max_length=16)]
    outputs: Annotated[tuple[Door, ...], Field(min_length=1, max_length=16)]

    @model_validator(mode="after")
    def _doors_differ(self) -> Part:
        names = [door.name for door in (*self.inputs, *self.outputs)]
        if len(names) != len(set(names)):
            raise ValueError(f"{self.name} has two doors of one name among {', '.join(names)}")
        return self

    @property
    def has_dates(self) -> bool:
        """Whether some of its doors have an axis of dates."""
        return any("T" in door.shape for door in (*self.inputs, *self.outputs))


class Agreement(Model):
    """One task of a payload against the CPU back end in float32, on fixed tiles.

    Attributes:
        relative_error: L2 norm of the logits' difference over the L2 norm of the logits.
        argmax_equal: fraction of pixels with the same class.
        miou: mean IoU over the classes that occur, taking the float32 map for the truth, in percent.
    """

    task: Name
    relative_error: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    argmax_equal: Annotated[float, Field(ge=0, le=1)]
    miou: Annotated[float, Field(ge=0, le=100)]


class Verified(Model):
    """That a payload ran on a machine and gave the right maps."""

    machine: Label
    agreement: Annotated[tuple[Agreement, ...], Field(min_length=1, max_length=32)]


class EnginePayload(Model):
    """Engines of every part, built by one TensorRT for one kind of GPU.

    Attributes:
        target: unique name, also the members' folder: `sm_87-tensorrt-10.3.0-fp16`.
        flavour: Python package that built it and that runs it.
        version: of that package.
        version_compatible: whether later versions, and the lean and dispatch runtimes, take it.
        capability: compute capability it was built for, 87 for 8.7; None where the flavour compiles for the GPU that
            it finds when it loads, as TensorRT-RTX does.
        machine: name of the GPU it was built on; None where there was none.
        precision: of products.
        batches: tiles at a time for which it has profiles, rising.
        dates: numbers of dates for which it has profiles, rising; none without series.
        cut: whether series' encoders are cut where our kernels stand.
        float_layers: of a quantised payload, the layers that stayed in floating point.
        timing_cache: SHA-256 of the timing cache it was built with.
        verified: None until it ran on a GPU.
    """

    target: Name
    flavour: Literal["tensorrt", "tensorrt_rtx"]
    version: Version
    version_compatible: bool = False
    capability: Capability | None
    machine: Label | None
    precision: Literal["float32", "fp16", "bf16", "int8", "fp8"]
    batches: Annotated[tuple[Size, ...], Field(min_length=1, max_length=16)]
    dates: Annotated[tuple[Size, ...], Field(max_length=16)]
    cut: bool
    parts: Annotated[tuple[Part, ...], Field(min_length=1, max_length=128)]
    float_layers: Annotated[tuple[Label, ...], Field(max_length=4096)] = ()
    timing_cache: Hex | None = None
    verified: Verified | None = None

    def part(self, name: str) -> Part:
        """The part `name`; KeyError where there is none."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    def profile(self, part: Part, *, batch: int, dates: int | None = None) -> int:
        """Which of a part's profiles serves: batches rising, and within each of them numbers of dates.

        Args:
            part: one of `parts`.
            batch: tiles at a time, one of `batches`.
            dates: one of `dates`; of no matter to a part without them.

        Raises:
            ValueError: the payload was not built for it.
        """
        if batch not in self.batches or (part.has_dates and dates not in self.dates):
            asked = f"{batch} tiles" + (f" of {dates} dates" if part.has_dates else "")
            built = f"{list(self.batches)} tiles" + (f" of {list(self.dates)} dates" if part.has_dates else "")
            raise ValueError(f"{part.name} of {self.target} is asked for {asked}, built for {built}")
        place = self.batches.index(batch)
        if not part.has_dates or dates is None:
            return place
        return place * len(self.dates) + self.dates.index(dates)

    @model_validator(mode="after")
    def _parts_agree(self) -> EnginePayload:
        for what, sizes in (("batches", self.batches), ("dates", self.dates)):
            if list(sizes) != sorted(set(sizes)):
                raise ValueError(f"{what} of {self.target} are {list(sizes)}; they must rise")
        names = [part.name for part in self.parts]
        if len(names) != len(set(names)):
            raise ValueError(f"{self.target} has a part twice")
        if self.flavour == "tensorrt" and self.capability is None:
            raise ValueError(f"{self.target} does not say for which capability TensorRT built it")
        if self.float_layers and self.precision not in ("int8", "fp8"):
            raise ValueError(f"{self.target} of precision {self.precision} lists layers that stayed in floating point")
        return self


class CompiledKernel(Model):
    """Members of one compiled kernel, in the folder `kernels/sm_<capability>/`: launch record, cubin, portable form."""

    record: Label
    cubin: Label
    ptx: Label


class KernelPayload(Model):
    """Our kernels, compiled for one architecture."""

    capability: Capability
    kernels: Annotated[tuple[CompiledKernel, ...], Field(min_length=1, max_length=128)]


class AttentionWeights(Model):
    """Parameters of a series' temporal attention as its kernel takes them; each a `.npy` in float32.

    Attributes:
        series: modality.
        period: of the slowest sinusoid of positions, in days over 2 pi.
        norm_scale: [C] scale of the normalisation in front.
        norm_shift: [C] its shift.
        score: [H, C] what a score takes from features.
        score_position: [H, D / H] what it takes from positions.
        score_bias: [H].
        embed: [D, C] from features to embedding.
        embed_bias: [D].
    """

    series: Name
    period: Annotated[Finite, Field(gt=0)]
    norm_scale: Label
    norm_shift: Label
    score: Label
    score_position: Label
    score_bias: Label
    embed: Label
    embed_bias: Label

    @property
    def arrays(self) -> dict[str, str]:
        """Name of a parameter -> its member."""
        return self.model_dump(exclude={"series", "period"})


class QuantisedPayload(Model):
    """The plan's segments again with 8-bit products, for the processor.

    Attributes:
        segments: name of a segment -> its ONNX graph with quantised tensors. Segments that are not listed stay as
            they are.
        float_layers: layers that stayed in floating point to keep within the limit.
        max_miou_drop: the limit that was asked for, in points of mean IoU.
        agreement: with the float32 map.
        parameters: number of quantised weights.
    """

    segments: Annotated[dict[Label, Label], Field(min_length=1, max_length=128)]
    float_layers: Annotated[tuple[Label, ...], Field(max_length=4096)] = ()
    max_miou_drop: Annotated[float, Field(ge=0, le=100)]
    agreement: Annotated[tuple[Agreement, ...], Field(min_length=1, max_length=32)]
    parameters: Count = 0


class Payloads(Model):
    """All that was added.

    Attributes:
        engines: the segments as TensorRT engines, by kind of machine; of those that fit, the first is taken.
        kernels: our kernels, by architecture.
        attention: what the kernels need of series' encoders that are cut.
        quantised: the segments with 8-bit products, for the processor.
    """

    engines: Annotated[tuple[EnginePayload, ...], Field(max_length=64)] = ()
    kernels: Annotated[tuple[KernelPayload, ...], Field(max_length=32)] = ()
    attention: Annotated[tuple[AttentionWeights, ...], Field(max_length=32)] = ()
    quantised: QuantisedPayload | None = None

    @property
    def has_payloads(self) -> bool:
        """Whether `uperfuse build` added something."""
        return bool(self.engines or self.kernels or self.attention or self.quantised)
