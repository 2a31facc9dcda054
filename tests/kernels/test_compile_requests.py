"""What plans ask for is compiled beyond what kernels declare: by the command, and from a process that interprets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from uperfuse.engine import Plan
from uperfuse.engine.launching import (
    AttentionShape,
    KernelFiles,
    KernelRequest,
    aggregate_request,
    attention_request,
    classify_request,
    fusion_request,
    plan_requests,
    prepare_request,
)
from uperfuse.kernels import build as build_module
from uperfuse.kernels.build import REQUESTS, BuildError, build_requests, compile_requests, main
from uperfuse.kernels.catalogue import kernel_specs

from .cubin import read_cubin

ROOT = Path(__file__).resolve().parents[2]
SMALL = ROOT / "models" / "uperfuse-small.plan"
CAPABILITIES = (87, 90)
DTYPES = ("fp32", "fp16", "bf16")


def _needs_of_published_networks() -> set[KernelRequest]:
    """LC-A, LC-F, LC-G, LC-L and LPIS-I, whatever the precision and the numbers of dates."""
    # labels and base grids: of aerial networks, of SPOT-led ones, and of series alone
    upsamplings = {
        128: [[((512, 512), True)]],
        16: [[((64, 64), True), ((512, 512), False)], [((64, 64), True)]],
        10: [[((512, 512), False)], []],
    }
    wanted = {
        classify_request(
            dtype="fp32", logits_yx=(px, px), map_yx=resizes[-1][0] if resizes else (px, px), resizes=resizes
        )
        for px, grids in upsamplings.items()
        for resizes in grids
    }
    for dtype in DTYPES:
        wanted |= {prepare_request(sample=sample, dtype=dtype, pixels=512**2) for sample in ("u8", "u16", "fp32")}
        wanted |= {fusion_request(channels=channels, dtype=dtype) for channels in (96, 128, 19)}
        wanted |= {
            aggregate_request(heads=16, channels=channels, dtype=dtype) for channels in ((64, 64, 128), (64, 64, 64))
        }
        wanted |= {
            attention_request(heads=16, channels=128, embedding=256, dtype=dtype, dates=dates) for dates in (32, 96)
        }
    return wanted


def _declared() -> set[KernelRequest]:
    return {
        KernelRequest(spec.name, variant.types, variant.constants)
        for spec in kernel_specs()
        for variant in spec.variants
    }


def _assert_right(found: Iterable[KernelFiles], wanted: Iterable[KernelRequest], folder: Path) -> None:
    """One kernel for each request and architecture, that spills nothing."""
    found = [*found]
    for capability in CAPABILITIES:
        for request in wanted:
            (files,) = (each for each in found if request.matches(each.record) and each.record.capability == capability)
            path = folder / "read.cubin"
            path.write_bytes(files.cubin)
            cubin = read_cubin(path)
            assert (cubin.target, cubin.symbol) == (files.record.target, files.record.symbol)
            assert cubin.stack_bytes == cubin.local_bytes == 0, files.stem
    assert len(found) == len(CAPABILITIES) * len([*wanted])


@pytest.fixture(scope="module")
def published() -> tuple[KernelFiles, ...]:
    """What kernels declare is compiled elsewhere; the rest here, in a process that interprets."""
    assert os.environ["TRITON_INTERPRET"] == "1"
    return compile_requests(_needs_of_published_networks() - _declared(), capabilities=CAPABILITIES)


def test_what_published_networks_need_is_compiled_and_spills_nothing(published, tmp_path):
    wanted = _needs_of_published_networks() - _declared()
    assert len(wanted) == 10
    _assert_right(published, wanted, tmp_path)


def test_the_environment_changes_nothing(published, monkeypatch):
    """Switches that the command refuses stay outside of the process that compiles."""
    first = published[0]
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    monkeypatch.setenv("DISABLE_PTXAS_OPT", "1")
    assert compile_requests([first.request], capabilities=[first.record.capability]) == (first,)


def _run(out: Path, *arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    command = [sys.executable, "-m", "uperfuse.kernels.build", "-o", str(out), *arguments]
    return subprocess.run(command, env=outside | dict(environment), capture_output=True, text=True)


def test_the_command_compiles_what_a_plan_needs(tmp_path):
    out = tmp_path / "cubins"
    done = _run(out, "--plan", str(SMALL), "--arch", "87", "90", environment={})
    assert done.returncode == 0, done.stderr
    shape = AttentionShape(heads=16, channels=64, embedding=64, summed=(32, 32, 32))
    series = dict.fromkeys(("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"), shape)
    with Plan.open(SMALL) as plan:
        wanted = plan_requests(plan.manifest, attention=series, precision="fp16", dates=(64, 96))
    found = [KernelFiles.read(out, request, capability=each) for request in wanted for each in CAPABILITIES]
    _assert_right([each for each in found if each is not None], wanted, tmp_path)
    assert f"{len(found)} cubins for sm_87, sm_90" in done.stdout
    # nothing else is there
    assert sorted(path.with_suffix("").name for path in out.glob("sm_87/*.json")) == sorted(map(str, wanted))


@pytest.fixture
def compiling(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As if this process did not interpret kernels."""
    for name in [name for name in os.environ if name.startswith("TRITON_")]:
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (KernelRequest("clasify", {"T": "fp32"}, {}), "kernel clasify is not known, expected some of ['classify', "),
        (
            KernelRequest("prepare", {"S": "i32", "T": "fp32"}, {"ALIGNED": 1}),
            "S is i32, expected one of ('u8', 'u16', 'i16', 'fp32'); ask for another variant",
        ),
        (KernelRequest("prepare", {"T": "fp32"}, {"ALIGNED": 1}), "types are ['T'], expected ['S', 'T']"),
        (
            KernelRequest("pyramid_fusion", {"T": "fp32"}, {"ALIGNED": 1, "BASE": 0}),
            "constants are ['ALIGNED', 'BASE'], expected ['BASE', 'ALIGNED']",
        ),
    ],
)
def test_refuses_what_a_declaration_does_not_admit(compiling, tmp_path, request_, says):
    with pytest.raises(BuildError) as caught:
        build_requests(tmp_path / "out", [request_], capabilities=[87])
    assert says in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_says_what_the_process_that_compiles_says():
    with pytest.raises(BuildError, match=r"^architecture 88 is not known, expected some of \[80, 86, 87, "):
        compile_requests([prepare_request(sample="u8", dtype="fp16", pixels=16)], capabilities=[88])


