"""The manifest's own rules: what one part says agrees with the others."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from uperfuse.engine.plan.manifest import Manifest
from uperfuse.engine.plan.network import Resize

from .examples import AERIAL, COVER, CROPS, DEM, S1, S2, a_manifest


def _tree(modalities: tuple[str, ...] = (AERIAL, DEM, S2), tasks: tuple[str, ...] = (COVER, CROPS)) -> dict[str, Any]:
    return copy.deepcopy(a_manifest(modalities, tasks).model_dump())


def _refused(tree: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as refusal:
        Manifest.model_validate(tree)
    return str(refusal.value)


@pytest.mark.parametrize("modalities", [(AERIAL,), (DEM,), (AERIAL, DEM), (AERIAL, S2, S1), (S2,), (S2, S1)])
def test_sound_manifests_pass_and_come_back_from_json(modalities: tuple[str, ...]) -> None:
    manifest = a_manifest(modalities)
    assert Manifest.model_validate_json(manifest.model_dump_json(), strict=True) == manifest


# where -> new value, and what the refusal says
_CHANGES: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("modalities", 0, "bands"), ("R", "R"), "band R occurs more than once"),
    (("modalities", 0, "bands"), ("NIR", "R"), "channel G of AERIAL_RGBI takes band G, not one of"),
    (("modalities", 1, "channels", 1, "minus"), "DSM2", "takes band DSM2"),
    (("modalities", 1, "channels", 1, "std"), 0.0, "greater than 0"),
    (("modalities", 1, "channels", 1, "mean"), float("nan"), "finite number"),
    (("modalities", 0, "dtype"), "float64", "Input should be 'uint8'"),
    (("modalities", 0, "tile_px"), 0, "greater than or equal to 1"),
    (("modalities", 0, "reference_day"), "05-15", "a series, and only a series, has a reference_day"),
    (("modalities", 2, "reference_day"), None, "a series, and only a series, has a reference_day"),
    (("modalities", 2, "reference_day"), "13-01", "String should match"),
    (("modalities", 0, "days_seen"), (1, 2), "an image has neither"),
    (("modalities", 2, "filter", "clear_fraction"), 1.5, "less than or equal to 1"),
    (("modalities", 1, "name"), AERIAL, "modality AERIAL_RGBI occurs more than once"),
    (("modalities", 1, "may_be_absent"), False, "differ from those needed"),
    (("modalities", 0, "may_be_absent"), True, "differ from those needed"),
    (("tasks", 1, "name"), COVER, "task AERIAL_LABEL-COSIA occurs more than once"),
    (("tasks", 1, "name"), "OTHER", "differ from those needed"),
    (("tasks", 0, "classes"), (), "at least 1 item"),
    (("tasks", 0, "classes", 0, "colour"), "#DB0E9A", "String should match"),
    (("tasks", 0, "classes", 0, "name"), "a\nb", "String should match"),
    (("segments", 0, "name"), "encode:AERIAL_RGBI", "String should match"),
    (("segments", 0, "name"), "encoder:OTHER", "differ from those needed"),
    (("segments", 1, "name"), "encoder:AERIAL_RGBI", "segment encoder:AERIAL_RGBI occurs more than once"),
    (("segments", 0, "outputs"), (), "at least 1 item"),
    (("segments", 0, "inputs", 0, "shape"), ("B", "N"), "shape"),
    (("base",), DEM, "base is DEM_ELEV; the first image modality (or first series) is AERIAL_RGBI"),
    (("fusion",), "mean", "does not go with images"),
    (("fusion",), "none", "takes one modality"),
    (("label_px",), 128, "upsampling ends at 64 px, label_px is 128"),
    (("upsampling",), (), "logits_px 16 differs from label_px 64"),
    (("check", "members"), {COVER: "x"}, "check covers"),
    (("check", "max_relative_error"), 0.0, "greater than 0"),
    (("accuracy", 0, "argmax_equal"), 1.5, "less than or equal to 1"),
    (("provenance", "checkpoint_sha256"), "0" * 63, "String should match"),
    (("schema_version",), 5, "Input should be 1, 2, 3 or 4"),
    (("surprise",), 1, "Extra inputs are not permitted"),
    (("modalities", 0, "surprise"), 1, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("where", "value", "said"), _CHANGES, ids=[".".join(map(str, c[0])) for c in _CHANGES])
def test_parts_that_do_not_agree_are_refused(where: tuple[str | int, ...], value: Any, said: str) -> None:
    tree: Any = _tree()
    inner = tree
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert said in _refused(tree)


def test_a_network_of_series_alone_averages() -> None:
    tree = _tree((S2, S1))
    tree["fusion"] = "sum"
    assert "does not go with images []" in _refused(tree)


def test_grids_and_resizes() -> None:
    manifest = a_manifest((AERIAL,))
    assert manifest.resizes(grid="label") == manifest.resizes(grid="base") == (Resize(px=64, align_corners=True),)
    assert manifest.label_gsd_m == 0.2
    series = a_manifest((S2, S1))
    assert series.resizes(grid="label") == (Resize(px=512, align_corners=False),)
    assert series.resizes(grid="base") == ()
    assert series.label_gsd_m == 0.2
    stretched = _tree((AERIAL,))
    stretched["label_px"] = 512
    stretched["upsampling"] = ({"px": 64, "align_corners": True}, {"px": 512, "align_corners": False})
    two = Manifest.model_validate(stretched)
    assert two.resizes(grid="base") == (Resize(px=64, align_corners=True),)
    assert two.resizes(grid="label")[-1] == Resize(px=512, align_corners=False)


def test_lookup_by_name() -> None:
    manifest = a_manifest()
    assert manifest.modality(S2).bands[7] == "B8A"
    assert manifest.task(COVER).classes[3].ignored
    assert (manifest.segment(f"absent:{DEM}").role, manifest.segment(f"absent:{DEM}").subject) == ("absent", DEM)
    with pytest.raises(KeyError):
        manifest.modality("OTHER")


def test_a_manifest_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_manifest().name = "other"  # type: ignore[misc]
