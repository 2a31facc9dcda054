"""Compiles kernels ahead of time: `python -m uperfuse.kernels.build -o DIR [--arch 87 90 ...] [--plan PLAN ...]`.

Triton's own compiler, which needs no GPU, makes of every variant of every kernel, or of what a plan needs,

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
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import track

from ..engine import Plan, UPerFuseError
from ..engine.launching import SHORT_TYPES, KernelFiles, KernelRequest, dates_limit, kernel_stem, plan_requests
from ..engine.series import DATE_BUCKETS
from .boards import BOARDS
from .folder import check_free, replacing
from .records import BuildError, launch_record
from .spec import Variant

__all__ = ["REQUESTS", "BuildError", "build", "build_requests", "compile_requests", "main"]

REQUESTS = TypeAdapter(tuple[KernelRequest, ...])
"""Requests as JSON: a list of `{"kernel": ..., "types": {...}, "constants": {...}}`."""
HARMLESS = {"TRITON_CACHE_DIR", "TRITON_HOME"}
"""Triton's environment variables that do not change what is compiled: the build keeps no cache."""
SWITCHES = {"PTXAS_OPTIONS", "DISABLE_PTXAS_OPT", "DISABLE_LLVM_OPT", "USE_IR_LOC", "LLVM_EXTRACT_DI_LOCAL_VARIABLES"}
"""Those that do and are not named after Triton."""
PRECISIONS = {"fp32" if name == "float32" else name: name for name in SHORT_TYPES}
"""As `uperfuse build` spells them -> as plans do."""
INTERRUPTED = 130


class _Task(NamedTuple):
    request: KernelRequest
    capability: int

    @property
    def stem(self) -> str:
        return kernel_stem(self.request, capability=self.capability)


def build(
    out: Path, *, capabilities: Sequence[int] = tuple(BOARDS), kernels: Sequence[str] | None = None, jobs: int = 1
) -> Counter[str]:
    """Compile every variant that kernels declare into a folder.

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
    return _build(out, lambda: _declared(kernels), capabilities=capabilities, jobs=jobs)


def build_requests(
    out: Path, requests: Iterable[KernelRequest], *, capabilities: Sequence[int], jobs: int = 1
) -> Counter[str]:
    """Compile what is asked for, be it declared or not, into a folder.

    Args:
        out: as of `build`.
        requests: kernels and their variants.
        capabilities: compute capabilities, such as 87.
        jobs: processes that compile side by side.

    Returns:
        Kernel -> number of cubins.

    Raises:
        BuildError: as of `build`, or a request that a kernel's declaration does not admit.
    """
    wanted = [*dict.fromkeys(requests)]
    return _build(out, lambda: _admitted(wanted), capabilities=capabilities, jobs=jobs)


def compile_requests(
    requests: Iterable[KernelRequest], *, capabilities: Sequence[int], jobs: int | None = None
) -> tuple[KernelFiles, ...]:
    """Compile what is asked for, in a process of its own.

    That process sees none of the environment variables that change what Triton makes, so that a process that
    interprets kernels may call this, too; and it never runs the caller's main module, which need not be guarded.

    Args:
        requests: kernels and their variants.
        capabilities: compute capabilities, such as 87.
        jobs: processes that compile side by side; one per core where left out.

    Returns:
        The files of every request, architecture after architecture.

    Raises:
        BuildError: as of `build_requests`, or Triton is not installed.
    """
    if find_spec("triton") is None:
        raise BuildError("triton is not installed")
    wanted = tuple(dict.fromkeys(requests))
    with tempfile.TemporaryDirectory(prefix="uperfuse-kernels-") as place:
        asked, made = Path(place) / "requests.json", Path(place) / "cubins"
        asked.write_bytes(REQUESTS.dump_json(wanted))
        chosen = ["--requests", str(asked), "-o", str(made), "--arch", *map(str, capabilities)]
        chosen += ["--jobs", str(jobs or os.cpu_count() or 1)]
        done = subprocess.run(  # noqa: S603  our own command, and names of architectures
            [sys.executable, "-m", __name__, *chosen],
            # where the caller is, a file could take the place of a module
            cwd=place,
            env={name: value for name, value in os.environ.items() if name not in _switches()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            last = (done.stderr.strip() or f"the compiler ended with {done.returncode}").splitlines()[-1]
            raise BuildError(last.removeprefix("error: "))
        found = [
            KernelFiles.read(made, each, capability=capability)
            for capability in dict.fromkeys(capabilities)
            for each in wanted
        ]
    return tuple(each for each in found if each is not None)


def _build(
    out: Path, wanted: Callable[[], Sequence[KernelRequest]], *, capabilities: Sequence[int], jobs: int
) -> Counter[str]:
    """Compile into a folder what `wanted` names once the environment is known to be clean."""
    out = out.absolute()
    found = ", ".join(sorted(_switches()))
    if found:
        raise BuildError(
            f"{found} set, expected none of Triton's switches, which change what it compiles; unset {found}"
        )
    unknown = sorted(set(capabilities) - BOARDS.keys())
    if unknown:
        raise BuildError(f"architecture {unknown[0]} is not known, expected some of {[*BOARDS]}; name one of these")
    tasks = [_Task(request, each) for request in wanted() for each in sorted(set(capabilities))]
    check_free(out)
    # spawned processes share no state with this one, threads included
    pool = ProcessPoolExecutor(max(1, min(jobs, len(tasks))), mp_context=multiprocessing.get_context("spawn"))
    with replacing(out) as folder, tempfile.TemporaryDirectory(prefix="uperfuse-build-") as cache:
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
    return Counter(task.request.kernel for task in tasks)


def _switches() -> set[str]:
    """Environment variables that are set and change what Triton compiles."""
    return {name for name in os.environ if name.startswith("TRITON_")} - HARMLESS | SWITCHES & os.environ.keys()


def _declared(kernels: Sequence[str] | None) -> list[KernelRequest]:
    """Every variant of some kernels, or of all."""
    from .catalogue import kernel_specs

    specs = {spec.name: spec for spec in kernel_specs()}
    strangers = sorted(set(kernels or ()) - specs.keys())
    if strangers:
        raise BuildError(f"kernel {strangers[0]} is not known, expected some of {[*specs]}; name one of these")
    return [
        KernelRequest(name, variant.types, variant.constants)
        for name, spec in specs.items()
        if kernels is None or name in kernels
        for variant in spec.variants
    ]


def _admitted(requests: Sequence[KernelRequest]) -> Sequence[KernelRequest]:
    """The requests, each of a form that its kernel's declaration has."""
    from .catalogue import kernel_specs

    specs = {spec.name: spec for spec in kernel_specs()}
    for request in requests:
        if request.kernel not in specs:
            raise BuildError(f"kernel {request.kernel} is not known, expected some of {[*specs]}; name one of these")
        reason = specs[request.kernel].refusal(Variant.of(request))
        if reason:
            raise BuildError(f"{request} cannot be compiled: {reason}; ask for another variant")
    return requests


