"""The bytes of a plan: its layout, and that other programs read it."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.errors import PlanError
from uperfuse.engine.plan import Plan, container, write_plan
from uperfuse.engine.plan.container import ALIGNMENT, MANIFEST, directory, place, read_entries

from ...fixtures.hostile_archive import Part, archive
from .examples import a_manifest, members_of

_PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:+\-]{0,20}", fullmatch=True)
_NAMES = st.lists(_PART, min_size=1, max_size=3).map("/".join).filter(lambda name: name[1:2] != ":")
_MEMBERS = st.dictionaries(_NAMES, st.binary(max_size=200), max_size=8)


def _archive_of(members: dict[str, bytes]) -> bytes:
    entries = place([(name, len(content), zlib.crc32(content)) for name, content in members.items()])
    return b"".join(entry.header() + members[entry.name] for entry in entries) + directory(entries)


@given(_MEMBERS)
def test_any_members_are_laid_out_aligned_and_found_again(members: dict[str, bytes]) -> None:
    members[MANIFEST] = b"{}"
    made = _archive_of(members)
    entries = read_entries(memoryview(made))
    assert {entry.name: made[entry.offset : entry.stop] for entry in entries} == members
    assert all(entry.offset % ALIGNMENT == 0 for entry in entries)
    assert [entry.name for entry in entries] == [MANIFEST, *sorted(set(members) - {MANIFEST})]


def test_the_writer_makes_the_bytes_that_the_specification_asks_for(tmp_path: Path) -> None:
    manifest = a_manifest()
    members = members_of(manifest)
    path = tmp_path / "a.plan"
    write_plan(path, manifest, members)
    with zipfile.ZipFile(path) as opened:
        written = opened.read(MANIFEST)
    parts = [Part(MANIFEST.encode(), written), *(Part(name.encode(), members[name]) for name in sorted(members))]
    assert path.read_bytes() == archive(parts)


def test_zipfile_and_unzip_list_and_test_it(tmp_path: Path) -> None:
    manifest = a_manifest()
    members = members_of(manifest)
    path = tmp_path / "a.plan"
    write_plan(path, manifest, members)
    with zipfile.ZipFile(path) as opened:
        assert opened.testzip() is None
        assert {name: opened.read(name) for name in opened.namelist() if name != MANIFEST} == members
        assert {info.compress_type for info in opened.infolist()} == {zipfile.ZIP_STORED}
    if shutil.which("unzip") is None:
        pytest.skip("unzip is not installed; zipfile has read the plan")
    listed = subprocess.run(["unzip", "-l", str(path)], capture_output=True, text=True, check=True)
    tested = subprocess.run(["unzip", "-tq", str(path)], capture_output=True, text=True, check=True)
    assert all(name in listed.stdout for name in members)
    assert "No errors detected" in tested.stdout
    assert listed.stderr == tested.stderr == ""


def test_members_map_as_arrays_without_a_copy(tmp_path: Path) -> None:
    values = np.arange(1000, dtype="<f4")
    path = tmp_path / "a.plan"
    manifest = a_manifest()
    write_plan(path, manifest, members_of(manifest, extra={"x/odd": b"odd", "x/values": values.tobytes()}))
    with Plan.open(path) as plan:
        content = plan.member("x/values")
        mapped = np.frombuffer(content, dtype="<f4")
        assert mapped.ctypes.data % ALIGNMENT == 0
        assert content.readonly
        assert not mapped.flags.writeable
        assert np.array_equal(mapped, values)
        assert np.shares_memory(mapped, np.frombuffer(plan.member("x/values"), dtype="<f4"))


def test_far_offsets_use_zip64_and_other_programs_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered from 4 GiB to 1 kB: members and directory behind it need ZIP64 fields."""
    members = {MANIFEST: b"{}", "a": b"a" * 5000, "b": b"b" * 10, "c": b"c"}
    near = _archive_of(members)
    monkeypatch.setattr(container, "_FAR", 1000)
    far = _archive_of(members)
    assert len(far) == len(near) + 2 * 12 + 76
    entries = read_entries(memoryview(far))
    assert {entry.name: far[entry.offset : entry.stop] for entry in entries} == members
    path = tmp_path / "far.zip"
    path.write_bytes(far)
    with zipfile.ZipFile(path) as opened:
        assert {name: opened.read(name) for name in opened.namelist()} == members


def test_offsets_beyond_4_gib_stand_in_zip64_fields() -> None:
    sizes = [(MANIFEST, 10, 1), ("a", 3 * 2**30, 2), ("b", 3 * 2**30, 3), ("c", 7, 4)]
    entries = place(sizes)
    assert [entry.start > 0xFFFFFFFF for entry in entries] == [False, False, False, True]
    made = directory(entries)
    assert entries[-1].start.to_bytes(8, "little") in made
    assert made[-22 - 20 : -22 - 16] == b"PK\x06\x07"
    assert made[-6:-2] == b"\xff\xff\xff\xff"


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("a", 1, 0)], "no manifest.json"),
        ([(MANIFEST, 1, 0), ("a", 1, 0), ("a", 2, 0)], "duplicate member a"),
        ([(MANIFEST, (4 << 20) + 1, 0)], "at most 4194304"),
        ([(MANIFEST, 1, 0), ("a", 2**32 - 1, 0)], "below 4 GiB"),
        ([(MANIFEST, 1, 0), *((f"m{i}", 2**32 - 2, 0) for i in range(5))], "at most 17179869184"),
        ([(MANIFEST, 1, 0), *((f"m{i}", 0, 0) for i in range(2048))], "2049 members"),
        ([(MANIFEST, 1, 0), ("../a", 1, 0)], "'..'"),
        ([(MANIFEST, 1, 0), ("é", 1, 0)], "not ASCII"),
        ([(MANIFEST, 1, 0), ("\ud800", 1, 0)], "not ASCII"),
    ],
)
def test_the_writer_refuses_what_the_reader_would(members: list[tuple[str, int, int]], said: str) -> None:
    with pytest.raises(PlanError) as refusal:
        place(members)
    assert said in str(refusal.value)
