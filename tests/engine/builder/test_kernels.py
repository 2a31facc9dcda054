"""Compiled kernels for a plan: from itself, from a folder, compiled here, or refused with what would help."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.plan.examples import AERIAL, a_manifest, members_of
from uperfuse.engine import BackendError, Plan, PlanError
from uperfuse.engine.builder.kernels import (
    attention_shapes,
    collect_kernels,
    kernel_capability,
    kernel_members,
    plan_kernels,
)
from uperfuse.engine.builder.parts import float_parts
from uperfuse.engine.launching import ARCHITECTURES, AttentionShape, KernelFiles, plan_requests
from uperfuse.engine.plan import write_plan
from uperfuse.kernels.build import compile_requests

SMALL = Path(__file__).resolve().parents[3] / "models" / "uperfuse-small.plan"
REQUESTS = plan_requests(a_manifest((AERIAL,)), attention={}, precision="fp16", dates=())


@pytest.fixture(scope="module")
def files() -> tuple[KernelFiles, ...]:
    """What a network of one image needs, for Orin and H100."""
    return compile_requests(REQUESTS, capabilities=(87, 90))


@pytest.fixture
def nothing_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where the kernels' package cannot be imported."""
    monkeypatch.setitem(sys.modules, "uperfuse.kernels.build", None)


def _plan(path: Path, files: Iterable[KernelFiles] = ()) -> Path:
    """A plan that holds some compiled kernels."""
    manifest, members = a_manifest((AERIAL,)), {}
    by_capability: dict[int, list[KernelFiles]] = {}
    for each in files:
        by_capability.setdefault(each.record.capability, []).append(each)
    payloads = []
    for capability, some in by_capability.items():
        payload, more = kernel_members(some, capability=capability)
        payloads.append(payload)
        members |= more
    if payloads:
        manifest = manifest.model_copy(update={"schema_version": 2, "kernels": tuple(payloads)})
    write_plan(path, manifest, members_of(manifest) | members)
    return path


def _folder(path: Path, files: Iterable[KernelFiles]) -> Path:
    """A folder as the build of kernels makes it."""
    for each in files:
        for kind, content in each.contents.items():
            file = path / f"{each.stem}.{kind}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return path


def _collect(plan: Path, *, folder: Path | None = None, capabilities: tuple[int, ...] = (87, 90)):
    with Plan.open(plan) as opened:
        return collect_kernels(REQUESTS, capabilities=capabilities, plan=opened, folder=folder)


def test_a_plan_holds_what_was_put_into_it(tmp_path, files):
    with Plan.open(_plan(tmp_path / "a.plan", files)) as plan:
        assert plan_kernels(plan, capabilities=(90, 87)) == files
        assert plan_kernels(plan, capabilities=(90,)) == tuple(e for e in files if e.record.capability == 90)
        assert plan_kernels(plan, capabilities=(86,)) == ()


def test_members_are_named_after_their_architecture_and_variant(files):
    payload, members = kernel_members(files[:2], capability=87)
    stems = ["kernels/sm_87/prepare.u8_fp16_ALIGNED1", "kernels/sm_87/classify.fp32_STEPS1_ALIGNED1_TY64_TX128"]
    assert [kernel.cubin for kernel in payload.kernels] == [f"{stem}.cubin" for stem in stems]
    assert sorted(members) == sorted(f"{stem}.{kind}" for stem in stems for kind in ("cubin", "json", "ptx"))
    assert members[f"{stems[0]}.cubin"] == files[0].cubin
    assert (payload.capability, len(payload.kernels)) == (87, 2)
    with pytest.raises(AssertionError, match=r"sm_90/.* among the kernels of sm_87"):
        kernel_members(files, capability=87)


def test_kernels_come_from_the_plan(tmp_path, files, nothing_compiles):
    empty = tmp_path / "nothing"
    assert _collect(_plan(tmp_path / "a.plan", files), folder=empty) == files
    assert _collect(_plan(tmp_path / "a.plan", files), capabilities=(90, 90)) == files[2:]


def test_kernels_come_from_a_folder(tmp_path, files, nothing_compiles):
    assert _collect(_plan(tmp_path / "a.plan"), folder=_folder(tmp_path / "cubins", files)) == files


def test_kernels_come_from_wherever_they_are(tmp_path, files, nothing_compiles):
    """Some from the plan, the others from a folder, in the order of architectures and requests."""
    plan = _plan(tmp_path / "a.plan", [files[3], files[0]])
    assert _collect(plan, folder=_folder(tmp_path / "cubins", [files[1], files[2]])) == files


