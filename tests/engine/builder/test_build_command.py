"""`uperfuse build` on a machine without a GPU: TensorRT-RTX's real builder, kernels for boards, refusals in words."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from tests.conftest import ROOT
from uperfuse.engine import BackendError, Engine, Plan, UPerFuseError
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.cli import app
from uperfuse.engine.keyring import Keyring

SMALL = ROOT / "models" / "uperfuse-small.plan"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def run(*arguments):
    return CliRunner().invoke(app, ["build", *map(str, arguments)])


def test_rtx_builds_without_a_gpu(plans, tmp_path):
    source, out = plans("all")[0], tmp_path / "rtx.plan"
    done = run(source, "--flavour", "rtx", "--batch", "1,2", "--dates", "4,8", "--arch", "89", "-o", out)
    assert done.exit_code == 0, done.output
    assert "not verified, for there is no GPU here" in done.output
    with Plan.open(source) as before, Plan.open(out) as after:
        (payload,) = after.manifest.engines
        assert (payload.flavour, payload.capability, payload.machine, payload.verified) == (
            "tensorrt_rtx",
            None,
            None,
            None,
        )
        assert (payload.batches, payload.dates, payload.precision) == ((1, 2), (4, 8), "fp16")
        assert payload.cut
        assert {part.name for part in payload.parts} == set(after.manifest.parts_of(cut=True))
        assert [each.capability for each in after.manifest.kernels] == [89]
        assert after.manifest.segments == before.manifest.segments
        assert Keyring.open().trusted(after) == "machine"
        for name in after.manifest.members:
            after.rehash(name)
        tiles = check_tiles_of(after.manifest, seed=3, dates=5)
    # any machine still runs what it ran before
    with Engine.load(source, device="cpu") as one, Engine.load(out, device="cpu") as other:
        first, second = one.predict(tiles).labels, other.predict(tiles).labels
    assert all((first[task] == second[task]).all() for task in first)


def test_building_again_replaces_what_was_built(plans, tmp_path):
    path = tmp_path / "plan.plan"
    shutil.copy(plans("aerial")[0], path)
    for precision in ("fp16", "fp32", "fp16"):
        done = run(path, "--flavour", "rtx", "--precision", precision, "--arch", "89")
        assert done.exit_code == 0, done.output
    with Plan.open(path) as plan:
        assert sorted(payload.precision for payload in plan.manifest.engines) == ["float32", "fp16"]
        used = plan.manifest.members_used()
        assert set(plan.manifest.members) == set(used)


def test_kernels_alone_go_into_a_plan_for_a_board(tmp_path):
    out = tmp_path / "orin.plan"
    done = run(SMALL, "--kernels-only", "--arch", "87", "-o", out)
    assert done.exit_code == 0, done.output
    with Plan.open(out) as plan:
        assert not plan.manifest.engines
        (payload,) = plan.manifest.kernels
        assert payload.capability == 87
        series = {modality.name for modality in plan.manifest.modalities if modality.kind == "series"}
        assert {weights.series for weights in plan.manifest.attention} == series


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--precision", "fp4"], "precision is 'fp4', expected fp32, fp16, bf16, int8 or fp8"),
        (["--precision", "int8"], "name their rasters with --scene"),
        (["--batch", "4,1"], "--batch is 4,1, expected 1 to 16 rising numbers"),
        (["--dates", "many"], "--dates is 'many', expected whole numbers such as 1,4"),
        (["--flavour", "rtxx"], "flavour is 'rtxx', expected auto, tensorrt or rtx"),
        (["--flavour", "tensorrt"], "no TensorRT can build engines here: tensorrt is not installed"),
        (["--device", "cuda"], "PyCUDA cannot be imported"),
        (["--device", "cpu"], "expected int8 for --device cpu"),
        (["--kernels-only"], "name compute capabilities with --arch"),
        (["--flavour", "rtx", "--version-compatible"], "makes no version-compatible engines"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_and_leaves_the_plan_alone(plans, tmp_path, options, says):
    path = tmp_path / "plan.plan"
    shutil.copy(plans("aerial")[0], path)
    before = path.read_bytes()
    done = run(path, *options)
    assert isinstance(done.exception, UPerFuseError)
    assert says in str(done.exception)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if "plan" in each.name] == ["plan.plan"]


def test_a_folder_that_is_not_there_is_named(plans, tmp_path):
    done = run(plans("aerial")[0], "--flavour", "rtx", "--arch", "89", "-o", tmp_path / "none" / "out.plan")
    assert isinstance(done.exception, UPerFuseError)
    assert "is no folder" in str(done.exception)


def test_without_triton_the_three_ways_are_named(plans, tmp_path, monkeypatch):
    from uperfuse.kernels import build

    def refuse(*_, **__):
        raise build.BuildError("triton is not installed")

    monkeypatch.setattr(build, "compile_requests", refuse)
    done = run(plans("aerial")[0], "--flavour", "rtx", "--arch", "89", "-o", tmp_path / "out.plan")
    assert isinstance(done.exception, BackendError)
    assert "triton is not installed" in str(done.exception)
    assert not (tmp_path / "out.plan").exists()


@pytest.mark.parametrize(("device", "extra"), [("cpu", "build"), ("cuda", "tensorrt")])
def test_what_is_not_installed_is_named_with_what_brings_it(monkeypatch, tmp_path, device, extra):
    monkeypatch.setattr("uperfuse.engine.cli.build.find_spec", lambda _: None)
    done = run(tmp_path / "any.plan", "--device", device)
    assert f"build needs onnx, which is not installed; pip install 'uperfuse[{extra}]'" in str(done.exception)
