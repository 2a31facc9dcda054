"""A plan for tiles of several sides: what it says of each, and what it opens as."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.engine.plan.examples import AERIAL, COVER, DEM, S2, a_manifest, members_of, with_payloads
from uperfuse.engine import Plan, PlanError
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import Geometry, Resize
from uperfuse.engine.plan.plan import write_plan

SIDE = 96


def sized(manifest: Manifest, tile_px: int = SIDE) -> Manifest:
    """The manifest with tiles of another side; stand-ins are those of its own."""
    segments = tuple(
        each if each.role == "absent" else each.model_copy(update={"member": f"segments/{tile_px}/{each.name}.onnx"})
        for each in manifest.segments
    )
    geometry = Geometry(
        tiles_px={each.name: each.tile_px * tile_px // manifest.base_px for each in manifest.modalities},
        label_px=tile_px,
        logits_px=tile_px // 4,
        upsampling=(Resize(px=tile_px, align_corners=True),),
        segments=segments,
    )
    return manifest.model_copy(update={"schema_version": 3, "geometries": (*manifest.geometries, geometry)})


@pytest.mark.parametrize("payloads", [False, True], ids=["bare", "with-payloads"])
def test_a_plan_opens_for_each_of_its_sides(tmp_path: Path, payloads: bool) -> None:
    own = with_payloads(a_manifest()) if payloads else a_manifest()
    manifest = sized(sized(own), 128)
    assert manifest.tile_sides_px == (64, 96, 128)
    members = members_of(manifest)
    write_plan(tmp_path / "a.plan", manifest, members)
    with zipfile.ZipFile(tmp_path / "a.plan") as archive:
        assert json.loads(archive.read("manifest.json"))["schema_version"] == 3
    for side in (None, 64):
        with Plan.open(tmp_path / "a.plan", tile_px=side) as plan:
            assert plan.manifest.model_copy(update={"members": {}}) == manifest
            assert {plan.lenders(segment.name) for segment in plan.manifest.segments} == {()}
    with Plan.open(tmp_path / "a.plan") as plan, Plan.open(tmp_path / "a.plan", tile_px=96) as other:
        assert other.hash == plan.hash
        seen = other.manifest
        assert {each.name: each.tile_px for each in seen.modalities} == {AERIAL: 96, DEM: 96, S2: 15}
        assert (seen.base_px, seen.label_px, seen.logits_px, seen.check) == (96, 96, 24, None)
        assert not seen.has_payloads
        assert not seen.geometries
        assert Manifest.model_validate(seen.model_dump()) == seen  # it is a plan by itself
        assert seen.tasks == plan.manifest.tasks
        for segment in seen.segments:
            lender = plan.manifest.segment(segment.name).member
            assert other.lenders(segment.name) == (() if segment.role == "absent" else (lender,))
            hashes = other.graph_hash(segment.name).split("+")
            assert plan.graph_hash(segment.name) == hashes[-1]
            assert len(hashes) == (1 if segment.role == "absent" else 2)


def test_a_side_that_the_plan_does_not_have_is_refused(tmp_path: Path) -> None:
    manifest = sized(a_manifest())
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    with pytest.raises(
        PlanError, match=r"a\.plan has no tiles of 80 px, expected a side of 64, 96; choose one of them"
    ):
        Plan.open(tmp_path / "a.plan", tile_px=80)


def test_plans_of_one_side_are_written_as_before(tmp_path: Path) -> None:
    manifest = a_manifest()
    write_plan(tmp_path / "one", manifest, members_of(manifest))
    removed = sized(manifest).model_copy(update={"geometries": ()})  # a copy in memory says schema 3
    write_plan(tmp_path / "again", removed, members_of(manifest))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "again").read_bytes()
    with zipfile.ZipFile(tmp_path / "one") as archive:
        assert "geometries" not in json.loads(archive.read("manifest.json"))


def test_members_of_other_sides_are_needed_and_nobody_elses(tmp_path: Path) -> None:
    manifest = sized(a_manifest((AERIAL,), (COVER,)))
    members = members_of(manifest)
    lacking = {name: content for name, content in members.items() if "96/encoder" not in name}
    with pytest.raises(PlanError, match="segment encoder:AERIAL_RGBI for tiles of 96 px needs member"):
        write_plan(tmp_path / "a.plan", manifest, lacking)
    full = sized(with_payloads(a_manifest((AERIAL,), (COVER,))))
    taken = full.engines[0].parts[0].model_copy(update={"member": manifest.geometries[0].segments[0].member})
    engine = full.engines[0].model_copy(update={"parts": (taken, *full.engines[0].parts[1:])})
    with pytest.raises(ValueError, match="for tiles of 96 px has already"):
        Manifest.model_validate({**full.model_dump(), "schema_version": 3, "engines": (engine.model_dump(),)})
