"""Payloads in a manifest: what is sound comes back, and what does not fit the plan or itself is refused."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from uperfuse.engine.errors import PlanError
from uperfuse.engine.plan import Manifest, Plan, write_plan
from uperfuse.engine.plan.manifest import PAYLOADS

from .examples import AERIAL, COVER, CROPS, DEM, S1, S2, a_manifest, members_of, with_payloads

_NETWORKS = [(AERIAL,), (DEM,), (AERIAL, DEM), (AERIAL, DEM, S2, S1), (S2,), (S2, S1)]


def _tree(modalities: tuple[str, ...] = (AERIAL, DEM, S2)) -> dict[str, Any]:
    tree: dict[str, Any] = json.loads(with_payloads(a_manifest(modalities)).model_dump_json())
    return tree


def _refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refusal:
        Manifest.model_validate_json(json.dumps(tree), strict=True)
    return str(refusal.value)


@pytest.mark.parametrize("modalities", _NETWORKS, ids="-".join)
def test_payloads_are_read_as_they_were_written(tmp_path: Path, modalities: tuple[str, ...]) -> None:
    manifest = with_payloads(a_manifest(modalities))
    assert Manifest.model_validate_json(manifest.model_dump_json(), strict=True) == manifest
    members = members_of(manifest)
    write_plan(tmp_path / "a.plan", manifest, members)
    with Plan.open(tmp_path / "a.plan") as plan:
        assert plan.manifest.model_copy(update={"members": {}}) == manifest
        assert {name: bytes(plan.member(name)) for name in members} == members
        for engine in plan.manifest.engines:
            assert {part.name for part in engine.parts} == set(plan.manifest.parts_of(cut=engine.cut))


def test_a_plan_is_of_the_second_schema_where_it_has_payloads_and_only_there(tmp_path: Path) -> None:
    bare = a_manifest()
    full = with_payloads(bare)
    for name, manifest in (("bare", bare), ("full", full)):
        write_plan(tmp_path / name, manifest, members_of(manifest))
        with zipfile.ZipFile(tmp_path / name) as archive:
            tree = json.loads(archive.read("manifest.json"))
        assert tree["schema_version"] == (2 if manifest.has_payloads else 1)
        assert set(PAYLOADS) & set(tree) == (set(PAYLOADS) if manifest.has_payloads else set())
    # whatever a copy in memory says
    stripped = full.model_copy(update=dict.fromkeys(("engines", "kernels", "attention"), ()) | {"quantised": None})
    write_plan(tmp_path / "stripped", stripped, members_of(bare))
    assert (tmp_path / "stripped").read_bytes() == (tmp_path / "bare").read_bytes()
    added = bare.model_copy(update={name: getattr(full, name) for name in PAYLOADS})
    write_plan(tmp_path / "added", added, members_of(full))
    assert (tmp_path / "added").read_bytes() == (tmp_path / "full").read_bytes()


def test_every_member_of_a_payload_is_needed(tmp_path: Path) -> None:
    manifest = with_payloads(a_manifest((AERIAL, S2), (COVER,)))
    members = members_of(manifest)
    for name, user in manifest.members_used().items():
        with pytest.raises(PlanError) as refusal:
            write_plan(tmp_path / "a.plan", manifest, {other: members[other] for other in members if other != name})
        assert f"{user} needs member '{name}'" in str(refusal.value)


def test_profiles_are_counted_by_batch_and_within_it_by_dates() -> None:
    payload = with_payloads(a_manifest()).engines[0]
    spatial, temporal = payload.part(f"spatial:{S2}"), payload.part(f"temporal:{S2}")
    assert (spatial.has_dates, temporal.has_dates) == (True, False)
    order = [(batch, dates) for batch in payload.batches for dates in payload.dates]
    assert [payload.profile(spatial, batch=batch, dates=dates) for batch, dates in order] == list(range(4))
    assert [payload.profile(temporal, batch=batch) for batch in payload.batches] == [0, 1]
    assert payload.profile(temporal, batch=4, dates=16) == 1
    for part, batch, dates, said in [
        (spatial, 1, 17, r"asked for 1 tiles of 17 dates, built for \[1, 4\] tiles of \[16, 32\] dates"),
        (spatial, 4, None, "asked for 4 tiles of None dates"),
        (temporal, 2, 16, r"asked for 2 tiles, built for \[1, 4\] tiles$"),
    ]:
        with pytest.raises(ValueError, match=said):
            payload.profile(part, batch=batch, dates=dates)


# where -> new value, and what the refusal says; engines are 0: cut, for a board; 1: whole, RTX; 2: cut, 8 bits
_BOARD = ("engines", 0)
_CHANGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("schema_version",), 1, "is of schema 2, and this one says 1"),
    (("engines", 1, "target"), "sm_87-tensorrt-10.3.0-fp16", "engine target sm_87-tensorrt-10.3.0-fp16 occurs more"),
    ((*_BOARD, "target"), "../evil", "String should match"),
    ((*_BOARD, "target"), "other", "is expected in tensorrt/other/"),
    ((*_BOARD, "flavour"), "tensorrt_lean", "'tensorrt' or 'tensorrt_rtx'"),
    ((*_BOARD, "version"), "10", "String should match"),
    ((*_BOARD, "version"), "10.3.0; rm", "String should match"),
    ((*_BOARD, "capability"), None, "does not say for which capability"),
    ((*_BOARD, "capability"), 8.7, "valid integer"),
    ((*_BOARD, "capability"), 7, "greater than or equal to 50"),
    ((*_BOARD, "precision"), "float16", "'float32', 'fp16', 'bf16', 'int8' or 'fp8'"),
    ((*_BOARD, "precision"), "bf16", "of precision bf16 has float16 maps, not bfloat16"),
    (("engines", 2, "precision"), "float32", "lists layers that stayed in floating point"),
    (("engines", 1, "precision"), "int8", "of precision int8 has float32 maps, not float16 or bfloat16"),
    ((*_BOARD, "float_layers"), ["stem"], "of precision fp16 lists layers that stayed in floating point"),
    ((*_BOARD, "batches"), [], "at least 1 item"),
    ((*_BOARD, "batches"), [4, 1], "batches of sm_87-tensorrt-10.3.0-fp16 are [4, 1]; they must rise"),
    ((*_BOARD, "batches"), [1, 1], "they must rise"),
    ((*_BOARD, "batches"), [0], "greater than or equal to 1"),
    ((*_BOARD, "dates"), [], "has numbers of dates () for 1 series"),
    ((*_BOARD, "dates"), [32, 16], "dates of sm_87-tensorrt-10.3.0-fp16 are [32, 16]"),
    ((*_BOARD, "dates"), [5000], "less than or equal to 4096"),
    ((*_BOARD, "dates"), list(range(1, 18)), "at most 16 items"),
    ((*_BOARD, "cut"), False, "has the parts ["),
    (("engines", 1, "cut"), True, "has the parts ["),
    ((*_BOARD, "timing_cache"), "0" * 63, "String should match"),
    ((*_BOARD, "verified", "agreement"), [], "at least 1 item"),
    ((*_BOARD, "verified", "agreement", 0, "task"), "OTHER", "agreement of sm_87-tensorrt-10.3.0-fp16 covers"),
    ((*_BOARD, "verified", "agreement", 1, "task"), COVER, "agreement of sm_87-tensorrt-10.3.0-fp16 covers"),
    ((*_BOARD, "verified", "agreement", 0, "argmax_equal"), 1.01, "less than or equal to 1"),
    ((*_BOARD, "verified", "agreement", 0, "miou"), 101, "less than or equal to 100"),
    ((*_BOARD, "verified", "agreement", 0, "relative_error"), -1, "greater than or equal to 0"),
    ((*_BOARD, "verified", "machine"), "a\nb", "String should match"),
    ((*_BOARD, "surprise"), 1, "Extra inputs are not permitted"),
    ((*_BOARD, "parts"), [], "at least 1 item"),
    ((*_BOARD, "parts", 0, "name"), "encoder:OTHER", "has the parts ["),
    ((*_BOARD, "parts", 1, "name"), f"encoder:{AERIAL}", "has a part twice"),
    ((*_BOARD, "parts", 0, "name"), f"absent:{AERIAL}", "String should match"),
    ((*_BOARD, "parts", 0, "member"), f"segments/encoder:{AERIAL}.onnx", "which segment encoder:AERIAL_RGBI has"),
    ((*_BOARD, "parts", 0, "member"), "tensorrt/x.engine", "is expected in tensorrt/sm_87-tensorrt-10.3.0-fp16/"),
    ((*_BOARD, "parts", 0, "inputs"), [], "at least 1 item"),
    ((*_BOARD, "parts", 0, "inputs", 0, "name"), "level0", "two doors of one name"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["B", "T", "T"], "B comes first, T may come second"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["T", "B"], "B comes first, T may come second"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["B", "B"], "B comes first, T may come second"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["B"], "at least 2 items"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["B", 0], "greater than or equal to 1"),
    ((*_BOARD, "parts", 0, "inputs", 0, "shape"), ["B", 2**20], "less than or equal to 65536"),
    ((*_BOARD, "parts", 0, "inputs", 0, "dtype"), "int8", "'float32', 'float16' or 'bfloat16'"),
    (("kernels", 1, "capability"), 87, "architecture 87 occurs more than once"),
    (("kernels", 0, "capability"), 86, "is expected in kernels/sm_86/"),
    (("kernels", 0, "kernels"), [], "at least 1 item"),
    (("kernels", 0, "kernels", 0, "ptx"), "kernels/sm_87/classify.fp32.cubin", "which a kernel of sm_87 has already"),
    (("kernels", 0, "kernels", 0, "cubin"), "kernels/sm_90/classify.fp32.cubin", "a kernel of sm_90 needs member"),
    (("attention", 0, "series"), AERIAL, "attention of AERIAL_RGBI, no series of the plan"),
    (("attention",), [], "is cut, and the attention of some series is missing"),
    (("attention", 0, "period"), 0.0, "greater than 0"),
    (("attention", 0, "embed"), f"attention/{S2}/score.npy", f"the attention of {S2} needs member"),
    (("quantised", "segments"), {}, "at least 1 item"),
    (("quantised", "segments"), {"encoder:OTHER": "x"}, "quantised segments ['encoder:OTHER'] are none of the plan's"),
    (("quantised", "segments"), {f"encoder:{AERIAL}": f"check/{COVER}.npy"}, "which the check of AERIAL_LABEL-COSIA"),
    (("quantised", "agreement", 0, "task"), CROPS, "agreement of the quantised segments covers"),
    (("quantised", "max_miou_drop"), -0.1, "greater than or equal to 0"),
    (("segments", 0, "outputs", 0, "shape"), ["B", 0, 16, 16], "greater than or equal to 1"),
]


@pytest.mark.parametrize(("where", "value", "said"), _CHANGES, ids=[".".join(map(str, c[0])) for c in _CHANGES])
def test_parts_that_do_not_agree_are_refused(where: tuple[str | int, ...], value: Any, said: str) -> None:
    tree = _tree()
    inner: Any = tree
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert said in _refused(tree)


def test_what_belongs_to_series_is_refused_without_them() -> None:
    tree = _tree((AERIAL,))
    tree["engines"][0]["dates"] = [16]
    assert "has numbers of dates (16,) for 0 series" in _refused(tree)
    tree = _tree((AERIAL,))
    tree["engines"][0]["cut"] = True
    assert "is cut, and the plan has no series" in _refused(tree)


def test_a_second_schema_without_payloads_is_refused() -> None:
    tree = json.loads(a_manifest().model_dump_json()) | {"schema_version": 2}
    assert "a plan with no payloads is of schema 1, and this one says 2" in _refused(tree)


# sizes that no other part of the manifest knows: widths in front of and behind the attention
_FREE = {("spatial", "features"), ("temporal", "context")}


def _spoilt(part: dict[str, Any], doors: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The doors of one side of a part with one thing changed, in every way."""
    for place, door in enumerate(doors):
        before, behind, shape = doors[:place], doors[place + 1 :], door["shape"]
        free = (part["name"].split(":")[0], door["name"]) in _FREE
        for axis, extent in enumerate(shape[: -1 if free else None]):
            other = extent + 1 if isinstance(extent, int) else 3
            yield [*before, {**door, "shape": [*shape[:axis], other, *shape[axis + 1 :]]}, *behind]
        yield [*before, {**door, "shape": [*shape, 1] if len(shape) < 5 else shape[:-1]}, *behind]
        yield [*before, {**door, "name": "other"}, *behind]
        yield [*before, {**door, "dtype": "float16" if door["dtype"] == "float32" else "float32"}, *behind]
        yield [*before, *behind]
        yield [*before, door, {**door, "name": "other"}, *behind]
        if behind:
            yield [*before, behind[0], door, *behind[1:]]


