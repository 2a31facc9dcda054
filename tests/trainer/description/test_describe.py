"""What a plan will say is settled, or refused, before any graph is exported."""

from __future__ import annotations

import pytest

from uperfuse.engine import CheckpointError
from uperfuse.trainer.description import ExportConfig, describe_network, label_side, tile_sides, uneven_tiles
from uperfuse.trainer.export import export_network
from uperfuse.trainer.network import NetworkSpec

CHANNELS = {
    "AERIAL_RGBI": (3, 512),
    "AERIAL-RLT_PAN": (1, 256),
    "DEM_ELEV": (2, 512),
    "SPOT_RGBI": (3, 64),
    "SENTINEL2_TS": (10, 10),
    "SENTINEL1-ASC_TS": (2, 10),
    "SENTINEL1-DESC_TS": (2, 10),
}
AERIAL, HISTORICAL, ELEVATION, SPOT, OPTICAL, ASCENDING, DESCENDING = CHANNELS
RADAR = (ASCENDING, DESCENDING)
LAND_COVER, CROPS = {"AERIAL_LABEL-COSIA": 19}, {"ALL_LABEL-LPIS": 23}


def spec_of(*modalities: str, tasks=LAND_COVER, encoder="swin_tiny_patch4_window7_224") -> NetworkSpec:
    return NetworkSpec.flairhub(modalities={name: CHANNELS[name] for name in modalities}, tasks=tasks, encoder=encoder)


def describe(spec: NetworkSpec, *, name: str = "FLAIR-HUB_X", said: dict | None = None, tile_px: int | None = None):
    config = ExportConfig.model_validate(said or {})
    lines = []
    sides = tile_sides(spec, said=config.modalities, tile_px=tile_px)
    return describe_network(spec, name=name, said=config, tiles_px=sides, say=lines.append), lines


@pytest.mark.parametrize(
    ("name", "modalities", "tasks"),
    [
        ("LC-A_RGB_swinlarge-upernet", [AERIAL], LAND_COVER),
        ("LC-A_IR_convnextv2base-unet", [AERIAL], LAND_COVER),
        ("LC-B_swinbase-upernet", [AERIAL, ELEVATION], LAND_COVER),
        ("LC-D_swinbase-upernet", [AERIAL, OPTICAL], LAND_COVER),
        ("LC-F_swinbase-upernet", [AERIAL, OPTICAL, *RADAR], LAND_COVER),
        ("LC-I_swinbase-upernet", [SPOT], LAND_COVER),
        ("LC-L_swinbase-upernet", [AERIAL, ELEVATION, SPOT, OPTICAL, *RADAR], LAND_COVER),
        ("LC-ALL_swinbase-upernet", list(CHANNELS), LAND_COVER),
        ("LC-G_utae", [OPTICAL], LAND_COVER),
        ("LPIS-A_swinbase-upernet", [AERIAL], CROPS),
        ("LPIS-I_swinbase-upernet", [SPOT, OPTICAL, *RADAR], CROPS),
        ("LPIS-J_swinbase-upernet", [AERIAL, SPOT, OPTICAL, *RADAR], CROPS),
        ("MULTI-G_utae", [OPTICAL, *RADAR], LAND_COVER | CROPS),
    ],
)
def test_published_networks_need_no_configuration(name, modalities, tasks):
    described, lines = describe(spec_of(*modalities, tasks=tasks), name=f"FLAIR-HUB_{name}")
    assert lines == []
    assert described.label_px == 512
    assert {task.name: len(task.classes) for task in described.tasks} == tasks
    for modality in described.modalities:
        assert (len(modality.channels), modality.tile_px) == CHANNELS[modality.name]
        if modality.name == AERIAL:
            assert modality.bands == (("R", "G", "B") if "_RGB_" in name else ("NIR", "R", "G"))
        if modality.name == SPOT:
            assert modality.bands == ("NIR", "R", "G")
            assert modality.channels[0].mean == 1137.03


@pytest.mark.parametrize(
    ("modalities", "tile_px", "sides", "label_px"),
    [
        ([AERIAL, SPOT, OPTICAL], None, [512, 64, 10], 512),
        ([AERIAL, SPOT, OPTICAL], 384, [384, 48, 8], 384),
        ([AERIAL, SPOT, OPTICAL], 768, [768, 96, 15], 768),
        ([AERIAL, SPOT, OPTICAL], 500, [500, 62, 10], 500),
        ([AERIAL, HISTORICAL, OPTICAL], 250, [250, 125, 5], 250),
        ([SPOT, OPTICAL], 96, [96, 15], 768),
        ([OPTICAL, ASCENDING], 5, [5, 5], 256),
    ],
)
def test_other_sensors_follow_the_first(modalities, tile_px, sides, label_px):
    assert list(tile_sides(spec_of(*modalities), said={}, tile_px=tile_px).values()) == sides
    assert label_side(modalities[0], sides[0]) == label_px


def test_training_tiles_of_another_size_keep_the_ground_and_the_labels_resolution():
    said = ExportConfig.model_validate({"modalities": {AERIAL: {"tile_px": 768}}}).modalities
    spec = spec_of(AERIAL, SPOT, OPTICAL)
    assert tile_sides(spec, said=said, tile_px=None) == {AERIAL: 768, SPOT: 96, OPTICAL: 15}
    assert tile_sides(spec, said=said, tile_px=512) == {AERIAL: 512, SPOT: 64, OPTICAL: 10}
    assert label_side(AERIAL, 768) == 768
    own = ExportConfig.model_validate({"modalities": {AERIAL: {"tile_px": 256}, OPTICAL: {"tile_px": 6}}}).modalities
    assert tile_sides(spec, said=own, tile_px=512) == {AERIAL: 512, SPOT: 64, OPTICAL: 12}