def test_refuses_a_kernel_that_asks_for_more_than_a_board_has():
    """Attention over 256 channels takes more shared memory than workstations' GPUs give a block."""
    wide = attention_request(heads=16, channels=256, embedding=256, dtype="fp16", dates=64)
    with pytest.raises(BuildError, match=r"asks for \d+ bytes of shared memory, expected at most 101376 on sm_86"):
        compile_requests([wide], capabilities=[86])


def test_says_that_triton_is_missing(monkeypatch):
    monkeypatch.setattr(build_module, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match="triton is not installed"):
        compile_requests([], capabilities=[87])


def test_a_list_in_json_is_read_back(compiling, tmp_path, capsys):
    wanted = (prepare_request(sample="u8", dtype="fp16", pixels=16), fusion_request(channels=19, dtype="bf16"))
    assert REQUESTS.validate_json(REQUESTS.dump_json(wanted)) == wanted
    for content, says in (
        ('[{"kernel": "prepare", "types": {"T": 3}, "constants": {}}]', "Input should be a valid string"),
        ('[{"kernel": "prepare", "types": {}}]', "Field required"),
        ("[", "Invalid JSON"),
    ):
        path = tmp_path / "requests.json"
        path.write_text(content)
        assert main(["-o", str(tmp_path / "out"), "--requests", str(path)]) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"error: {path} is no list of requests: ")
        assert says in said


@pytest.mark.parametrize("content", ["", "plan", None])
def test_refuses_what_is_no_plan(compiling, tmp_path, capsys, content):
    path = tmp_path / "a.plan"
    if content is not None:
        path.write_text(content)
    assert main(["-o", str(tmp_path / "out"), "--plan", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert str(path) in said
    assert not (tmp_path / "out").exists()