@pytest.mark.parametrize("modalities", [(AERIAL, DEM, S2), (S2, S1)], ids="-".join)
def test_no_door_can_be_changed_dropped_added_or_moved(modalities: tuple[str, ...]) -> None:
    tree = _tree(modalities)
    tried = 0
    for part in (part for engine in tree["engines"][:2] for part in engine["parts"]):
        for side in ("inputs", "outputs"):
            kept = part[side]
            for spoilt in _spoilt(part, kept):
                part[side] = spoilt
                said = _refused(tree)
                assert part["name"].split(":")[1] in said or "maps, not" in said or f".{side}" in said, said
                tried += 1
            part[side] = kept
    assert tried > 200
    Manifest.model_validate_json(json.dumps(tree), strict=True)


def test_inner_sizes_may_change_together() -> None:
    """The maps in front of the attention are the encoder's own; what the kernels make of them has their size."""
    tree = _tree((AERIAL, S2))
    for engine in (tree["engines"][0], tree["engines"][2]):
        parts = {part["name"]: part for part in engine["parts"]}
        parts[f"spatial:{S2}"]["outputs"][1]["shape"] = ["B", "T", 5, 7, 99]
        parts[f"temporal:{S2}"]["inputs"][2]["shape"] = ["B", 5, 7, 99]
        parts[f"spatial:{S2}"]["outputs"][2]["shape"] = ["B", "T", 5, 7, 64]
        parts[f"temporal:{S2}"]["inputs"][0]["shape"] = ["B", 5, 7, 256]
    Manifest.model_validate_json(json.dumps(tree), strict=True)


def test_pixels_are_as_fine_as_their_digital_numbers() -> None:
    """Pixels of an image are as short as products, unless its digital numbers are float32."""
    manifest = with_payloads(a_manifest((AERIAL, DEM)))
    pixels = {part.name: part.inputs[0].dtype for part in manifest.engines[0].parts if part.role == "encoder"}
    assert pixels == {f"encoder:{AERIAL}": "float16", f"encoder:{DEM}": "float32"}
