"""`uperfuse build`: a plan's segments again, made for one kind of machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import BackendError
from ..rasters import Scene

if TYPE_CHECKING:
    from ..builder.build import BuildReport
    from ..builder.settings import BuildSettings, PlanPrecision

__all__ = ["register"]

_PRECISIONS: dict[str, PlanPrecision] = {
    "fp32": "float32",
    "float32": "float32",
    "fp16": "fp16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
}
_QUANTISED = ("int8", "fp8")


@dataclass(frozen=True)
class _Tiles:
    """The user's tiles that an 8-bit plan is measured on."""

    scene: Scene
    labels: Mapping[str, Path]
    max_miou_drop: float


def register(app: typer.Typer) -> None:
    """Add `build` to the command line."""
    app.command("build")(_build)


def _build(
    plan: Annotated[Path, typer.Argument(help="The plan; replaced unless --out is given.", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The plan to write.", show_default=False)] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16, int8 or fp8 (from sm_89 on).")] = "fp16",
    batch: Annotated[str, typer.Option(help="Tiles at a time, such as 1,4.")] = "1",
    dates: Annotated[str, typer.Option(help="Numbers of dates that series are padded to.")] = "16,32,64,96",
    device: Annotated[
        str, typer.Option(help="auto, cuda, cuda:1, none (build without a GPU), or cpu (8-bit plans for processors).")
    ] = "auto",
    flavour: Annotated[str, typer.Option(help="auto, tensorrt, or rtx for workstations.")] = "auto",
    kernels: Annotated[
        bool, typer.Option("--kernels/--no-kernels", help="Cut series' encoders at our kernels.")
    ] = True,
    kernels_from: Annotated[
        Path | None,
        typer.Option(help="Folder made by python -m uperfuse.kernels.build, where Triton is not installed.",
                     show_default=False),
    ] = None,
    arch: Annotated[
        str, typer.Option(help="Compute capabilities to add kernels for, such as 87,90.", show_default="this GPU's")
    ] = "",
    kernels_only: Annotated[
        bool, typer.Option("--kernels-only", help="Add compiled kernels for --arch and no engines.")
    ] = False,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Engines for later versions and the lean runtime, too.")
    ] = False,
    scene: Annotated[
        Path | None,
        typer.Option(help="Scene file (YAML) whose tiles ranges and accuracy of 8-bit plans are measured on.",
                     show_default=False),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="TASK=FILE, a raster of the truth that the drop is measured against; may be given again.",
                     show_default=False),
    ] = None,
    max_miou_drop: Annotated[
        float, typer.Option(min=0, max=100, help="Points of mean IoU that an 8-bit plan may lose.")
    ] = 0.5,
) -> None:  # fmt: skip
    """Add TensorRT engines for this machine to a plan, or an 8-bit form for processors."""
    console = Console()
    missing = [name for name in ("onnx",) if find_spec(name) is None]
    if missing:
        extra = "build" if device == "cpu" else "tensorrt"
        raise BackendError(f"build needs {missing[0]}, which is not installed; pip install 'uperfuse[{extra}]'")
    kind = _PRECISIONS.get(precision)
    if kind is None:
        raise BackendError(f"precision is {precision!r}, expected fp32, fp16, bf16, int8 or fp8; choose one of them")
    if kind in _QUANTISED and scene is None:
        raise BackendError(f"{precision} chooses its ranges from your own tiles; name their rasters with --scene")
    tiles = None if scene is None else _Tiles(Scene.from_yaml(scene), _truth(labels or []), max_miou_drop)
    if device == "cpu":
        _for_processor(plan, out, kind, tiles, console)
        return
    from ..builder.settings import BuildSettings
    from ..tensorrt.flavour import Asked

    known: dict[str, Asked] = {"auto": "auto", "tensorrt": "tensorrt", "rtx": "rtx"}
    if flavour not in known:
        raise BackendError(f"flavour is {flavour!r}, expected auto, tensorrt or rtx; choose one of them")
    settings = BuildSettings(
        precision=kind,
        batches=_numbers("--batch", batch),
        dates=_numbers("--dates", dates),
        cut=kernels,
        flavour=known[flavour],
        version_compatible=version_compatible,
        architectures=_numbers("--arch", arch) if arch else (),
        kernels=kernels_from,
    )
    if kernels_only:
        from ..builder.build import add_kernels

        plan_hash, notes = add_kernels(plan, out=out, settings=settings)
        for note in notes:
            console.print(note, highlight=False)
        boards = ", ".join(f"sm_{each}" for each in settings.architectures)
        console.print(f"{out or plan}: kernels for {boards} in {precision}, plan {plan_hash[:12]}", highlight=False)
        return
    _for_gpu(plan, out, settings, device, tiles, console)


def _for_gpu(
    plan: Path,
    out: Path | None,
    settings: BuildSettings,
    device: str,
    tiles: _Tiles | None,
    console: Console,
) -> None:
    from ..builder.build import build_plan, find_device
    from ..builder.quantised import quantise_scene

    found, why = find_device(device)
    if found is None:
        console.print(f"no GPU: {why}")
    quantise = None
    if tiles is not None and (settings.precision == "int8" or settings.precision == "fp8"):
        quantise = quantise_scene(
            tiles.scene,
            kind=settings.precision,
            max_miou_drop=tiles.max_miou_drop,
            labels=tiles.labels,
            say=console.print,
        )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            steps = bar.add_task("", total=None)

            def progress(phase: str, done: int, total: int) -> None:
                bar.update(steps, description=phase, completed=done, total=total)

            report = build_plan(
                plan,
                out=out,
                settings=settings,
                device=found,
                quantise=quantise,
                say=console.print,
                progress=progress,
            )
    finally:
        if found is not None:
            found.release()
    _print_report(report, out or plan, console)


def _for_processor(plan: Path, out: Path | None, precision: str, tiles: _Tiles | None, console: Console) -> None:
    if precision != "int8" or tiles is None:
        raise BackendError(
            f"precision is {precision}, expected int8 for --device cpu: a processor computes everything else from the "
            "plan as it is"
        )
    from ..builder.processor import build_for_processor

    report = build_for_processor(
        plan,
        out=out,
        scene=tiles.scene,
        max_miou_drop=tiles.max_miou_drop,
        labels=tiles.labels,
        say=console.print,
    )
    for line in report.lines:
        console.print(line, highlight=False)


def _print_report(report: BuildReport, path: Path, console: Console) -> None:
    payload = report.payload
    for note in report.notes:
        console.print(note, highlight=False)
    if payload.float_layers:
        console.print(f"stayed in floating point: {', '.join(payload.float_layers)}", highlight=False)
    if payload.verified is None:
        console.print(f"{payload.target}: not verified, for there is no GPU here; its first load on one verifies it")
    else:
        for each in payload.verified.agreement:
            console.print(
                f"{payload.target}: {each.task} on {payload.verified.machine}: relative error "
                f"{each.relative_error:.1e}, {each.argmax_equal:.3%} of classes equal"
            )
    signed = f", signed with the key {report.signed!r}" if report.signed else ""
    console.print(f"{path}: {report.size / 1e6:.1f} MB, plan {report.plan_hash[:12]}{signed}", highlight=False)


def _truth(given: list[str]) -> dict[str, Path]:
    found = {}
    for each in given:
        task, equals, path = each.partition("=")
        if not (task and equals and path):
            raise BackendError(f"--labels is {each!r}, expected TASK=FILE, such as AERIAL_LABEL-COSIA=truth.tif")
        found[task] = Path(path)
    return found


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise BackendError(f"{option} is {text!r}, expected whole numbers such as 1,4; correct it") from None
