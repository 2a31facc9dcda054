"""Plans on disk: what is written is read, and nothing else is believed."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.errors import PlanError
from uperfuse.engine.plan import Plan, write_plan
from uperfuse.engine.plan import plan as plan_module
from uperfuse.engine.plan.manifest import Member

from .examples import AERIAL, COVER, CROPS, DEM, S1, S2, a_manifest, members_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A sound plan."""
    manifest = a_manifest()
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    return tmp_path / "a.plan"


@pytest.mark.parametrize("modalities", [(AERIAL,), (AERIAL, DEM), (AERIAL, DEM, S2, S1), (S2,), (S2, S1)])
@pytest.mark.parametrize("tasks", [(COVER,), (COVER, CROPS)])
def test_read_after_write_gives_back_all(tmp_path: Path, modalities: tuple[str, ...], tasks: tuple[str, ...]) -> None:
    manifest = a_manifest(modalities, tasks)
    members = members_of(manifest)
    said = write_plan(tmp_path / "a.plan", manifest, members)
    with Plan.open(tmp_path / "a.plan") as plan:
        listed = {
            name: Member(size=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in members.items()
        }
        assert plan.manifest == manifest.model_copy(update={"members": listed})
        assert {name: bytes(plan.member(name)) for name in members} == members
        assert {name: plan.rehash(name) for name in plan.manifest.members} == listed
        assert plan.hash == said
        assert plan.size == (tmp_path / "a.plan").stat().st_size


@given(st.dictionaries(st.from_regex(r"x/[a-z0-9]{1,30}", fullmatch=True), st.binary(max_size=300), max_size=6))
def test_the_same_inputs_make_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, extra: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("same")
    manifest = a_manifest((AERIAL,), (COVER,))
    members = members_of(manifest, extra=extra)
    write_plan(folder / "a.plan", manifest, members)
    (folder / "source").mkdir()
    backwards: dict[str, bytes | Path] = {}
    for i, (name, content) in enumerate(reversed(members.items())):
        backwards[name] = folder / "source" / str(i)
        (folder / "source" / str(i)).write_bytes(content)
    write_plan(folder / "b.plan", manifest, backwards)
    assert (folder / "a.plan").read_bytes() == (folder / "b.plan").read_bytes()
    with Plan.open(folder / "a.plan") as plan:
        write_plan(folder / "c.plan", plan.manifest, {name: plan.member(name) for name in plan.manifest.members})
    assert (folder / "a.plan").read_bytes() == (folder / "c.plan").read_bytes()


def test_the_hash_is_that_of_the_manifest_and_changes_with_any_member(path: Path) -> None:
    with Plan.open(path) as plan:
        manifest, first = plan.manifest, plan.hash
    members: dict[str, bytes | Path] = dict(members_of(manifest))
    bare = manifest.model_copy(update={"members": {}})
    assert write_plan(path, bare, members) == first
    members["kernels/sm_90/nothing.cubin"] = b"\0"
    assert write_plan(path, bare, members) != first
    with Plan.open(path) as plan, zipfile.ZipFile(path) as archive:
        assert plan.hash == hashlib.sha256(archive.read("manifest.json")).hexdigest()


def test_members_outlive_the_plan(path: Path) -> None:
    plan = Plan.open(path)
    content = plan.member("segments/encoder:AERIAL_RGBI.onnx")
    plan.close()
    assert bytes(content).startswith(b"graph of encoder:AERIAL_RGBI;")
    with pytest.raises(PlanError, match="is closed"):
        plan.member("segments/encoder:AERIAL_RGBI.onnx")
    plan.close()


def test_unknown_member_names_those_there_are(path: Path) -> None:
    with Plan.open(path) as plan, pytest.raises(PlanError, match=r"no member 'x'; it has .*segments/decode"):
        plan.member("x")
    with Plan.open(path) as plan, pytest.raises(PlanError, match=r"no member 'manifest\.json'"):
        plan.member("manifest.json")


def test_a_wrong_hash_is_found_at_the_member_that_has_it(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b"logits of ALL_LABEL-LPIS", b"LOGITS of ALL_LABEL-LPIS"))
    with Plan.open(path) as plan:
        assert bytes(plan.member("check/AERIAL_LABEL-COSIA.npy")) == b"logits of AERIAL_LABEL-COSIA"
        for _ in range(2):
            with pytest.raises(PlanError, match=r"wrong hash of member check/ALL_LABEL-LPIS\.npy"):
                plan.member("check/ALL_LABEL-LPIS.npy")


