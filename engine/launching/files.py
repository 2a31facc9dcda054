"""The files of a compiled kernel: its launch record, its cubin and its portable form, which lie side by side.

    <folder>/sm_87/<kernel>.<variant>.json|cubin|ptx

They are read together, and believed where the record says that they belong together.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ..errors import BackendError
from .record import File, LaunchRecord
from .requests import KernelRequest

__all__ = ["KernelFiles", "kernel_stem"]


def kernel_stem(request: KernelRequest, *, capability: int) -> str:
    """Path of a compiled kernel's files below their folder, but for what they end in.

    Args:
        request: the kernel and its variant.
        capability: compute capability, such as 87.
    """
    return f"sm_{capability}/{request}"


@dataclass(frozen=True)
class KernelFiles:
    """One compiled kernel.

    Attributes:
        record: how it is launched.
        cubin: what GPUs of its architecture run.
        ptx: its portable form.
    """

    record: LaunchRecord
    cubin: bytes
    ptx: bytes

    @classmethod
    def of(cls, record: bytes, *, cubin: bytes, ptx: bytes, place: str) -> KernelFiles:
        """Check that three files belong together.

        Args:
            record: the launch record as it lies in its file.
            cubin: the cubin.
            ptx: its portable form.
            place: where the files lie, for messages.

        Raises:
            BackendError: the record is none, or does not describe the other files.
        """
        try:
            read = LaunchRecord.model_validate_json(record)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise BackendError(f"{place}.json is no launch record: {reason}; compile the kernel again") from None
        for kind, content, described in (("cubin", cubin, read.cubin), ("ptx", ptx, read.ptx)):
            if File.of(content) != described:
                raise BackendError(
                    f"{place}.{kind} has {len(content)} bytes that are not those which its launch record describes "
                    f"({described.size} bytes); compile the kernel again"
                )
        return cls(read, cubin, ptx)

    @classmethod
    def read(cls, folder: Path, request: KernelRequest, *, capability: int) -> KernelFiles | None:
        """Read a kernel that `python -m uperfuse.kernels.build` made.

        Args:
            folder: the folder that it made.
            request: the kernel and its variant.
            capability: compute capability, such as 87.

        Returns:
            The files; None where the folder has none for the request.

        Raises:
            BackendError: the files cannot be read, do not belong together, or are another kernel's.
        """
        stem = folder / kernel_stem(request, capability=capability)
        paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("json", "cubin", "ptx")]
        if not paths[0].exists():
            return None
        try:
            record, cubin, ptx = (path.read_bytes() for path in paths)
        except OSError as error:
            raise BackendError(f"{error.filename} cannot be read: {error.strerror}; compile the kernel again") from None
        files = cls.of(record, cubin=cubin, ptx=ptx, place=str(stem))
        if not request.matches(files.record) or files.record.capability != capability:
            raise BackendError(
                f"{paths[0]} describes {files.stem}, expected what its name says; compile the kernel again"
            )
        return files

    @property
    def request(self) -> KernelRequest:
        """What the kernel serves."""
        return KernelRequest(self.record.kernel, self.record.types, self.record.constants)

    @property
    def stem(self) -> str:
        """Path of the files below their folder, but for what they end in."""
        return kernel_stem(self.request, capability=self.record.capability)

    @property
    def contents(self) -> dict[str, bytes]:
        """What the files end in -> what they hold."""
        return {"json": self.record.to_json().encode(), "cubin": self.cubin, "ptx": self.ptx}
