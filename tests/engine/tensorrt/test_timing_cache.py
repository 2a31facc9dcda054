"""Timings are kept per machine and version, pinned by their hash, and never trusted beyond it."""

from __future__ import annotations

import hashlib
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine.tensorrt.timing_cache import KEPT, Timings, keep_timings, read_timings

ORIN, H100 = "Orin (nvgpu)", "NVIDIA H100 80GB HBM3"
VERSION = "tensorrt-10.3.0"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "uperfuse" / "tensorrt"


def test_what_is_kept_is_read(folder):
    assert read_timings(ORIN, version=VERSION) == Timings()
    kept = keep_timings(b"timings", machine=ORIN, version=VERSION)
    assert kept == Timings(b"timings", hashlib.sha256(b"timings").hexdigest())
    assert read_timings(ORIN, version=VERSION) == kept
    (file,) = folder.iterdir()
    assert file.name.startswith("Orin_nvgpu_-tensorrt-10_3_0-")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize(("machine", "version"), [(H100, VERSION), (ORIN, "tensorrt-10.9.0"), ("Orin_nvgpu_", VERSION)])
def test_machines_and_versions_do_not_share(folder, machine, version):
    keep_timings(b"timings", machine=ORIN, version=VERSION)
    assert read_timings(machine, version=version) == Timings()


def test_the_newest_is_read_unless_one_is_pinned(folder):
    kept = [keep_timings(bytes([number]), machine=ORIN, version=VERSION) for number in range(3)]
    for age, one in enumerate(reversed(kept)):
        (file,) = folder.glob(f"*{one.sha256}*")
        os.utime(file, (1e9 - age, 1e9 - age))
    assert read_timings(ORIN, version=VERSION) == kept[2]
    for one in kept:
        assert read_timings(ORIN, version=VERSION, pinned=one.sha256) == one
    assert read_timings(ORIN, version=VERSION, pinned="0" * 64) == Timings()


@pytest.mark.parametrize("how", ["changed", "cut short", "empty"])
def test_a_file_that_is_not_what_its_name_says_is_not_used(folder, how):
    older = keep_timings(b"older", machine=ORIN, version=VERSION)
    (file,) = folder.iterdir()
    os.utime(file, (1e9, 1e9))
    newer = keep_timings(b"newer timings", machine=ORIN, version=VERSION)
    (file,) = folder.glob(f"*{newer.sha256}*")
    file.write_bytes({"changed": b"newer Timings", "cut short": b"newer", "empty": b""}[how])
    read = read_timings(ORIN, version=VERSION)
    assert (read.data, read.sha256) == (b"older", older.sha256)
    (note,) = read.notes
    assert newer.sha256 in note
    assert "something else than their name says and were not used; delete them" in note
    file.unlink()
    assert read_timings(ORIN, version=VERSION) == older


def test_a_few_are_kept_and_strangers_stay(folder):
    keep_timings(b"of another", machine=H100, version=VERSION)
    (folder / "notes.txt").write_text("mine")
    kept = [keep_timings(bytes([number]), machine=ORIN, version=VERSION) for number in range(KEPT + 3)]
    names = {file.name for file in folder.iterdir()}
    assert len(names) == KEPT + 2
    assert "notes.txt" in names
    assert any(kept[-1].sha256 in name for name in names)
    assert read_timings(H100, version=VERSION).data == b"of another"


@pytest.mark.parametrize("how", ["file", "no home"])
def test_where_nothing_can_be_kept_the_hash_is_known_all_the_same(tmp_path, monkeypatch, how):
    if how == "file":
        (tmp_path / "taken").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    else:

        def lost(*_):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr("pathlib.Path.home", lost)
    kept = keep_timings(b"timings", machine=ORIN, version=VERSION)
    assert kept.sha256 == hashlib.sha256(b"timings").hexdigest()
    assert "timings are not kept for the next build" in kept.notes[0]
    assert read_timings(ORIN, version=VERSION).data is None


def test_a_write_that_fails_leaves_nothing_behind(folder, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    kept = keep_timings(b"timings", machine=ORIN, version=VERSION)
    assert kept.notes == ("timings are not kept for the next build: No space left on device",)
    assert list(folder.iterdir()) == []


@given(machine=st.text(max_size=40), version=st.text(max_size=20), data=st.binary(min_size=1, max_size=40))
def test_any_name_of_a_machine_makes_a_file_in_the_folder(tmp_path_factory, machine, version, data):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        keep_timings(data, machine=machine, version=version)
        assert read_timings(machine, version=version).data == data
    assert [path.parent for path in folder.rglob("*.timing")] == [folder / "uperfuse" / "tensorrt"]
