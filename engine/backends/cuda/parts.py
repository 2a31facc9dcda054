"""The parts of a payload, loaded into TensorRT, and the scratch memory that they share, for they run in turn."""

from __future__ import annotations

from collections.abc import Callable

from ...plan.payloads import EnginePayload
from ...tensorrt import Flavour, profiles_of
from ...tensorrt.context import Context
from ...tensorrt.runtime import LoadedPart, Runtime
from .driver import Device, DeviceMemory

__all__ = ["Parts"]


class Parts:
    """Loads every part of a payload; the device's context is current in every call.

    Args:
        device: where.
        payload: whose parts.
        flavour: of TensorRT that runs them.
        member: gives a member's content, hashed.

    Raises:
        BackendError: TensorRT or the GPU takes one of them not, or there is too little memory.
    """

    def __init__(
        self, device: Device, payload: EnginePayload, *, flavour: Flavour, member: Callable[[str], memoryview]
    ) -> None:
        self._runtime = Runtime(flavour, version_compatible=payload.version_compatible)
        self._loaded: dict[str, LoadedPart] = {}
        self._scratch: DeviceMemory | None = None
        try:
            for part in payload.parts:
                doors = (*part.inputs, *part.outputs)
                profiles = len(profiles_of(doors, batches=payload.batches, dates=payload.dates))
                self._loaded[part.name] = self._runtime.load(part, member(part.member), profiles=profiles)
            self._scratch = device.allocate(max(each.activation_bytes for each in self._loaded.values()))
        except BaseException:  # Ctrl-C while engines load, too: device memory goes back
            self.close()
            raise

    def context(self, part: str, profile: int, *, stream: int) -> Context:
        """A part ready to run with the shapes of a profile; made once."""
        assert self._scratch is not None, "parts are closed"
        context = self._loaded[part].context(profile, stream=stream)
        context.use_memory(self._scratch.address, self._scratch.nbytes)
        return context

    def close(self) -> None:
        """Give engines and memory back; safe twice."""
        self._loaded.clear()
        self._runtime.close()
        if self._scratch is not None:
            self._scratch.release()
            self._scratch = None