def test_a_deleted_or_replaced_file_stays_readable(path: Path) -> None:
    with Plan.open(path) as plan:
        other = a_manifest((AERIAL,), (COVER,))
        write_plan(path, other, members_of(other))
        assert bytes(plan.member("check/ALL_LABEL-LPIS.npy")) == b"logits of ALL_LABEL-LPIS"
        path.unlink()
        assert bytes(plan.member("check/AERIAL_LABEL-COSIA.npy")) == b"logits of AERIAL_LABEL-COSIA"


@pytest.mark.parametrize("change", ["cut", "overwrite"])
def test_a_file_changed_in_place_is_refused(path: Path, change: str) -> None:
    with Plan.open(path) as plan:
        with path.open("r+b") as file:
            if change == "cut":
                file.truncate(100)
            else:
                file.write(b"PK")
        os.utime(path, ns=(0, 0))
        with pytest.raises(PlanError, match="was changed while it was open"):
            plan.member("check/ALL_LABEL-LPIS.npy")


def test_what_is_not_a_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 16 * 2**30 + 1)
    for name, said in [
        ("none.plan", "No such file"),
        (".", "not a regular file"),
        ("pipe", "not a regular file"),
        ("nul\0", "null"),
        ("huge", "at most 17179869184"),
    ]:
        with pytest.raises(PlanError) as refusal:
            Plan.open(tmp_path / name)
        assert said in str(refusal.value)


def test_writing_refuses_members_that_do_not_fit_the_manifest(tmp_path: Path) -> None:
    manifest = a_manifest()
    members = members_of(manifest)
    out = tmp_path / "a.plan"
    lacking = {name: content for name, content in members.items() if "decode" not in name}
    with pytest.raises(PlanError, match="needs member 'segments/decode"):
        write_plan(out, manifest, lacking)
    with pytest.raises(PlanError, match="leave it out"):
        write_plan(out, manifest, {**members, "manifest.json": b"{}"})
    with pytest.raises(PlanError, match="absolute path"):
        write_plan(out, manifest, {**members, "/etc/passwd": b""})
    listed = manifest.model_copy(update={"members": {"x": Member(size=1, sha256="0" * 64)}})
    with pytest.raises(PlanError, match="leave its list empty"):
        write_plan(out, listed, members)
    with pytest.raises(PlanError, match="cannot be written: No such file"):
        write_plan(out, manifest, {**members, "x": tmp_path / "missing"})
    with pytest.raises(PlanError, match="cannot be written"):
        write_plan(tmp_path / "no" / "folder.plan", manifest, members)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_keeps_the_old_plan_and_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()
    source = path.parent / "source"
    source.write_bytes(b"first")
    manifest = a_manifest()

    honest = plan_module.sums

    def change_afterwards(given: bytes | memoryview | Path) -> tuple[int, int, str]:
        found = honest(given)
        if given == source:
            source.write_bytes(b"other")
        return found

    monkeypatch.setattr(plan_module, "sums", change_afterwards)
    with pytest.raises(PlanError, match="changed while"):
        write_plan(path, manifest, {**members_of(manifest), "x": source})
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["a.plan", "source"]


def test_a_new_plan_is_readable_by_whom_the_user_lets(path: Path) -> None:
    old = os.umask(0o022)
    try:
        manifest = a_manifest()
        write_plan(path.with_name("b.plan"), manifest, members_of(manifest))
    finally:
        os.umask(old)
    assert path.with_name("b.plan").stat().st_mode & 0o777 == 0o644
