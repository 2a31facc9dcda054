"""A plan whose segments have weights in common: what it says of them, and which members a graph is put together of."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.engine.plan.examples import AERIAL, DEM, a_manifest, members_of, with_payloads
from tests.engine.plan.test_geometries import sized
from uperfuse.engine import Plan
from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.plan import write_plan

SHARING, LENDER = f"encoder:{DEM}", f"encoder:{AERIAL}"


def lent(manifest: Manifest) -> Manifest:
    """The manifest with elevation's encoder sharing the aerial image's."""
    segments = tuple(
        each.model_copy(update={"lender": LENDER}) if each.name == SHARING else each for each in manifest.segments
    )
    return manifest.model_copy(update={"schema_version": 4, "segments": segments})


def stored(path: Path) -> dict[str, object]:
    """The manifest as it lies in the file."""
    with zipfile.ZipFile(path) as archive:
        tree: dict[str, object] = json.loads(archive.read("manifest.json"))
    return tree


@pytest.mark.parametrize("payloads", [False, True], ids=["bare", "with-payloads"])
def test_a_lender_is_said_in_a_schema_of_its_own(tmp_path: Path, payloads: bool) -> None:
    manifest = lent(with_payloads(a_manifest()) if payloads else a_manifest())
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    tree = stored(tmp_path / "a.plan")
    assert tree["schema_version"] == 4
    assert [each["lender"] for each in tree["segments"] if each["name"] == SHARING] == [LENDER]
    with Plan.open(tmp_path / "a.plan") as plan:
        assert plan.manifest.model_copy(update={"members": {}}) == manifest
        lender = plan.manifest.segment(LENDER).member
        others = [each.name for each in plan.manifest.segments if each.name != SHARING]
        assert plan.lenders(SHARING) == (lender,)
        assert {plan.lenders(name) for name in others} == {()}
        assert plan.graph_hash(SHARING).split("+")[1:] == [plan.manifest.members[lender].sha256]


def test_tiles_of_another_side_borrow_from_their_own_segment_and_then_from_its_lender(tmp_path: Path) -> None:
    manifest = sized(lent(a_manifest())).model_copy(update={"schema_version": 4})
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    with Plan.open(tmp_path / "a.plan") as own, Plan.open(tmp_path / "a.plan", tile_px=96) as other:
        members = {segment.name: segment.member for segment in own.manifest.segments}
        assert other.lenders(LENDER) == (members[LENDER],)
        assert other.lenders(SHARING) == (members[SHARING], members[LENDER])
        assert len(set(other.graph_hash(SHARING).split("+"))) == 3
        # it is a plan by itself, and says that it shares
        assert (other.manifest.schema_version, other.manifest.lenders) == (4, {SHARING: LENDER})
        assert Manifest.model_validate(other.manifest.model_dump()) == other.manifest


@pytest.mark.parametrize("sides", [False, True], ids=["one-side", "two-sides"])
def test_plans_without_lenders_are_written_as_before(tmp_path: Path, sides: bool) -> None:
    manifest = sized(a_manifest()) if sides else a_manifest()
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    tree = stored(tmp_path / "a.plan")
    assert tree["schema_version"] == (3 if sides else 1)
    assert "lender" not in json.dumps(tree)
    # a copy in memory that says another schema makes the same file
    write_plan(tmp_path / "b.plan", manifest.model_copy(update={"schema_version": 4}), members_of(manifest))
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()
