"""The segments of a plan on the processor: every one is an OpenVINO model of fixed shape for one tile.

One tile at a time keeps the result independent of how tiles are batched, bit for bit, and on a CPU costs nothing:
one tile of the published networks keeps all cores busy. Series are padded to a bucket of dates, one model each, behind
the layers that see each date by itself, which are our own (`date_layers`). They stay in float32: in bf16 the sines and
cosines of their days lose the date (measured: a network of one aerial image and one series then differs from float32 by
2.8 % instead of 0.8 %).

Images in float32 (elevation) keep it through their first convolution and its normalisation: bf16 holds an altitude of
1500 m to 8 m only, and a height above ground, with the statistics of FLAIR-HUB, to 2 m (measured on the small network
with its heights normalised so: in bf16 throughout 0.25 % of pixels change class and land cover loses 0.1 points of mean
IoU; with these layers in float32 it is 0.05 % and 0.01 points).

The base image's encoder and the decoders are one graph, so that its maps, the largest of all, need not be brought into
float32 and the plan's order of axes in between. A base that may be absent has decoders of their own, too.

In int8 the segments of the plan's 8-bit form are read in place of their own, and what they do not quantise is in bf16
where the processor has it. An image in float32 is then in float32 wherever it is not quantised.
"""

from __future__ import annotations

import io
import os
import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from ...cores import usable_cores
from ...errors import BackendError, PlanError
from ...plan.network import Modality, Segment
from ...plan.plan import Plan
from ..doors import check_doors
from ..openvino_core import openvino_core
from ..segment_graph import segment_graph
from .compiling import compile_graph, first_line
from .date_layers import DateEncoder, SplitSeries, split_dates
from .graph_cache import open_cache, trim_cache
from .graphs import (
    constants,
    decode_graph,
    fix_shapes,
    fusion_graph,
    joined_graph,
    level_shapes,
    split_stem,
)
from .precision import choose_precision

__all__ = ["CpuSegments", "CpuSession", "Pyramid"]

Pyramid = tuple[NDArray[np.float32], ...]
"""Maps [1, C, Y, X] of one modality, finest first; class logits alone in networks of series."""


