"""Compiles the kernels ahead of time: `python -m uperfuse.kernels.build -o DIR [--arch 87 90 ...] [--kernel NAME ...]`.

Every variant of every kernel is compiled with Triton's own compiler, which needs no GPU, into

    DIR/sm_87/<kernel>.<variant>.cubin     what the GPU runs
    DIR/sm_87/<kernel>.<variant>.ptx       its portable form
    DIR/sm_87/<kernel>.<variant>.json      how it is launched without Triton: `uperfuse.engine.launching`

The bytes follow from the sources, Triton's version and nothing else: not from paths, caches, time or the number of
processes. DIR appears when all is done, or not at all.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rich.console import Console
from rich.progress import track

from ..engine.launching import ITEM_BYTES, POINTER_ALIGNMENT, File, LaunchRecord, Parameter
from .boards import BOARDS
from .spec import KernelSpec, Pointer, Variant

__all__ = ["BuildError", "build", "main"]

HARMLESS = {"TRITON_CACHE_DIR", "TRITON_HOME"}
"""Triton's environment variables that do not change what is compiled: the build keeps no cache."""
SWITCHES = {"PTXAS_OPTIONS", "DISABLE_PTXAS_OPT", "DISABLE_LLVM_OPT", "USE_IR_LOC", "LLVM_EXTRACT_DI_LOCAL_VARIABLES"}
"""Those that do and are not named after Triton."""
INTERRUPTED = 130
POINTER_BYTES = 8
PTX_BYTES = {"64": 8, "32": 4}
NULLS = ("global_scratch", "profile_scratch")
"""Parameters that Triton adds behind a kernel's own."""


class BuildError(RuntimeError):
    """The build cannot be done; nothing was written."""


class _Task(NamedTuple):
    kernel: str
    variant: str
    capability: int

    @property
    def stem(self) -> str:
        return f"sm_{self.capability}/{self.kernel}.{self.variant}"


def build(
    out: Path, *, capabilities: Sequence[int] = tuple(BOARDS), kernels: Sequence[str] | None = None, jobs: int = 1
) -> Counter[str]:
    """Compile kernels into a folder.

    Args:
        out: the folder; must not exist, be empty, or hold an earlier build, which is replaced.
        capabilities: compute capabilities, such as 87.
        kernels: names; all where left out.
        jobs: processes that compile side by side.

    Returns:
        Kernel -> number of cubins.

    Raises:
        BuildError: unknown names, an environment that would change the code, a folder with other files, or a kernel
            that cannot be compiled.
    """
    out = out.absolute()
    _check_environment()
    tasks = _tasks(capabilities, kernels)
    _check_free(out)
    # spawned processes share no state with this one, threads included
    pool = ProcessPoolExecutor(max(1, min(jobs, len(tasks))), mp_context=multiprocessing.get_context("spawn"))
    with _replacing(out) as folder, tempfile.TemporaryDirectory(prefix="uperfuse-build-") as cache:
        for capability in {task.capability for task in tasks}:
            (folder / f"sm_{capability}").mkdir()
        try:
            running = [pool.submit(_compile, task, folder=folder, cache=cache) for task in tasks]
            console = Console(stderr=True)
            done = as_completed(running)
            for each in track(done, "compiling", len(tasks), console=console, disable=not console.is_terminal):
                each.result()
        except BrokenProcessPool:
            raise BuildError("a process that compiles was killed, expected none to be; name fewer --jobs") from None
        finally:
            pool.shutdown(cancel_futures=True)
    return Counter(task.kernel for task in tasks)


def _check_environment() -> None:
    found = {name for name in os.environ if name.startswith("TRITON_")} - HARMLESS | SWITCHES & os.environ.keys()
    if found:
        names = ", ".join(sorted(found))
        raise BuildError(
            f"{names} set, expected none of Triton's switches, which change what it compiles; unset {names}"
        )


def _tasks(capabilities: Sequence[int], kernels: Sequence[str] | None) -> list[_Task]:
    from .catalogue import kernel_specs

    unknown = sorted(set(capabilities) - BOARDS.keys())
    if unknown:
        raise BuildError(f"architecture {unknown[0]} is not known, expected some of {[*BOARDS]}; name one of these")
    specs = {spec.name: spec for spec in kernel_specs()}
    strangers = sorted(set(kernels or ()) - specs.keys())
    if strangers:
        raise BuildError(f"kernel {strangers[0]} is not known, expected some of {[*specs]}; name one of these")
    return [
        _Task(name, variant.name, capability)
        for name, spec in specs.items()
        if kernels is None or name in kernels
        for variant in spec.variants
        for capability in sorted(set(capabilities))
    ]


def _check_free(out: Path) -> None:
    """Refuse to replace anything but an earlier build."""
    if not out.exists():
        return
    if not out.is_dir():
        raise BuildError(f"{out} is a file, expected a folder; name another place")
    ours = re.compile(r"sm_\d+(/\w+\.[\w-]+\.(cubin|ptx|json))?")
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not ours.fullmatch(name):
            raise BuildError(f"{out} holds {name}, expected an empty folder or an earlier build; name another folder")


@contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the `with` ends without an error, and vanishes otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    new = out.with_name(f".{out.name}.new-{os.getpid()}")
    old = out.with_name(f".{out.name}.old-{os.getpid()}")
    new.mkdir()
    try:
        yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _compile(task: _Task, *, folder: Path, cache: str) -> None:
    """Compile one cubin and write its three files; runs in a process of its own."""
    import triton

    from .catalogue import kernel_specs
    from .compile import compile_kernel

    (spec,) = (spec for spec in kernel_specs() if spec.name == task.kernel)
    (variant,) = (variant for variant in spec.variants if variant.name == task.variant)
    triton.knobs.cache.dir = cache
    try:
        compiled = compile_kernel(spec, variant=variant, capability=task.capability)
        record = _record(spec, variant, task.capability, compiled)
    except Exception as error:  # noqa: BLE001  Triton raises errors of many kinds, some of which cannot be pickled
        raise BuildError(f"{task.stem} cannot be compiled: {type(error).__name__}: {error}") from None
    stem = folder / task.stem
    stem.with_name(f"{stem.name}.cubin").write_bytes(compiled.asm["cubin"])
    stem.with_name(f"{stem.name}.ptx").write_text(compiled.asm["ptx"], encoding="utf-8")
    stem.with_name(f"{stem.name}.json").write_text(record.to_json(), encoding="utf-8")


def _record(spec: KernelSpec, variant: Variant, capability: int, compiled: Any) -> LaunchRecord:
    """The launch record of a compiled kernel, checked against its PTX."""
    from triton.backends.nvidia.compiler import get_ptxas

    made = compiled.metadata
    plain = (made.global_scratch_size, made.profile_scratch_size, made.num_ctas, made.launch_cooperative_grid)
    if plain != (0, 0, 1, False) or made.launch_pdl or made.tensordesc_meta:
        raise BuildError(
            "asks for scratch memory, clusters, a cooperative launch or descriptors, expected none of them"
        )
    ptx: str = compiled.asm["ptx"]
    parameters = _parameters(spec, variant)
    sizes = [PTX_BYTES[bits] for bits in re.findall(r"^\s*\.param \.[a-z](\d+)", ptx, flags=re.MULTILINE)]
    if sizes != [each.size for each in parameters]:
        raise BuildError(f"PTX has parameters of {sizes} bytes, expected {[each.size for each in parameters]}")
    (target,) = re.findall(r"^\.target (\w+)", ptx, flags=re.MULTILINE)
    # more than the declaration's warps where Triton gives some of them a part of their own
    (threads,) = re.findall(r"^\.reqntid (\d+)$", ptx, flags=re.MULTILINE)
    configuration = spec.configure(variant, capability)
    x, y, z = (*spec.grid, "1", "1")[:3]
    return LaunchRecord(
        kernel=spec.name,
        variant=variant.name,
        types=dict(variant.types),
        constants=dict(variant.constants),
        configuration=dict(configuration.constants),
        capability=capability,
        target=target,
        symbol=made.name,
        parameters=parameters,
        parameter_bytes=parameters[-1].offset + parameters[-1].size,
        grid=(x, y, z),
        block=(int(threads), 1, 1),
        shared_bytes=made.shared,
        triton=made.triton_version,
        ptxas=get_ptxas(capability).version,
        cubin=File.of(compiled.asm["cubin"]),
        ptx=File.of(ptx.encode()),
    )


def _parameters(spec: KernelSpec, variant: Variant) -> tuple[Parameter, ...]:
    """Where each argument lies: in order, each at a place that its size divides."""
    placed: list[Parameter] = []

    def place(name: str, kind: Literal["pointer", "scalar", "null"], size: int, **rest: Any) -> None:
        end = placed[-1].offset + placed[-1].size if placed else 0
        placed.append(Parameter(name=name, kind=kind, offset=-(-end // size) * size, size=size, **rest))

    for each in spec.arguments:
        dtype = spec.dtype(each, variant)
        if isinstance(each, Pointer):
            array = {"dims": each.dims, "written": each.written, "alignment": POINTER_ALIGNMENT}
            place(each.name, "pointer", POINTER_BYTES, dtype=dtype, **array)
        else:
            place(each.name, "scalar", ITEM_BYTES[dtype], dtype=dtype)
    for name in NULLS:
        place(name, "null", POINTER_BYTES)
    return tuple(placed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m uperfuse.kernels.build", description="Compile the kernels ahead of time; needs no GPU."
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="folder that is made or replaced")
    parser.add_argument(
        "--arch",
        type=int,
        nargs="+",
        default=[*BOARDS],
        metavar="SM",
        help=f"architectures; all where left out: {[*BOARDS]}",
    )
    parser.add_argument("--kernel", nargs="+", metavar="NAME", help="kernels; all where left out")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes; one per core where left out")
    asked = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        built = build(asked.out, capabilities=asked.arch, kernels=asked.kernel, jobs=asked.jobs)
    except (BuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: stopped by the user; nothing was written", file=sys.stderr)
        return INTERRUPTED
    width = max(map(len, built))
    for kernel, cubins in built.items():
        print(f"{kernel:{width}}  {cubins // len(set(asked.arch))} variants, {cubins} cubins")
    targets = ", ".join(f"sm_{capability}" for capability in sorted(set(asked.arch)))
    seconds = time.perf_counter() - start
    print(f"{asked.out}: {built.total()} cubins for {targets} in {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    # under its own name, by which the processes that compile know it, too
    from . import build as under_its_name

    sys.exit(under_its_name.main())
