"""Places of a frame's arrays and its list of steps, while a frame is planned."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ...launching import KERNEL_TYPES, KernelRequest, LaunchRecord, evaluate
from .built_network import BuiltNetwork
from .frame_plan import ARENA_BLOCKS, FrameKey, KernelLaunch, PartRun, Place
from .layout import Layout

__all__ = ["Maps", "Places"]

Maps = list[Place]
"""Maps of one modality, finest first."""


class Places:
    """What grows while a frame is planned.

    Args:
        network: what runs.
        weights: where parameters of kernels lie, by `<MODALITY>.<argument>`.
        key: for what.
    """

    def __init__(self, network: BuiltNetwork, weights: Layout, key: FrameKey) -> None:
        self._network = network
        self._weights = weights
        self._key = key
        self._layouts = {name: Layout() for name in (*ARENA_BLOCKS, "constants")}
        self._constants: dict[str, NDArray[np.float32]] = {}
        self._steps: list[PartRun | KernelLaunch] = []
        self._known_bytes = 0
        # what is primed goes into the block that outlives the frame
        self._home = "features" if key.grid is None else "work"

    def _run(self, name: str, doors: Mapping[str, Place], *, into: str, subject: str, dates: int | None = None) -> Maps:
        """Run a part; its outputs go into a block under `subject`."""
        payload = self._network.payload
        part = payload.part(name)
        outputs = []
        for door in part.outputs:
            sizes = {"B": self._key.batch, "T": dates or 0}
            shape = tuple(sizes[axis] if isinstance(axis, str) else axis for axis in door.shape)
            outputs.append(self._add(into, f"{subject}.{door.name}", shape, KERNEL_TYPES[door.dtype]))
        places = {**doors, **{door.name: place for door, place in zip(part.outputs, outputs, strict=True)}}
        assert set(places) == {door.name for door in (*part.inputs, *part.outputs)}, f"{name} has other doors"
        self._steps.append(PartRun(part, payload.profile(part, batch=self._key.batch, dates=dates), places))
        return outputs

    def _launch(
        self, record: LaunchRecord, arrays: Mapping[str, Place | None], numbers: Mapping[str, int | float]
    ) -> None:
        known = {parameter.name for parameter in record.parameters if parameter.kind == "pointer"}
        scalars = {parameter.name for parameter in record.parameters if parameter.kind == "scalar"}
        if set(arrays) != known or set(numbers) != scalars:
            raise BackendError(
                f"the plan's {record.kernel} takes {', '.join(sorted(known | scalars))}, expected what this release "
                "hands over; run `uperfuse build` on the plan again"
            )
        self._steps.append(KernelLaunch(record, arrays, numbers))

    def _broken(self, name: str, record: LaunchRecord, numbers: Mapping[str, int | float]) -> Place:
        """Counts of a launch's programs, which come back with the maps."""
        (parameter,) = (each for each in record.parameters if each.name == "broken")
        values = {**record.constants, **record.configuration}
        values |= {number: value for number, value in numbers.items() if isinstance(value, int)}
        shape = tuple(evaluate(text, values) for text in parameter.dims)
        return self._add("counts", name, shape, "i32")

    def _find(self, request: KernelRequest) -> LaunchRecord:
        return self._network.find(request)

    def _weight(self, name: str) -> Place:
        return Place("weights", self._weights[name])

    def _constant(self, name: str, values: NDArray[np.float32]) -> Place:
        self._constants[name] = values.astype(np.float32)
        return self._add("constants", name, values.shape, "fp32")

    def _input(self, name: str, shape: tuple[int, ...], dtype: str) -> Place:
        if name in self._layouts["input"].slots:  # the map's void pixels serve every task
            return Place("input", self._layouts["input"][name])
        return self._add("input", name, shape, dtype)

    def _work(self, name: str, shape: tuple[int, ...], dtype: str) -> Place:
        return self._add("work", name, shape, dtype)

    def _add(self, block: str, name: str, shape: tuple[int, ...], dtype: str) -> Place:
        layout = self._layouts[block]
        if block == "features" and name in layout.slots:
            slot = layout[name]
            assert (slot.shape, slot.dtype) == (shape, dtype), f"{name} was laid out as {slot}"
            return Place(block, slot)
        return Place(block, layout.add(name, shape, dtype))