class CpuSegments:
    """Segments of one plan on the processor.

    Args:
        plan: an open plan.
        precision: "auto" (int8 where the plan has that form, else bf16 where the processor has it), "float32", "bf16"
            or "int8".
        threads: processor threads; None takes all that this process may use.
        join: whether the base's encoder and the decoders may be one graph.

    Raises:
        PlanError: a segment's graph is not what the plan says of it.
        BackendError: the precision is unknown or the processor lacks it, or a segment cannot be compiled.
    """

    def __init__(self, plan: Plan, *, precision: str, threads: int | None, join: bool = True) -> None:
        self._process = os.getpid()
        self._manifest = plan.manifest
        self._plan = plan
        chosen = choose_precision(precision, manifest=plan.manifest)
        self.precision, self._rest = chosen.precision, chosen.rest
        self._quantised = self._quantised_members() if self.precision == "int8" else {}
        self.threads = threads if threads is not None else usable_cores()
        if self.threads < 1:
            raise BackendError(f"threads is {threads}, expected at least 1; leave it out to use every core")
        name = openvino_core().get_property("CPU", "FULL_DEVICE_NAME").strip()
        check_doors(plan.manifest)
        self._cache = open_cache(plan)
        kept = () if self._cache else ("compiled at every load: the cache folder cannot be written",)
        self.reasons: tuple[str, ...] = (f"runs on the processor ({name}, {self.threads} threads)", chosen.why, *kept)
        self._open = True
        self._series_lock = threading.Lock()
        self._series: dict[tuple[str, int], tuple[ov.CompiledModel, DateEncoder | None]] = {}
        self._date_encoders: dict[str, DateEncoder] = {}
        self._series_models = {
            modality.name: fix_shapes(self._read(f"encoder:{modality.name}"), self._segment(modality.name), dates=1)
            for modality in plan.manifest.modalities
            if modality.kind == "series"
        }
        self._compiled = self._compile_all(join=join)
        self._stand_ins = {m.name: self._stretched(m.name) for m in plan.manifest.modalities if m.may_be_absent}
        self._idle: queue.SimpleQueue[CpuSession] = queue.SimpleQueue()
        if self._cache:
            trim_cache(keep=self._cache)

    @contextmanager
    def session(self) -> Iterator[CpuSession]:
        """A session that no other thread uses until it is given back.

        Raises:
            BackendError: the process is a fork of the one that loaded the plan, without that one's threads.
        """
        if os.getpid() != self._process:
            raise BackendError(
                f"the engine was loaded by process {self._process} and does not work in a fork of it; load it in each "
                "process, or start processes with 'spawn'"
            )
        try:
            session = self._idle.get_nowait()
        except queue.Empty:
            session = CpuSession(self)
        try:
            yield session
        finally:
            if self._open:
                self._idle.put(session)

    def stand_in(self, modality: str) -> Pyramid:
        """Learned maps [1, C, 1, 1] of `modality`, stretched to its own sizes."""
        return self._stand_ins[modality]

    def close(self) -> None:
        """Drop sessions and compiled models; those in use by other threads end first."""
        self._open = False
        self._idle = queue.SimpleQueue()
        self._compiled = {}
        self._series = {}
        self._date_encoders = {}
        self._series_models = {}

    @property
    def joined(self) -> bool:
        """Whether the base's encoder and the decoders are one model, `joined`."""
        return "joined" in self._compiled

    def has_stem(self, modality: str) -> bool:
        """Whether an image's first layers are a model of their own, `stem:<IMAGE>`."""
        return f"stem:{modality}" in self._compiled

    def compiled(self, name: str) -> ov.CompiledModel:
        """Compiled model `stem:<IMAGE>`, `encoder:<IMAGE>`, `fusion`, `decode:<TASK>` or `joined`.

        Raises:
            BackendError: the back end was closed.
        """
        compiled = self._compiled  # `close` puts another in its place
        self._check_open()
        return compiled[name]

    def series_encoder(self, modality: str, dates: int) -> tuple[ov.CompiledModel, DateEncoder | None]:
        """Encoder of a series for one bucket of dates; compiled at the first series of that length.

        Returns:
            The compiled model, and the layers before it that see each date by itself, where it was cut.

        Raises:
            BackendError: the back end was closed.
        """
        with self._series_lock:
            self._check_open()
            key = (modality, dates)
            if key not in self._series:
                fixed = fix_shapes(self._series_models[modality].clone(), self._segment(modality), dates=dates)
                split = split_dates(fixed)
                model = fixed if split is None else split.rest
                compiled = self._compile(model, key=f"{modality}:{dates}", precision="float32")
                self._series[key] = compiled, None if split is None else self._date_encoder(modality, split)
            return self._series[key]

    def _date_encoder(self, modality: str, split: SplitSeries) -> DateEncoder:
        """Layers of a series that see each date by itself: their weights are there once for all numbers of dates."""
        if modality not in self._date_encoders:
            self._date_encoders[modality] = DateEncoder(split, threads=self.threads)
        return self._date_encoders[modality]

    def _check_open(self) -> None:
        if not self._open:
            raise BackendError("the engine is closed; load the plan again")

    def _compile_all(self, *, join: bool) -> dict[str, ov.CompiledModel]:
        base = self._manifest.modality(self._manifest.base)
        compiled = self._compile_joined(base) if join and base.kind == "image" else {}
        joined = "joined" in compiled
        for modality in self._manifest.modalities:
            if modality.kind == "image" and not (joined and modality is base):
                compiled |= self._compile_image(modality)
        others = [m.name for m in self._manifest.modalities if m.name != self._manifest.base]
        if others:
            compiled["fusion"] = self._compile(fusion_graph(self._manifest, others), key="fusion")
        for task in self._manifest.tasks if not joined or base.may_be_absent else ():
            compiled[f"decode:{task.name}"] = self._compile(self._decoder(task.name), key=f"decode:{task.name}")
        return compiled

    def _compile_joined(self, base: Modality) -> dict[str, ov.CompiledModel]:
        """The base's encoder with the decoders, if one precision serves both; its stem may have another."""
        name, stem = f"encoder:{base.name}", f"stem:{base.name}"
        compiled: dict[str, ov.CompiledModel] = {}
        encoder = self._fixed(name)
        if base.dtype == "float32" and self._rest != "float32":
            parts = None if name in self._quantised else split_stem(encoder)
            if parts is None:
                return {}
            compiled[stem] = self._compile(parts[0], key=stem, precision="float32")
            encoder = parts[1]
        decoders = {task.name: self._decoder(task.name) for task in self._manifest.tasks}
        key = f"{name} and decoders"
        return {**compiled, "joined": self._compile(joined_graph(encoder, decoders), key=key)}

    def _decoder(self, task: str) -> ov.Model:
        return decode_graph(self._fixed(f"decode:{task}"), self._manifest)

    def _compile_image(self, modality: Modality) -> dict[str, ov.CompiledModel]:
        name = f"encoder:{modality.name}"
        if modality.dtype != "float32" or self._rest == "float32":
            return {name: self._compile(self._fixed(name), key=name)}
        if name in self._quantised:  # to cut it, OpenVINO would have to fold its 8-bit weights
            return {name: self._compile(self._fixed(name), key=name, precision="float32")}
        parts = split_stem(self._fixed(name))
        if parts is None:
            return {name: self._compile(self._fixed(name), key=name, precision="float32")}
        stem, rest = parts
        return {
            f"stem:{modality.name}": self._compile(stem, key=f"stem:{modality.name}", precision="float32"),
            name: self._compile(rest, key=name),
        }

    def _quantised_members(self) -> Mapping[str, str]:
        """Segment -> member that holds it with 8-bit products."""
        payload = self._manifest.quantised
        return payload.segments if payload else {}

    def _segment(self, modality: str) -> Segment:
        return self._manifest.segment(f"encoder:{modality}")

    def _fixed(self, name: str) -> ov.Model:
        return fix_shapes(self._read(name), self._manifest.segment(name))

    def _read(self, name: str) -> ov.Model:
        content = segment_graph(self._plan, name, member=self._quantised.get(name))
        try:
            return openvino_core().read_model(io.BytesIO(content))
        except RuntimeError as error:
            raise PlanError(f"segment {name} is not a graph that OpenVINO reads: {first_line(error)}") from error

    def _compile(self, model: ov.Model, *, key: str, precision: str | None = None) -> ov.CompiledModel:
        return compile_graph(
            model,
            key=key,
            precision=precision or self._rest,
            threads=self.threads,
            cache=self._cache,
        )

    def _stretched(self, modality: str) -> Pyramid:
        maps = constants(self._read(f"absent:{modality}"), self._manifest.segment(f"absent:{modality}"))
        shapes = level_shapes(self._manifest, modality)
        # copied, for OpenVINO takes no array that cannot be written to
        return tuple(np.broadcast_to(level, shape).copy() for level, shape in zip(maps, shapes, strict=True))


