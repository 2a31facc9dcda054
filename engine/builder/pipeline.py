"""A whole plan in float32 on the processor, with other graphs in place of some of its segments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import openvino as ov
from numpy.typing import NDArray

from ..backends.cpu.compiling import compile_graph, first_line
from ..backends.cpu.segments import CpuSegments, CpuSession, Pyramid
from ..backends.cpu.steps import Features, Steps
from ..backends.openvino_core import openvino_core
from ..classify import Classifier
from ..cores import usable_cores
from ..errors import BackendError
from ..plan.plan import Plan
from ..stopwatch import Stopwatch
from ..tiles import Tile

__all__ = ["Graph", "Pipeline", "Run", "TileMap"]

Run = Callable[..., Pyramid]
"""What runs in place of a segment: takes the segment's inputs, gives its outputs."""


@dataclass(frozen=True)
class TileMap:
    """One task of one tile.

    Attributes:
        labels: classes [Y, X] at the size of the labels, 255 where void.
        logits: [K, Y, X] at the decoder's own size.
    """

    labels: NDArray[np.uint8]
    logits: NDArray[np.float32]


class Graph:
    """An ONNX graph on the processor, compiled for the shapes that arrive.

    Args:
        model: the graph; weights inside.
        threads: of the processor; None takes all that this process may use.
        precision: of products that are not quantised.

    Raises:
        BackendError: OpenVINO cannot read or compile it.
    """

    def __init__(self, model: onnx.ModelProto, *, threads: int | None = None, precision: str = "float32") -> None:
        self._name = model.graph.name
        self._threads = threads or usable_cores()
        self._precision = precision
        try:
            self._model = openvino_core().read_model(model.SerializeToString())
        except RuntimeError as error:
            raise BackendError(f"{self._name} is not read by OpenVINO: {first_line(error)}; report it") from error
        self._requests: dict[tuple[tuple[int, ...], ...], ov.InferRequest] = {}

    def __call__(self, *inputs: NDArray[np.float32]) -> Pyramid:
        """Outputs of the graph, valid until the next call."""
        shapes = tuple(array.shape for array in inputs)
        request = self._requests.get(shapes)
        if request is None:
            model = self._model.clone()
            model.reshape({port: ov.PartialShape(shape) for port, shape in zip(model.inputs, shapes, strict=True)})
            compiled = compile_graph(model, key=self._name, precision=self._precision, threads=self._threads)
            request = self._requests[shapes] = compiled.create_infer_request()
        for index, array in enumerate(inputs):
            request.set_input_tensor(index, ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
        request.infer()
        return tuple(request.get_output_tensor(index).data for index in range(len(request.model_outputs)))


class Pipeline:
    """A plan in float32.

    Args:
        plan: an open plan.
        threads: of the processor; None takes all that this process may use.

    Raises:
        PlanError: a segment's graph is not what the plan says of it.
        BackendError: a segment cannot be compiled.
    """

    def __init__(self, plan: Plan, *, threads: int | None = None) -> None:
        self.manifest = plan.manifest
        self._segments = CpuSegments(plan, precision="float32", threads=threads, join=False)
        self.threads = self._segments.threads
        self._steps = Steps(plan.manifest, self._segments, Stopwatch())
        self._classifier = Classifier(plan.manifest, grid="label", threads=self.threads)

    def encode(self, tile: Tile, graphs: Mapping[str, Run] | None = None, *, known: Features | None = None) -> Features:
        """Features of a tile that outlive the next call.

        Args:
            tile: a checked tile.
            graphs: segment -> what runs in its place.
            known: what is known of the tile already; its modalities may be missing from `tile`.
        """
        session = _Session(self._segments, graphs or {}, mean_of=self._mean_of)
        features = self._steps.encode(session, tile, known=known)
        pyramids = {
            name: pyramid if known and name in known.pyramids and name not in tile else _copy(pyramid)
            for name, pyramid in features.pyramids.items()
        }
        return Features(pyramids, void=features.void)

    def decode(self, features: Features, graphs: Mapping[str, Run] | None = None) -> dict[str, TileMap]:
        """Maps of a tile, by task."""
        session = _Session(self._segments, graphs or {}, mean_of=self._mean_of)
        fused = self._steps.fuse(session, features)
        maps = {}
        for task in self.manifest.tasks:
            logits = np.array(self._steps.decode(session, fused, task=task.name))
            out = self._classifier.empty(1, logits=False)
            self._classifier.write(out, 0, logits, task=task.name, void=fused.void)
            maps[task.name] = TileMap(out.labels[task.name][0], logits)
        return maps

    def map(self, tile: Tile, graphs: Mapping[str, Run] | None = None) -> dict[str, TileMap]:
        """Maps of a tile, by task."""
        return self.decode(self.encode(tile, graphs), graphs)

    def close(self) -> None:
        """Drop compiled models."""
        self._segments.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _mean_of(self) -> int:
        return len(self.manifest.modalities) if self.manifest.fusion == "mean" else 1


class _Session(CpuSession):
    """Segments of a plan, some of them replaced."""

    def __init__(self, segments: CpuSegments, graphs: Mapping[str, Run], *, mean_of: int) -> None:
        super().__init__(segments)
        self._graphs = graphs
        self._mean_of = mean_of

    def encode_image(self, modality: str, pixels: NDArray[np.float32]) -> Pyramid:
        graph = self._graphs.get(f"encoder:{modality}")
        return super().encode_image(modality, pixels) if graph is None else graph(pixels)

    def encode_series(
        self, modality: str, pixels: NDArray[np.float32], days: NDArray[np.float32], mask: NDArray[np.float32]
    ) -> Pyramid:
        graph = self._graphs.get(f"encoder:{modality}")
        return super().encode_series(modality, pixels, days, mask) if graph is None else graph(pixels, days, mask)

    def decode(self, task: str, base: Pyramid, rest: Pyramid) -> NDArray[np.float32]:
        graph = self._graphs.get(f"decode:{task}")
        if graph is None:
            return super().decode(task, base, rest)
        levels: Sequence[Any] = [one + other for one, other in zip(base, rest, strict=True)] if rest else base
        return graph(*(level / np.float32(self._mean_of) for level in levels))[0]


def _copy(pyramid: Pyramid) -> Pyramid:
    return tuple(np.array(level) for level in pyramid)
