"""Compiled graphs are kept between loads, per plan, within bounds, and never needed."""

from __future__ import annotations

import os

import pytest

from uperfuse.engine import Engine
from uperfuse.engine.backends.cpu.graph_cache import open_cache, trim_cache


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "uperfuse" / "openvino"


def test_a_plan_compiles_once(plans, root):
    path = plans("series")[0]
    for _ in range(2):
        with Engine.load(path) as engine:
            assert all(result.passed for result in engine.verify())
        kept = {file: file.stat().st_ino for file in root.rglob("*.blob")}
        assert kept
    assert {file: file.stat().st_ino for file in root.rglob("*.blob")} == kept
    assert len(list(root.iterdir())) == 1


def test_spoilt_graphs_are_compiled_anew(plans, root):
    path = plans("series")[0]
    Engine.load(path).close()
    for file in root.rglob("*.blob"):
        file.chmod(0o600)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with Engine.load(path) as engine:
        assert all(result.passed for result in engine.verify())


@pytest.mark.parametrize("how", ["file", "home"])
def test_a_cache_that_cannot_be_written_is_done_without(plans, tmp_path, monkeypatch, how):
    if how == "file":
        (tmp_path / "taken").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "taken"))
    else:

        def lost(*_):
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr("pathlib.Path.home", lost)
    with Engine.load(plans("series")[0]) as engine:
        assert "compiled at every load: the cache folder cannot be written" in engine.describe()
        assert all(result.passed for result in engine.verify())


def test_plans_do_not_share_a_folder_unless_their_graphs_are_the_same(plans, root):
    folders = set()
    for name in ("series", "aerial"):
        with Engine.load(plans(name)[0]) as engine:
            folders.add(open_cache(engine.plan))
            engine.plan.manifest = engine.manifest.model_copy(update={"name": "other"})
            assert open_cache(engine.plan) in folders
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {root}


def test_the_least_recently_used_graphs_go_first(root):
    for age, name in enumerate(("new", "middle", "old", "oldest")):
        (root / name).mkdir(parents=True)
        (root / name / "graph.blob").write_bytes(b"x" * 100_000)
        os.utime(root / name, (1e9 - age, 1e9 - age))
    (root / "stray.blob").write_bytes(b"x" * 100_000)
    os.utime(root / "stray.blob", (1e8, 1e8))
    trim_cache(keep=root / "oldest", max_bytes=350_000)
    assert sorted(entry.name for entry in root.iterdir()) == ["middle", "new", "oldest"]
    trim_cache(keep=root / "oldest", max_bytes=10)
    assert [entry.name for entry in root.iterdir()] == ["oldest"]