class CpuSession:
    """What one thread needs to run the segments on one tile at a time.

    Segments hand tensors to each other without a copy: what a call returns is valid until the next call for the same
    segment.
    """

    def __init__(self, segments: CpuSegments) -> None:
        self._segments = segments
        self._requests: dict[tuple[str, int], ov.InferRequest] = {}
        self._levels: dict[tuple[str, int], Pyramid] = {}

    def encode_image(self, modality: str, pixels: NDArray[np.float32]) -> Pyramid:
        """Projected pyramid of prepared pixels [1, C, Y, X]."""
        if self._segments.has_stem(modality):
            (pixels,) = self._run(f"stem:{modality}", 0, pixels)
        return self._run(f"encoder:{modality}", 0, pixels)

    def encode_series(
        self, modality: str, pixels: NDArray[np.float32], days: NDArray[np.float32], mask: NDArray[np.float32]
    ) -> Pyramid:
        """Projected pyramid of a padded series [1, T, C, Y, X] with its days and mask [1, T]."""
        name, dates = f"encoder:{modality}", pixels.shape[1]
        _, layers = self._segments.series_encoder(modality, dates)
        if layers is None:
            return self._run(name, dates, pixels, days, mask)
        if (name, dates) not in self._levels:
            self._levels[name, dates] = layers.empty(pixels[0])
        levels = self._levels[name, dates]
        layers.run(pixels[0], mask[0], levels)
        return self._run(name, dates, *levels, days, mask)

    def fuse(self, pyramids: dict[str, Pyramid]) -> Pyramid:
        """Sum of the pyramids of all modalities but the base, resized to the base's sizes."""
        return self._run("fusion", 0, *(level for pyramid in pyramids.values() for level in pyramid))

    def decode(self, task: str, base: Pyramid, rest: Pyramid) -> NDArray[np.float32]:
        """Logits [1, K, Y, X] of the base's pyramid plus the sum of the others (empty where there are none)."""
        return self._run(f"decode:{task}", 0, *base, *rest)[0]

    def map(self, base: str, pixels: NDArray[np.float32], rest: Pyramid) -> Pyramid:
        """Logits [1, K, Y, X] of every task, of prepared pixels of the base and the sum of the others."""
        if self._segments.has_stem(base):
            (pixels,) = self._run(f"stem:{base}", 0, pixels)
        return self._run("joined", 0, pixels, *rest)

    def _run(self, name: str, dates: int, *inputs: NDArray[np.float32]) -> Pyramid:
        request = self._request(name, dates)
        for index, array in enumerate(inputs):
            request.set_input_tensor(index, ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
        try:
            request.start_async()
            request.wait()
        except RuntimeError as error:
            raise BackendError(f"{name} failed in OpenVINO: {first_line(error)}") from error
        return tuple(request.get_output_tensor(index).data for index in range(len(request.model_outputs)))

    def _request(self, name: str, dates: int) -> ov.InferRequest:
        key = (name, dates)
        if key not in self._requests:
            series, _ = self._segments.series_encoder(name.partition(":")[2], dates) if dates else (None, None)
            self._requests[key] = (series or self._segments.compiled(name)).create_infer_request()
        return self._requests[key]
