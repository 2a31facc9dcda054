"""An engine as bytes: what it was built for, and the graph."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field

__all__ = ["Container", "pack", "unpack"]

_MAGIC = b"simulated engine\n"
_LENGTH = 8

Shapes = dict[str, list[int]]


@dataclass
class Container:
    """One engine.

    Attributes:
        flavour: "tensorrt" or "tensorrt_rtx".
        version: that built it.
        capabilities: of the GPUs that it runs on.
        name: of the network.
        layers: of the network.
        lean: whether it carries a lean runtime.
        profiles: shapes of the inputs in each profile.
        workspace: bytes of scratch memory it was allowed.
        model: ONNX.
    """

    flavour: str
    version: str
    capabilities: list[int]
    name: str
    layers: int
    lean: bool
    profiles: list[Shapes]
    workspace: int
    model: bytes = field(repr=False, default=b"")

    @property
    def key(self) -> str:
        return hashlib.sha256(self.model).hexdigest()


def pack(container: Container) -> bytes:
    values = asdict(container)
    del values["model"]
    header = json.dumps(values).encode()
    return _MAGIC + len(header).to_bytes(_LENGTH, "little") + header + container.model


def unpack(data: bytes) -> Container | None:
    """The engine; None for bytes that are none."""
    if not data.startswith(_MAGIC):
        return None
    start = len(_MAGIC) + _LENGTH
    length = int.from_bytes(data[len(_MAGIC) : start], "little")
    try:
        return Container(**json.loads(data[start : start + length]), model=data[start + length :])
    except (ValueError, TypeError):
        return None