def test_the_plan_comes_before_the_folder(tmp_path, files, nothing_compiles):
    plan = _plan(tmp_path / "a.plan", files)
    folder = _folder(tmp_path / "cubins", files)
    (folder / f"{files[0].stem}.cubin").write_bytes(b"never read")
    assert _collect(plan, folder=folder) == files


def test_kernels_are_compiled_where_they_are_nowhere(tmp_path, files):
    """What one architecture lacks is compiled, and it alone."""
    plan = _plan(tmp_path / "a.plan", files[2:])
    assert _collect(plan, folder=_folder(tmp_path / "cubins", files[1:2])) == files


def test_what_cannot_be_had_is_refused_with_three_ways_out(tmp_path, files, nothing_compiles):
    plan, folder = _plan(tmp_path / "a.plan", files[2:3]), _folder(tmp_path / "cubins", files[:1])
    with pytest.raises(BackendError) as caught:
        _collect(plan, folder=folder)
    said = str(caught.value)
    missing = "classify.fp32_STEPS1_ALIGNED1_TY64_TX128"
    assert f"not in {plan} and {folder} and cannot be made here (uperfuse.kernels.build is not installed)" in said
    assert f"sm_87: {missing}; sm_90: {missing}; take a plan that holds them, or " in said
    assert f"`python -m uperfuse.kernels.build --plan {plan} --arch 87 90 -o DIR`, with the same --precision" in said
    assert "--kernels-from DIR, or " in said
    assert said.endswith("or pip install 'uperfuse[train]', which compiles them")
    assert "prepare" not in said


def test_an_architecture_that_nothing_compiles_for_is_refused(tmp_path):
    with pytest.raises(BackendError, match=r"cannot be made here \(architecture 75 is not known, .*sm_75: prepare"):
        _collect(_plan(tmp_path / "a.plan"), capabilities=(75,))


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        ("cubin", b"other", r"prepare\.u8_fp16_ALIGNED1\.cubin has 5 bytes that are not those which .* describes"),
        ("ptx", b"", r"prepare\.u8_fp16_ALIGNED1\.ptx has 0 bytes that are not"),
        ("json", b"{}", r"prepare\.u8_fp16_ALIGNED1\.json is no launch record: Field required"),
        ("json", b"\xff", r"prepare\.u8_fp16_ALIGNED1\.json is no launch record: "),
        ("ptx", None, r"prepare\.u8_fp16_ALIGNED1\.ptx cannot be read: No such file"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, files, kind, content, says):
    folder = _folder(tmp_path / "cubins", files)
    path = folder / f"{files[0].stem}.{kind}"
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(BackendError, match=says):
        _collect(_plan(tmp_path / "a.plan"), folder=folder)


def test_a_kernel_under_the_name_of_another_is_refused(tmp_path, files):
    folder = _folder(tmp_path / "cubins", files)
    for kind, content in files[2].contents.items():  # H100's
        (folder / f"{files[0].stem}.{kind}").write_bytes(content)
    with pytest.raises(BackendError, match=r"sm_87/prepare\..*json describes sm_90/prepare\..*, expected what its"):
        _collect(_plan(tmp_path / "a.plan"), folder=folder)


def test_a_plan_whose_kernels_do_not_belong_together_is_refused(tmp_path, files):
    mixed = [replace(files[0], cubin=files[1].cubin), files[1]]
    with pytest.raises(PlanError, match=r"a\.plan: kernels/sm_87/prepare.*\.cubin has \d+ bytes that are not those"):
        _collect(_plan(tmp_path / "a.plan", mixed))


def test_a_gpu_is_served_by_its_own_architecture_or_by_earlier_ptx():
    assert [kernel_capability(each) for each in ARCHITECTURES] == [*ARCHITECTURES]
    assert [kernel_capability(each) for each in (88, 103, 121, 130)] == [87, 89, 89, 89]
    with pytest.raises(BackendError, match="the GPU is sm_75, and kernels are compiled for sm_80 or later"):
        kernel_capability(75)


def test_the_sizes_of_attentions_are_read_from_the_graphs():
    with Plan.open(SMALL) as plan:
        shapes = attention_shapes(float_parts(plan, cut=True))
        assert attention_shapes(float_parts(plan, cut=False)) == {}
    series = ("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS")
    assert shapes == dict.fromkeys(series, AttentionShape(heads=16, channels=64, embedding=64, summed=(32, 32, 32)))
