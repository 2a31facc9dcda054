"""Runs an engine on a stream, at addresses that are given to it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import BackendError
from .api import IExecutionContext, Shape
from .flavour import Flavour
from .messages import Messages
from .refusals import REPORT, remedy

__all__ = ["ALIGNMENT", "Context"]

ALIGNMENT = 256
"""Bytes that the memory of activations must be aligned to."""


class Context:
    """An engine with one profile's shapes, ready to run on a stream.

    Attributes:
        shapes: of every door.
    """

    def __init__(
        self,
        context: IExecutionContext,
        *,
        part: str,
        shapes: Mapping[str, Shape],
        activation_bytes: int,
        messages: Messages,
        flavour: Flavour,
    ) -> None:
        self.shapes = MappingProxyType(dict(shapes))
        self._context: IExecutionContext | None = context
        self._part = part
        self._needed = activation_bytes
        self._messages = messages
        self._flavour = flavour
        self._unbound = set(shapes)
        self._has_memory = self._needed == 0

    def bind(self, name: str, address: int) -> None:
        """Say where a door's array lies.

        Args:
            name: of the door.
            address: on the device.

        Raises:
            BackendError: there is no such door, or TensorRT does not take the address.
        """
        context = self._alive()
        if name not in self.shapes:
            raise BackendError(f"{self._part} has no door {name}, expected one of {', '.join(self.shapes)}")
        with self._messages.heard() as heard:
            taken = context.set_tensor_address(name, address)
        if not taken:
            raise BackendError(f"{self._part} does not take address {address:#x} for {name}: {heard.words()}; {REPORT}")
        self._unbound.discard(name)

    def use_memory(self, address: int, nbytes: int) -> None:
        """Say where activations may lie while it runs.

        Args:
            address: on the device, a multiple of `ALIGNMENT`.
            nbytes: how much there is; at least the part's `activation_bytes`.

        Raises:
            BackendError: it is too little, or not aligned.
        """
        context = self._alive()
        if nbytes < self._needed or address % ALIGNMENT:
            raise BackendError(
                f"{self._part} got {nbytes} bytes of memory at {address:#x}, expected {self._needed} at a multiple of "
                f"{ALIGNMENT}; {REPORT}"
            )
        context.set_device_memory(address, nbytes)
        self._has_memory = True

    def capturable(self, stream: int) -> bool:
        """Whether a run on a stream can be captured into a CUDA graph; TensorRT itself always says so."""
        context = self._alive()
        if not self._flavour.has("IExecutionContext.is_stream_capturable"):
            return True
        return context.is_stream_capturable(stream)

    def enqueue(self, stream: int) -> None:
        """Run on a stream; returns before it is done.

        Args:
            stream: its handle; it may be capturing.

        Raises:
            BackendError: an address or the memory is missing, or TensorRT cannot run, in its own words.
        """
        context = self._alive()
        if self._unbound or not self._has_memory:
            missing = [*sorted(self._unbound), *([] if self._has_memory else ["memory of activations"])]
            raise BackendError(f"{self._part} lacks addresses of {', '.join(missing)}; {REPORT}")
        with self._messages.heard() as heard:
            started = context.execute_async_v3(stream)
        if not started or heard.errors:
            raise BackendError(f"{self._part} does not run: {heard.words()}; {remedy(heard)}")

    def close(self) -> None:
        """Give it back. Safe to call again."""
        self._context = None

    def _alive(self) -> IExecutionContext:
        if self._context is None:
            raise BackendError(f"the engine of {self._part} is closed; load the plan again")
        return self._context