def _compile(task: _Task, *, folder: Path, cache: str) -> None:
    """Compile one cubin and write its three files; runs in a process of its own."""
    import triton

    from .catalogue import kernel_specs
    from .compile import compile_kernel

    (spec,) = (spec for spec in kernel_specs() if spec.name == task.request.kernel)
    variant = Variant.of(task.request)
    triton.knobs.cache.dir = cache
    try:
        compiled = compile_kernel(spec, variant=variant, capability=task.capability)
        record = launch_record(spec, variant=variant, capability=task.capability, compiled=compiled)
        files = KernelFiles(record, compiled.asm["cubin"], compiled.asm["ptx"].encode())
        for kind, content in files.contents.items():
            (folder / f"{task.stem}.{kind}").write_bytes(content)
    except Exception as error:  # noqa: BLE001  Triton raises errors of many kinds, some of which cannot be pickled
        raise BuildError(f"{task.stem} cannot be compiled: {type(error).__name__}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    asked = _parser().parse_args(arguments)
    start = time.perf_counter()
    try:
        if asked.plan or asked.requests:
            requests = _of_plan(asked) if asked.plan else _of_list(asked.requests)
            built = build_requests(asked.out, requests, capabilities=asked.arch, jobs=asked.jobs)
        else:
            built = build(asked.out, capabilities=asked.arch, kernels=asked.kernel, jobs=asked.jobs)
    except (BuildError, UPerFuseError, OSError) as error:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m uperfuse.kernels.build", description="Compile kernels ahead of time; needs no GPU."
    )
    add = parser.add_argument
    add("-o", "--out", type=Path, required=True, metavar="DIR", help="folder that is made or replaced")
    arch = f"architectures; all where left out: {[*BOARDS]}"
    add("--arch", type=int, nargs="+", default=[*BOARDS], metavar="SM", help=arch)
    add("--jobs", type=int, default=os.cpu_count() or 1, help="processes; one per core where left out")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--kernel", nargs="+", metavar="NAME", help="kernels; all where left out")
    what.add_argument("--plan", type=Path, metavar="PLAN", help="what this plan needs, and nothing else")
    what.add_argument("--requests", type=Path, metavar="FILE", help="what this list in JSON asks for, and nothing else")
    precision = f"with --plan, of products, of {[*PRECISIONS]}; fp16 where left out"
    add("--precision", nargs="+", choices=[*PRECISIONS], default=["fp16"], metavar="TYPE", help=precision)
    dates = [each for each in DATE_BUCKETS if dates_limit(each) is None]
    add("--dates", type=int, nargs="+", default=dates, metavar="T", help=f"with --plan, of series; {dates}")
    add("--no-kernels", action="store_true", help="with --plan, as of `uperfuse build`: series are not cut")
    return parser


def _of_plan(asked: argparse.Namespace) -> tuple[KernelRequest, ...]:
    """What a plan needs."""
    from ..engine.builder.kernels import attention_shapes
    from ..engine.builder.parts import float_parts

    with Plan.open(asked.plan) as plan:
        attention = attention_shapes(float_parts(plan, cut=not asked.no_kernels))
        return tuple(
            request
            for precision in asked.precision
            for request in plan_requests(
                plan.manifest, attention=attention, precision=PRECISIONS[precision], dates=asked.dates
            )
        )


def _of_list(path: Path) -> tuple[KernelRequest, ...]:
    """What a list asks for."""
    try:
        return REQUESTS.validate_json(path.read_bytes())
    except ValidationError as error:
        reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise BuildError(f"{path} is no list of requests: {reason}; write one as REQUESTS has it") from None


if __name__ == "__main__":
    # under its own name, by which the processes that compile know it, too
    from . import build as under_its_name

    sys.exit(under_its_name.main())