@pytest.mark.parametrize(
    ("tile_px", "message"),
    [
        (0, "a tile of AERIAL_RGBI has 0 px a side, expected 1 to 4096"),
        (-4, "has -4 px a side"),
        (20_000, "has 20000 px a side, expected 1 to 4096"),
        (
            64,
            "64 px of AERIAL_RGBI covers 1 px of SENTINEL2_TS, of which it takes at least 2; choose a larger one",
        ),
    ],
)
def test_tiles_that_cannot_work_are_refused(tile_px, message):
    with pytest.raises(CheckpointError, match=message):
        tile_sides(spec_of(AERIAL, OPTICAL), said={}, tile_px=tile_px)


def test_convolutions_without_padding_need_a_pixel_at_the_coarsest_level():
    spec = spec_of(AERIAL, SPOT, encoder="convnextv2_tiny")
    assert tile_sides(spec, said={}, tile_px=256) == {AERIAL: 256, SPOT: 32}
    with pytest.raises(
        CheckpointError, match=r"covers 31 px of SPOT_RGBI, of which it takes at least 32; .* of 259 px"
    ):
        tile_sides(spec, said={}, tile_px=250)
    lines = list(uneven_tiles(spec, {AERIAL: 260, SPOT: 32}))
    assert lines == ["AERIAL_RGBI: tiles of 260 px are cropped inside the network; 256 or 288 px would not be"]


def test_maps_beyond_the_format_are_refused():
    with pytest.raises(CheckpointError, match="have 32768 px a side, expected 1 to 16384"):
        label_side(SPOT, 4096)


def test_tiles_that_are_padded_are_named():
    spec = spec_of(AERIAL, SPOT)
    assert list(uneven_tiles(spec, {AERIAL: 512, SPOT: 64})) == []
    assert list(uneven_tiles(spec, {AERIAL: 500, SPOT: 12})) == [
        "AERIAL_RGBI: tiles of 500 px are padded inside the network; 480 or 512 px would not be",
        "SPOT_RGBI: tiles of 12 px are padded inside the network; 32 px would not be",
    ]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"modalities": {"AERIAL_RGB": {}}}, "modalities in the YAML file hold AERIAL_RGB, the checkpoint has AERIAL"),
        ({"tasks": {"LC": {"classes": []}}}, "tasks in the YAML file hold LC, the checkpoint has AERIAL_LABEL-COSIA"),
        ({"modalities": {AERIAL: {"statistics": {"IR": [1, 2]}}}}, "AERIAL_RGBI name IR, its channels are NIR, R, G"),
        ({"modalities": {AERIAL: {"bands": ["R", "R", "B"]}}}, "AERIAL_RGBI does not fit a plan: .*band R occurs more"),
        ({"modalities": {AERIAL: {"bands": ["R", "G", ""]}}}, "AERIAL_RGBI does not fit a plan: bands.2"),
        ({"modalities": {AERIAL: {"reference_day": "05-15"}}}, "a series, and only a series, has a reference_day"),
        ({"modalities": {OPTICAL: {"reference_day": "15-05"}}}, "SENTINEL2_TS does not fit a plan: reference_day"),
        ({"modalities": {AERIAL: {"filter": {}}}}, "an image has neither days_seen nor filter"),
    ],
)
def test_words_that_do_not_fit_are_refused(said, message):
    with pytest.raises(CheckpointError, match=message):
        describe(spec_of(AERIAL, OPTICAL), said=said)


@pytest.mark.parametrize("name", ["", "two\nlines", "n" * 201])
def test_names_that_do_not_fit_are_refused(name):
    with pytest.raises(CheckpointError, match="does not fit a plan; use 1 to 200 printable characters"):
        describe(spec_of(OPTICAL), name=name)


def test_bands_without_statistics_are_named():
    _, lines = describe(spec_of(AERIAL), said={"modalities": {AERIAL: {"bands": ["NIR", "SWIR", "G"]}}})
    assert lines == ["AERIAL_RGBI: SWIR without statistics, entering as raw numbers"]


def test_elevation_told_by_its_bands_is_surface_and_height_still():
    described, _ = describe(spec_of(ELEVATION), said={"modalities": {ELEVATION: {"bands": ["DSM", "DTM"]}}})
    assert [(c.name, c.band, c.minus) for c in described.modalities[0].channels] == [
        ("DSM", "DSM", None),
        ("HEIGHT", "DSM", "DTM"),
    ]


def test_a_refusal_comes_before_the_work(plans, tmp_path, monkeypatch):
    path, network = plans("series")

    def never(*_args, **_kwargs):
        raise AssertionError("a graph was exported")

    monkeypatch.setattr("uperfuse.trainer.export.export.export_graph", never)
    with pytest.raises(CheckpointError, match="expected 1 to 4096"):
        export_network(network, out=tmp_path / "x.plan", name="x", provenance=None, tile_px=0)
    with pytest.raises(CheckpointError, match="correct the names"):
        export_network(
            network,
            out=tmp_path / "x.plan",
            name="x",
            provenance=None,
            said=ExportConfig.model_validate({"modalities": {AERIAL: {}}}),
        )
    assert list(tmp_path.iterdir()) == []
    assert path.exists()
