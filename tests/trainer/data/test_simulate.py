"""The simulated data set: in the real layout, the same for a seed, and as hard as the paper found the real one."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
import rasterio

from uperfuse.engine.flairhub import MODALITIES, TASKS
from uperfuse.engine.series import clear_dates
from uperfuse.engine.simulation import DOMAINS, MASK, simulate
from uperfuse.engine.simulation.noise import Grid
from uperfuse.trainer.data import DataSetError, check, choose, read_sample, simulate_data_set
from uperfuse.trainer.data.blemishes import blur_borders, draw_absences, mark_unclear, three_levels
from uperfuse.trainer.data.layout import PRODUCTS, file_of
from uperfuse.trainer.data.variety import draw_domains


def every_patch(data_set):
    return [patch for split in data_set.splits.values() for patch in split.patches]


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_files_lie_where_the_real_ones_do(data_set):
    for patch in every_patch(data_set):
        assert all(path == str(file_of(patch.id, product)) for product, path in patch.files.items())
    listed = {path for patch in every_patch(data_set) for path in patch.files.values()}
    assert {str(path) for path in files_of(data_set.root) if path.suffix == ".tif"} == listed
    assert list(data_set.root.parent.iterdir()) == [data_set.root]


def test_rasters_are_georeferenced_like_the_real_ones(data_set):
    corners = defaultdict(set)
    for patch in every_patch(data_set):
        for product, path in patch.files.items():
            with rasterio.open(data_set.root / path) as dataset:
                assert dataset.crs.to_epsg() == 2154
                assert dataset.transform.a * PRODUCTS[product].px == pytest.approx(102.4)
                assert len(dataset.descriptions) == dataset.count
                corners[patch.id].add((dataset.transform.c, dataset.transform.f))
        assert len(corners[patch.id]) == 1, "the rasters of a patch begin at one corner"
    assert len({corner for found in corners.values() for corner in found}) == len(corners), "patches do not overlap"


def test_splits_are_those_of_the_real_data_set(data_set):
    train, valid, test = (data_set.split(name) for name in ("train", "valid", "test"))
    assert (len(train.patches), len(valid.patches), len(test.patches)) == (13, 3, 4)
    assert set(valid.domains) <= set(train.domains)
    assert {patch.id.region for patch in valid.patches} <= {patch.id.region for patch in train.patches}
    assert not set(test.domains) & set(train.domains)


def test_the_same_numbers_give_the_same_files_for_any_number_of_workers(tmp_path):
    first = simulate_data_set(tmp_path / "a", patches=4, seed=1)
    again = simulate_data_set(tmp_path / "b", patches=4, seed=1, workers=2)
    assert files_of(first.root) == files_of(again.root)
    assert check(first.root).defects == ()


def test_another_seed_gives_another_world(tmp_path):
    domains = [draw_domains(seed, trained=3, unseen=2) for seed in (1, 2)]
    assert domains[0] != domains[1]
    assert domains[0] == draw_domains(1, trained=3, unseen=2)


def test_what_was_stopped_leaves_nothing(tmp_path):
    def stop(_done, _all):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate_data_set(tmp_path / "a", patches=4, seed=0, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("patches", [0, 3])
def test_too_few_patches_are_refused(tmp_path, patches):
    with pytest.raises(DataSetError, match=f"{patches} patches do not make a data set, expected at least 4"):
        simulate_data_set(tmp_path / "a", patches=patches, seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(DataSetError, match="is there already"):
        simulate_data_set(tmp_path / "a", patches=4, seed=0)
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_sensors_and_labels_are_missing_for_some_places(data_set):
    lacking = defaultdict(set)
    for patch in every_patch(data_set):
        for product in PRODUCTS.keys() - patch.files.keys():
            lacking[product].add(patch.id.region)
    assert set(lacking) == set(PRODUCTS) - {"AERIAL_RGBI", "AERIAL_LABEL-COSIA"}
    assert lacking[MASK] == lacking["SENTINEL2_TS"]
    for product, regions in lacking.items():
        assert not any(product in p.files for p in every_patch(data_set) if p.id.region in regions)


@pytest.mark.parametrize(("regions", "expected"), [(2, 0), (5, 1), (200, 16)])
def test_absences_are_as_frequent_as_they_should_be(regions, expected):
    drawn = draw_absences(regions, np.random.default_rng(1))
    assert sum("SPOT_RGBI" in absences.products for absences in drawn) == expected
    assert not drawn[0].products
    assert not any(absences.never_clear and "SENTINEL2_TS" in absences.products for absences in drawn)


def test_series_are_cloudy_of_many_lengths_and_somewhere_without_a_clear_date(data_set, modalities):
    shares, empty, lengths = [], 0, set()
    for patch in every_patch(data_set):
        sample = read_sample(data_set.root, patch, dates=data_set.dates, tasks={})
        chosen = choose(sample, modalities)
        lengths |= {len(series.dates) for series in sample.series.values()}
        if "SENTINEL2_TS" in sample.series:
            mask = sample.series["SENTINEL2_TS"].snow_cloud.values
            clear = clear_dates(mask, rule=modalities["SENTINEL2_TS"].filter)
            shares.append(len(clear) / len(mask))
            if not len(chosen.series["SENTINEL2_TS"].dates):
                empty += 1
                seen = ~sample.series["SENTINEL2_TS"].pixels.void
                green = sample.series["SENTINEL2_TS"].pixels.values[:, 1][seen]
                assert green.min() > 5000, "clouds are white"
    assert 0 < empty < len(shares) / 2
    assert 0.15 < np.median(shares) < 0.7
    assert len(lengths) > 8


def test_label_noise_is_at_borders_alone():
    scene = simulate(5, domain=DOMAINS["perche"])
    grid = Grid((512, 512), 0.2)
    label = scene.labels["AERIAL_LABEL-COSIA"]
    noisy = blur_borders(label, grid=grid, metres=0.4, rng=np.random.default_rng(0))
    changed = noisy != label
    assert 0.005 < changed.mean() < 0.15
    reach = 12  # pixels: six standard deviations
    padded = np.pad(label, reach, mode="edge")
    near = np.zeros(label.shape, bool)
    for row in range(2 * reach + 1):
        for column in range(2 * reach + 1):
            near |= padded[row : row + 512, column : column + 512] != label
    assert not (changed & ~near).any()
    assert set(np.unique(noisy)) <= set(np.unique(label))


def test_classes_that_training_ignores_occur_and_levels_differ():
    cover = np.full((1024, 1024), 12, np.uint8)
    grid = Grid((1024, 1024), 0.2)
    marked = np.stack([mark_unclear(cover, grid=grid, rng=np.random.default_rng(seed)) for seed in range(6)])
    names = {TASKS["AERIAL_LABEL-COSIA"][value].name for value in np.unique(marked)}
    assert names == {"deciduous", "mixed", "ligneous", "undefined"}
    assert 0.8 < (marked == 12).mean() < 1
    levels = three_levels(np.arange(23, dtype=np.uint8)[None])
    assert np.array_equal(levels[0, 0], np.arange(23))
    assert (levels[1].max(), levels[2].max()) == (30, 44)
    assert all(len(np.unique(level)) == 23 for level in levels)


def test_test_domains_lie_further_away_in_colour_haze_and_season():
    """Distances from the region that a domain varies, averaged over many domains."""
    near, far = [], []
    for seed in range(8):
        trained, unseen = draw_domains(seed, trained=20, unseen=10)
        assert len({domain.name for domain in trained + unseen}) == 30
        for domains, distances in ((trained, near), (unseen, far)):
            for domain in domains:
                region = DOMAINS[domain.country.name]
                distances.append(
                    (
                        abs(np.log(domain.country.soil[0] / region.soil[0])),
                        abs(domain.country.haze - region.haze),
                        abs(domain.country.season_days - region.season_days),
                    )
                )
    assert (np.mean(far, axis=0) > 1.5 * np.mean(near, axis=0)).all()


def test_every_crop_grows_somewhere_in_every_domain():
    trained, unseen = draw_domains(0, trained=6, unseen=3)
    for domain in trained + unseen:
        grown = {*domain.country.crops, *domain.country.orchards}
        assert len(grown) == len(TASKS["ALL_LABEL-LPIS"]) - 3  # meadows, vines and background have parcels of their own
        assert min(domain.country.crops.values()) > 0


def test_the_old_photograph_disagrees_with_today():
    """Fields, houses and crops are others; hills, river and main roads are the same."""
    scene = simulate(11, shape_yx_px=(1024, 1024))
    old = scene.images["AERIAL-RLT_PAN"][0].astype(float)
    today = scene.images["AERIAL_RGBI"][:3].mean(0).reshape(512, 2, 512, 2).mean((1, 3))
    assert abs(np.corrcoef(old.ravel(), today.ravel())[0, 1]) < 0.5


def test_a_year_that_is_given_changes_dates_alone():
    drawn, given = simulate(3), simulate(3, year=2011)
    assert all(np.array_equal(drawn.images[name], given.images[name]) for name in drawn.images)
    assert all(np.array_equal(drawn.labels[task], given.labels[task]) for task in TASKS)
    for scene, year in ((drawn, None), (given, 2011)):
        years = {str(day)[:4] for passes in scene.series.values() for day in passes.dates} | {str(scene.acquired)[:4]}
        assert len(years) == 1
        assert year is None or years == {str(year)}


def test_numbers_look_like_those_of_the_real_data_set(data_set):
    """Means of all patches lie within one published standard deviation."""
    values = defaultdict(list)
    for patch in every_patch(data_set):
        for name, pixels in read_sample(data_set.root, patch, dates=data_set.dates, tasks={}).images.items():
            values[name].append(pixels.values[0].mean((1, 2)))
    for name in ("AERIAL_RGBI", "AERIAL-RLT_PAN", "SPOT_RGBI"):
        for band, mean in zip(MODALITIES[name].bands, np.mean(values[name], axis=0), strict=True):
            centre, std = MODALITIES[name].statistics[band]
            assert abs(mean - centre) < std, f"{name} {band}"
