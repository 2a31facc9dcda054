"""The ahead-of-time build: run once as a user runs it, and every cubin read back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pytest

from uperfuse.engine.builder.kernels import kernel_capability
from uperfuse.engine.launching import KernelRequest, LaunchRecord
from uperfuse.kernels import build as build_module
from uperfuse.kernels.boards import BOARDS, RESERVED_SHARED_BYTES
from uperfuse.kernels.build import BuildError, build, main
from uperfuse.kernels.catalogue import kernel_specs
from uperfuse.kernels.compile import compile_kernel

from .cubin import read_cubin, read_instructions
from .example import SCALE
from .occupancy import Compiled, assert_in_readmes

ROOT = Path(__file__).resolve().parents[2]
DISASSEMBLED = (87, 90)
"""Architectures whose instructions are looked at."""
TENSOR_CORES = {"pyramid_fusion", "window_attention"}
WIDE_LOADS = {"prepare", "temporal_aggregate", "temporal_attention"}
WIDE_STORES = {"classify", "prepare"}
"""Logits below a block begin at any address; what `classify` writes is aligned, and more than what it reads."""


def _run(
    out: Path, *arguments: str, cwd: Path, environment: Mapping[str, str], limits: str = "true"
) -> subprocess.CompletedProcess[str]:
    """`python -m uperfuse.kernels.build` in a process that compiles."""
    # tests interpret kernels; the build compiles them
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    command = [sys.executable, "-m", "uperfuse.kernels.build", "-o", str(out), *arguments]
    limited = ["bash", "-c", f'{limits} && exec "$@"', "bash", *command]
    return subprocess.run(limited, cwd=cwd, env=outside | dict(environment), capture_output=True, text=True)


@dataclass(frozen=True)
class Built:
    """Everything that one build made."""

    folder: Path
    said: str
    compiled: tuple[Compiled, ...]

    def on(self, *capabilities: int) -> list[Compiled]:
        return [each for each in self.compiled if each.record.capability in capabilities]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    place = tmp_path_factory.mktemp("build")
    folder = place / "cubins"
    done = _run(folder, cwd=place, environment={})
    assert done.returncode == 0, done.stdout + done.stderr
    return Built(folder, done.stdout, tuple(_read(path) for path in sorted(folder.glob("*/*.json"))))


def _read(path: Path) -> Compiled:
    record = LaunchRecord.model_validate_json(path.read_bytes())
    return Compiled(record, read_cubin(path.with_suffix(".cubin")), path)


@pytest.fixture(scope="module")
def instructions(built: Built) -> dict[Path, Counter[str]]:
    """Opcodes of the kernels of two architectures."""
    paths = [each.path for each in built.on(*DISASSEMBLED)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda path: read_instructions(path.with_suffix(".cubin")), paths)
        return dict(zip(paths, found, strict=True))


def test_builds_every_variant_for_every_architecture(built: Built) -> None:
    stems = {
        f"sm_{capability}/{spec.name}.{variant.name}"
        for spec in kernel_specs()
        for variant in spec.variants
        for capability in BOARDS
    }
    found = {path.relative_to(built.folder).as_posix() for path in built.folder.rglob("*") if path.is_file()}
    assert found == {f"{stem}.{kind}" for stem in stems for kind in ("cubin", "ptx", "json")}
    assert {path.name for path in built.folder.iterdir()} == {f"sm_{capability}" for capability in BOARDS}
    assert re.search(rf"cubins: {len(stems)} cubins for sm_80, .*sm_120 in \d+ s$", built.said)


def test_records_say_what_the_declarations_say(built: Built) -> None:
    specs = {spec.name: spec for spec in kernel_specs()}
    for each in built.compiled:
        record, spec = each.record, specs[each.record.kernel]
        (variant,) = (variant for variant in spec.variants if variant.name == record.variant)
        assert f"sm_{record.capability}/{record.kernel}.{record.variant}" in each.path.as_posix()
        assert (record.types, record.constants) == (variant.types, variant.constants)
        assert record.constants | record.configuration == spec.constants(variant, record.capability)
        assert record.grid[: len(spec.grid)] == spec.grid
        assert set(record.grid[len(spec.grid) :]) <= {"1"}
        assert record.block[0] == spec.configure(variant, record.capability).warps * 32
        said = [(at.name, at.dtype, at.dims, at.written) for at in record.parameters if at.kind != "null"]
        declared = [
            (at.name, spec.dtype(at, variant), getattr(at, "dims", ()), getattr(at, "written", False))
            for at in spec.arguments
        ]
        assert said == declared
        assert {at.alignment for at in record.parameters if at.kind == "pointer"} == {16}


def test_later_gpus_are_served_by_the_latest_ptx_that_is_bound_to_no_architecture(built: Built) -> None:
    portable = {each.record.capability for each in built.compiled if not each.record.target.endswith("a")}
    for gpu in (88, 99, 103, 121, 999):
        assert kernel_capability(gpu) == max(each for each in portable if each < gpu)


def test_records_say_what_the_cubins_hold(built: Built) -> None:
    for each in built.compiled:
        record, cubin = each.record, each.cubin
        assert (record.target, record.ptxas, record.symbol) == (cubin.target, cubin.ptxas, cubin.symbol), each
        assert [(at.offset, at.size) for at in record.parameters] == list(cubin.parameters), each
        assert record.parameter_bytes == cubin.parameter_bytes, each
        assert record.block == cubin.threads, each


def test_records_say_what_the_files_hold(built: Built) -> None:
    for each in built.compiled:
        record, ptx = each.record, each.path.with_suffix(".ptx").read_text(encoding="utf-8")
        assert record.cubin == record.cubin.of(each.path.with_suffix(".cubin").read_bytes()), each
        assert record.ptx == record.ptx.of(ptx.encode()), each
        assert f"\n.target {record.target}\n" in ptx, each
        assert f"\n.visible .entry {record.symbol}(\n" in ptx, each
        assert each.path.read_text(encoding="utf-8") == record.to_json(), each


def test_nothing_spills(built: Built, instructions: dict[Path, Counter[str]]) -> None:
    """Nothing at all on Orin and H100, and no more than twelve registers of a thread elsewhere."""
    spilled = [
        f"{each.name}: {each.cubin.stack_bytes} bytes of stack, {each.cubin.local_bytes} of local memory"
        for each in built.compiled
        if each.cubin.stack_bytes > (0 if each.record.capability in DISASSEMBLED else 48) or each.cubin.local_bytes
    ]
    assert not spilled, "\n".join(spilled)
    local = [path.stem for path, found in instructions.items() if any(op.startswith(("LDL", "STL")) for op in found)]
    assert not local


def test_fits_the_boards(built: Built) -> None:
    for each in built.compiled:
        assert each.resident_blocks > 0, each.name
        # Triton's shared memory is dynamic; what is left is CUDA's own
        assert each.cubin.static_shared_bytes in (0, RESERVED_SHARED_BYTES), each.name


def test_readmes_state_the_occupancy(built: Built) -> None:
    assert_in_readmes(built.on(87, 90))


def test_products_run_on_tensor_cores(built: Built, instructions: dict[Path, Counter[str]]) -> None:
    for each in built.on(*DISASSEMBLED):
        # without a base map pyramid_fusion multiplies nothing
        if each.record.kernel in TENSOR_CORES and each.record.constants.get("BASE", 1):
            products = [op for op in instructions[each.path] if op.startswith(("HMMA", "HGMMA"))]
            assert products, f"{each.name}: {instructions[each.path]}"


@pytest.mark.parametrize(("kernels", "access"), [(WIDE_LOADS, "LDG|LDGSTS"), (WIDE_STORES, "STG")])
def test_memory_bound_kernels_move_128_bits_at_once(built, instructions, kernels, access):
    assert {each.record.kernel for each in built.compiled} >= kernels
    for each in built.on(*DISASSEMBLED):
        if each.record.kernel in kernels:
            wide = [op for op in instructions[each.path] if re.fullmatch(rf"({access})\.E(\.\w+)*\.128(\.\w+)*", op)]
            assert wide, f"{each.name}: {instructions[each.path]}"


def test_files_name_no_place_and_no_line(built: Built) -> None:
    places = [os.fsencode(place) for place in (built.folder.parent, ROOT, Path.home(), Path(sys.prefix))]
    for path in built.folder.rglob("*.*"):
        content = path.read_bytes()
        assert not [place for place in places if place in content], path
        if path.suffix == ".ptx":
            assert not re.search(rb"^\s*\.(file|loc|section)\b", content, re.MULTILINE), path


def test_another_machine_builds_the_same_bytes(built: Built, tmp_path: Path) -> None:
    """Other folders, caches, hash seeds and numbers of processes change nothing."""
    for name in ("home", "tmp", "cwd"):
        (tmp_path / name).mkdir()
    environment = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "PYTHONHASHSEED": "7"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    kernels = {"pyramid_fusion_backward", "temporal_aggregate_backward"}
    chosen = ["--arch", "87", "90", "120", "--kernel", *kernels, "--jobs", "1"]
    done = _run(Path("again"), *chosen, cwd=tmp_path / "cwd", environment=environment)
    assert done.returncode == 0, done.stderr
    again = tmp_path / "cwd" / "again"
    files = [path for path in again.rglob("*.*") if path.is_file()]
    assert {path.name.split(".")[0] for path in files} == kernels
    for path in files:
        assert path.read_bytes() == (built.folder / path.relative_to(again)).read_bytes(), path
    left = [path for name in ("home", "tmp", "cache") for path in (tmp_path / name).rglob("*")]
    assert not left


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    """No file may hold more than 4 KB."""
    environment = {"TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    chosen = ["--arch", "87", "--kernel", "temporal_aggregate_backward"]
    done = _run(tmp_path / "out", *chosen, cwd=tmp_path, environment=environment, limits="ulimit -f 4")
    assert done.returncode == 1
    assert re.fullmatch(r"error: sm_87/temporal_aggregate_backward\.\S+ cannot be compiled: .*large\n", done.stderr)
    assert not list(tmp_path.iterdir())


def test_a_process_that_interprets_does_not_compile() -> None:
    with pytest.raises(RuntimeError, match=r"kernels are interpreted .*, expected a compiler; unset TRITON_INTERPRET"):
        compile_kernel(SCALE, variant=SCALE.variants[0], capability=87)


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if this process did not interpret kernels."""
    for name in [name for name in os.environ if name.startswith("TRITON_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize("switch", ["TRITON_INTERPRET", "TRITON_DEFAULT_FP_FUSION", "PTXAS_OPTIONS"])
def test_refuses_an_environment_that_changes_the_code(compiling, tmp_path, capsys, switch):
    compiling.setenv(switch, "1")
    assert main(["-o", str(tmp_path / "out")]) == 1
    assert f"error: {switch} set" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_refuses_what_it_does_not_know(compiling, tmp_path, capsys):
    assert main(["-o", str(tmp_path / "out"), "--arch", "87", "88"]) == 1
    assert "architecture 88 is not known, expected some of [80, 86, 87," in capsys.readouterr().err
    assert main(["-o", str(tmp_path / "out"), "--kernel", "classify", "clasify"]) == 1
    assert "kernel clasify is not known, expected some of ['classify', " in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["notes.txt", "sm_87/notes.txt", "sm_87/kernel.bf16.cubin.bak"])
def test_refuses_a_folder_of_others(compiling, tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(BuildError, match=f"holds {name}, expected an empty folder or an earlier build"):
        build(tmp_path / "out")
    assert path.read_text() == "mine"


def test_refuses_a_file(compiling, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(BuildError, match="out is a file, expected a folder"):
        build(tmp_path / "out")


@pytest.fixture
def fake(compiling: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Compiles nothing: threads write one line per task, and some kernels fail."""
    errors = {
        "broken": BuildError("sm_87/broken.bf16 cannot be compiled"),
        "killed": BrokenProcessPool(),
        "stopped": KeyboardInterrupt(),
    }

    def compile_one(task, *, folder, cache):
        (folder / f"{task.stem}.cubin").write_text("new")
        if task.request.kernel in errors:
            raise errors[task.request.kernel]

    def declared(kernels):
        return [KernelRequest(kernel, {"T": "bf16"}, {}) for kernel in kernels]

    compiling.setattr(build_module, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))
    compiling.setattr(build_module, "_compile", compile_one)
    compiling.setattr(build_module, "_declared", declared)
    return compiling


@pytest.mark.parametrize("earlier", [None, "old"])
@pytest.mark.parametrize(
    ("kernel", "code", "says"),
    [
        ("broken", 1, "error: sm_87/broken.bf16 cannot be compiled\n"),
        ("killed", 1, "error: a process that compiles was killed, expected none to be; name fewer --jobs\n"),
        ("stopped", 130, "error: stopped by the user; nothing was written\n"),
    ],
)
def test_a_failure_leaves_everything_as_it_was(fake, tmp_path, capsys, earlier, kernel, code, says):
    out = tmp_path / "out"
    if earlier:
        (out / "sm_86").mkdir(parents=True)
        (out / "sm_86" / "classify.bf16.cubin").write_text(earlier)
    before = {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")}
    assert main(["-o", str(out), "--kernel", "classify", kernel, "--arch", "87", "--jobs", "1"]) == code
    assert capsys.readouterr().err == says
    assert {path: path.is_file() and path.read_text() for path in tmp_path.rglob("*")} == before


def test_an_earlier_build_is_replaced(fake, tmp_path):
    out = tmp_path / "out"
    build(out, kernels=["prepare"], capabilities=[86, 90], jobs=2)
    assert build(out, kernels=["classify"], capabilities=[87], jobs=2) == {"classify": 1}
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "out",
        "out/sm_87",
        "out/sm_87/classify.bf16.cubin",
    ]
