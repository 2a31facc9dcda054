"""Calls of the driver that PyCUDA does not have, or does not let through."""

from __future__ import annotations

import ctypes

_driver = ctypes.CDLL("libcuda.so.1")

NON_BLOCKING = 1
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
"""Modes of a capture."""


def call(name: str, *arguments: object) -> int:
    """The code of a call; pointers and handles as integers."""
    code: int = getattr(_driver, name)(*map(_converted, arguments))
    return code


def _converted(argument: object) -> object:
    return ctypes.c_uint64(argument) if isinstance(argument, int) else argument


def begin(stream, mode: int = THREAD_LOCAL) -> int:
    """Begin to capture a stream of PyCUDA; the code."""
    return call("cuStreamBeginCapture_v2", stream.handle, mode)


def end(stream) -> tuple[int, int]:
    """End a capture; the code and the graph."""
    graph = ctypes.c_uint64()
    return call("cuStreamEndCapture", stream.handle, ctypes.byref(graph)), graph.value


class Graph:
    """A captured graph that can be launched."""

    def __init__(self, stream) -> None:
        code, self.graph = end(stream)
        assert code == 0, f"capture ended with {code}"
        self.executable = ctypes.c_uint64()
        assert call("cuGraphInstantiateWithFlags", ctypes.byref(self.executable), self.graph, 0) == 0

    def launch(self, stream) -> int:
        """Put it on a stream; the code."""
        return call("cuGraphLaunch", self.executable.value, stream.handle)

    def destroy(self) -> None:
        """Give it back."""
        assert call("cuGraphExecDestroy", self.executable.value) == 0
        assert call("cuGraphDestroy", self.graph) == 0
