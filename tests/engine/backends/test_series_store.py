"""Series that were encoded before are found again, and nothing else is taken for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uperfuse.engine import BackendError, Engine
from uperfuse.engine.backends.cpu.segments import CpuSession
from uperfuse.engine.check import check_tiles_of


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Series that went through the network."""
    names: list[str] = []
    encode = CpuSession.encode_series

    def counted(self, modality, *arrays):
        names.append(modality)
        return encode(self, modality, *arrays)

    monkeypatch.setattr(CpuSession, "encode_series", counted)
    return names


def tiles_of(engine: Engine, *, seed: int = 4) -> dict:
    return check_tiles_of(engine.manifest, seed=seed, dates=7)


def same(one, other) -> None:
    for name in ("labels", "confidence", "logits"):
        for task, array in getattr(one, name).items():
            np.testing.assert_array_equal(array, getattr(other, name)[task])


@pytest.mark.parametrize("name", ["all", "series"])
def test_a_window_that_comes_back_is_not_encoded_again(plans, tmp_path: Path, encoded: list[str], name: str) -> None:
    path = plans(name)[0]
    with Engine.load(path, device="cpu") as plain:
        tiles = tiles_of(plain)
        expected = plain.predict(tiles, logits=True)
    encoded.clear()
    for _ in range(2):  # of two processes, say
        with Engine.load(path, device="cpu", prime_cache=tmp_path / "primed") as engine:
            same(engine.predict(tiles, logits=True), expected)
            same(engine.predict(tiles, logits=True), expected)
    assert sorted(encoded) == sorted(m.name for m in plain.manifest.modalities if m.kind == "series")
    assert not list((tmp_path / "primed").rglob(".*"))


def test_priming_uses_it_too(plans, tmp_path: Path, encoded: list[str]) -> None:
    with Engine.load(plans("all")[0], device="cpu", prime_cache=tmp_path) as engine:
        tiles = tiles_of(engine)
        expected = engine.predict(tiles, logits=True)
        encoded.clear()
        aerial = {"AERIAL_RGBI": tiles.pop("AERIAL_RGBI")}
        same(engine.prime(tiles).predict(aerial, logits=True), expected)
    assert encoded == []


@pytest.mark.parametrize("what", ["pixel", "date", "void", "clear"])
def test_a_window_that_differs_in_anything_is_another(plans, tmp_path: Path, encoded: list[str], what: str) -> None:
    with (
        Engine.load(plans("series")[0], device="cpu", prime_cache=tmp_path) as engine,
        Engine.load(plans("series")[0], device="cpu") as plain,
    ):
        tiles = tiles_of(engine)
        engine.predict(tiles)
        encoded.clear()
        pixels, dates, voids = tiles["SENTINEL2_TS"][0].copy(), tiles["SENTINEL2_DATES"][0].copy(), None
        if what == "pixel":
            pixels[3, 2, 1, 1] += 1
        elif what == "date":
            dates[2] += 1
        elif what == "void":
            voids = np.zeros((*pixels.shape[:1], *pixels.shape[2:]), np.bool_)
            voids[1, 0, 0] = True
        else:
            pixels, dates = pixels[:-1], dates[:-1]
        changed = {**tiles, "SENTINEL2_TS": [pixels], "SENTINEL2_DATES": [dates]}
        given = None if voids is None else {"SENTINEL2_TS": [voids]}
        got = engine.predict(changed, voids=given, logits=True)
        assert encoded == ["SENTINEL2_TS"]
        same(got, plain.predict(changed, voids=given, logits=True))


def test_another_plan_is_not_served(plans, tmp_path: Path, encoded: list[str]) -> None:
    with Engine.load(plans("series")[0], device="cpu", prime_cache=tmp_path) as engine:
        tiles = tiles_of(engine)
        engine.predict(tiles)
        graph, *_ = engine._backend._steps._store._graphs.values()
    with Engine.load(plans("all")[0], device="cpu", prime_cache=tmp_path) as other:
        assert graph not in other._backend._steps._store._graphs.values()


@pytest.mark.parametrize("damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-900] + bytes(900)])
def test_what_is_damaged_is_encoded_again(plans, tmp_path: Path, encoded: list[str], damage) -> None:
    with Engine.load(plans("series")[0], device="cpu", prime_cache=tmp_path) as engine:
        tiles = tiles_of(engine)
        expected = engine.predict(tiles, logits=True)
        kept = list(tmp_path.rglob("*.npz"))
        assert len(kept) == 2
        for path in kept:
            path.write_bytes(damage(path.read_bytes()))
        encoded.clear()
        same(engine.predict(tiles, logits=True), expected)
        assert len(encoded) == 2
        same(engine.predict(tiles, logits=True), expected)
        assert len(encoded) == 2


def test_a_flipped_bit_is_found_out(plans, tmp_path: Path, encoded: list[str]) -> None:
    with Engine.load(plans("series")[0], device="cpu", prime_cache=tmp_path) as engine:
        tiles = tiles_of(engine)
        expected = engine.predict(tiles, logits=True)
        for path in tmp_path.rglob("*.npz"):
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 16
            path.write_bytes(data)
        encoded.clear()
        same(engine.predict(tiles, logits=True), expected)
    assert len(encoded) == 2


def test_a_folder_that_cannot_be_had(plans, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match=r"file/primed cannot be made: .*name a folder"):
        Engine.load(plans("series")[0], device="cpu", prime_cache=tmp_path / "file/primed")
    with pytest.raises(BackendError, match="kept on processors alone, not on cuda"):
        Engine.load(plans("series")[0], device="cuda", prime_cache=tmp_path)
    with Engine.load(plans("series")[0], prime_cache=tmp_path) as engine:
        assert engine.device == "cpu"
