"""Reads compiled kernels back with the `cuobjdump` that comes with Triton."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import triton

CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclass(frozen=True)
class Cubin:
    """What a cubin says of its one kernel."""

    target: str
    ptxas: str
    symbol: str
    registers: int
    stack_bytes: int
    local_bytes: int
    static_shared_bytes: int
    """The kilobyte that CUDA reserves is in it, on sm_90 and later."""
    threads: tuple[int, int, int]
    parameters: tuple[tuple[int, int], ...]
    """(offset, size) of each, in order."""
    parameter_bytes: int


def read_cubin(path: Path) -> Cubin:
    """Resources and parameters of the kernel in a cubin."""
    usage = re.search(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", _dump("-res-usage", path))
    assert usage, f"{path} does not say what it uses"
    symbol, *resources = usage.groups()
    registers, stack_bytes, static_shared_bytes, local_bytes = map(int, resources)
    elf = _dump("-elf", path)
    target, release = _one(r"sm=(\w+), toolkit=([\d.]+)", elf)
    ordered = sorted(
        tuple(int(number, 16) for number in found)
        for found in re.findall(r"Ordinal : (0x\w+)\s+Offset  : (0x\w+)\s+Size    : (0x\w+)", elf)
    )
    assert [place for place, _, _ in ordered] == list(range(len(ordered)))
    return Cubin(
        target=f"sm_{target}",
        # cuobjdump writes CUDA 12.9 as 129
        ptxas=release if "." in release else f"{release[:-1]}.{release[-1]}",
        symbol=symbol,
        registers=registers,
        stack_bytes=stack_bytes,
        local_bytes=local_bytes,
        static_shared_bytes=static_shared_bytes,
        threads=tuple(int(each, 16) for each in _attribute("REQNTID", elf).split()),
        parameters=tuple((offset, size) for _, offset, size in ordered),
        # the size in the upper half, the place in the bank of constants in the lower
        parameter_bytes=int(_attribute("PARAM_CBANK", elf).split()[1], 16) >> 16,
    )


def read_instructions(path: Path) -> Counter[str]:
    """Opcode with its modifiers, such as LDG.E.128 -> how often the kernel's code holds it."""
    line = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", re.MULTILINE)
    return Counter(line.findall(_dump("-sass", path)))


def _attribute(name: str, elf: str) -> str:
    (value,) = _one(rf"EIATTR_{name}\s+Format:\s+\w+\s+Value:\s+([0-9a-fx ]+)", elf)
    return value


def _one(pattern: str, text: str) -> tuple[str, ...]:
    found = re.search(pattern, text)
    assert found, f"cuobjdump's output lacks {pattern}"
    return found.groups()


def _dump(what: str, path: Path) -> str:
    return subprocess.run([CUOBJDUMP, what, path], capture_output=True, text=True, check=True).stdout
