"""The engine against the network in PyTorch, and its laws."""

from __future__ import annotations

import multiprocessing
import threading
import warnings

import numpy as np
import pytest

from uperfuse.engine import BackendError, Engine, TileError
from uperfuse.engine.agreement import relative_error
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import dates_key
from uperfuse.trainer.export import reference_logits

NAMES = ("aerial", "all", "series")
MAX_ERROR = 1e-4  # float32 sums in another order; the plans of these small networks stay below 1e-5


@pytest.fixture(scope="module")
def engines(plans):
    loaded = {name: Engine.load(plans(name)[0], precision="float32") for name in NAMES}
    yield loaded
    for engine in loaded.values():
        engine.close()


def tiles_of(engine: Engine, *, count: int = 1, dates: int = 9) -> dict:
    """A batch of random tiles whose series differ in length."""
    single = [check_tiles_of(engine.manifest, seed=place, dates=dates + 4 * place) for place in range(count)]
    batch = {}
    for key in single[0]:
        values = [tile[key] for tile in single]
        batch[key] = [v[0] for v in values] if isinstance(values[0], list) else np.concatenate(values)
    return batch


@pytest.mark.parametrize("name", NAMES)
def test_equals_pytorch_pixel_by_pixel(engines, plans, name):
    engine = engines[name]
    tiles = tiles_of(engine, count=3)
    got = engine.predict(tiles, logits=True)
    expected = reference_logits(plans(name)[1], engine.manifest, tiles)
    for task, logits in expected.items():
        assert relative_error(got.logits[task], logits) < MAX_ERROR
        top = np.sort(logits, axis=1)
        clear = top[:, -1] - top[:, -2] > 1e-3
        assert clear.mean() > 0.9
        assert (got.labels[task] == logits.argmax(1))[clear].all()
        probability = np.exp(logits - logits.max(1, keepdims=True))
        confidence = 100 / probability.sum(1)
        assert np.abs(got.confidence[task] - confidence).max() <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_tile_does_not_depend_on_its_batch(engines, name):
    engine = engines[name]
    batch = tiles_of(engine, count=3)
    together = engine.predict(batch, logits=True)
    for index in (2, 0, 1):
        alone = engine.predict({key: values[index : index + 1] for key, values in batch.items()}, logits=True)
        for task in alone.labels:
            np.testing.assert_array_equal(alone.logits[task][0], together.logits[task][index])
            np.testing.assert_array_equal(alone.labels[task][0], together.labels[task][index])


def test_one_tile_needs_no_batch_axis(engines):
    engine = engines["all"]
    batch = tiles_of(engine)
    single = {key: values[0] for key, values in batch.items()}
    expected, got = engine.predict(batch), engine.predict(single)
    for task in expected.labels:
        np.testing.assert_array_equal(got.labels[task], expected.labels[task])


def test_dates_may_be_calendar_dates_in_any_year(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    expected = engine.predict(tiles, logits=True)
    for key in [key for key in tiles if key.endswith("_DATES")]:
        tiles[key] = [np.datetime64("2021-05-15") + days.astype("timedelta64[D]") for days in tiles[key]]
    got = engine.predict(tiles, logits=True)
    for task, logits in expected.logits.items():
        np.testing.assert_array_equal(got.logits[task], logits)


def test_the_order_of_dates_does_not_matter_but_the_dates_do(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    expected = engine.predict(tiles, logits=True)
    turned = {key: [values[0][::-1]] for key, values in tiles.items()}
    shifted = {key: [values[0] + 40] if key.endswith("_DATES") else values for key, values in tiles.items()}
    for task, logits in expected.logits.items():
        assert relative_error(engine.predict(turned, logits=True).logits[task], logits) < MAX_ERROR
        assert relative_error(engine.predict(shifted, logits=True).logits[task], logits) > 1e-3


def test_a_series_without_dates_is_defined(engines, plans):
    engine = engines["all"]
    tiles = tiles_of(engine)
    name = "SENTINEL2_TS"
    tiles[name] = [tiles[name][0][:0]]
    tiles[dates_key(name)] = [tiles[dates_key(name)][0][:0]]
    got = engine.predict(tiles, logits=True)
    expected = reference_logits(plans("all")[1], engine.manifest, tiles)
    for task, logits in expected.items():
        assert np.isfinite(logits).all()
        assert relative_error(got.logits[task], logits) < MAX_ERROR


@pytest.mark.parametrize(
    "absent", [["DEM_ELEV"], ["SENTINEL2_TS"], ["DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"]], ids=len
)
def test_absent_modalities_count_with_what_was_learnt(engines, plans, absent):
    engine = engines["all"]
    everything = tiles_of(engine)
    tiles = {key: v for key, v in everything.items() if key not in absent and key not in map(dates_key, absent)}
    got = engine.predict(tiles, logits=True)
    expected = reference_logits(plans("all")[1], engine.manifest, tiles)
    present = engine.predict(everything, logits=True)
    for task, logits in expected.items():
        assert relative_error(got.logits[task], logits) < MAX_ERROR
        assert relative_error(present.logits[task], logits) > 1e-3


@pytest.mark.parametrize(
    "primed",
    [["SENTINEL2_TS"], ["DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"], ["AERIAL_RGBI", "SENTINEL2_TS"]],
    ids=lambda names: "+".join(names),
)
def test_priming_equals_one_shot(engines, primed):
    engine = engines["all"]
    tiles = tiles_of(engine, count=2)
    keys = {*primed, *map(dates_key, primed)}
    context = engine.prime({key: v for key, v in tiles.items() if key in keys})
    rest = {key: v for key, v in tiles.items() if key not in keys}
    engine.predict(tiles_of(engine, count=1, dates=20))  # what is primed must not live in the session's buffers
    expected = engine.predict(tiles, logits=True)
    for _ in range(2):
        got = context.predict(rest, logits=True)
        for task, logits in expected.logits.items():
            np.testing.assert_array_equal(got.logits[task], logits)


def test_priming_refuses_what_is_primed_already(engines):
    engine = engines["all"]
    tiles = tiles_of(engine)
    context = engine.prime({"DEM_ELEV": tiles["DEM_ELEV"]})
    with pytest.raises(TileError, match="DEM_ELEV, which is primed already"):
        context.predict(tiles)
    with pytest.raises(TileError, match="2 tiles are given and 1 are primed"):
        context.predict({k: v for k, v in tiles_of(engine, count=2).items() if k != "DEM_ELEV"})


def test_void_pixels_stay_void_and_never_reach_the_network(engines):
    engine = engines["all"]
    tiles = tiles_of(engine)
    void = np.zeros((1, 128, 128), bool)
    void[0, 10:50, 20:90] = True
    voids = {"AERIAL_RGBI": void}
    first = engine.predict(tiles, voids=voids, logits=True)
    tiles["AERIAL_RGBI"] = np.where(void[:, None], 255 - tiles["AERIAL_RGBI"], tiles["AERIAL_RGBI"])
    second = engine.predict(tiles, voids=voids, logits=True)
    for task in first.labels:
        np.testing.assert_array_equal(first.logits[task], second.logits[task])
        assert ((first.labels[task] == 255) == void).all()
        assert ((first.confidence[task] == 255) == void).all()


def test_nan_is_refused_with_its_count_unless_void(engines):
    engine = engines["all"]
    tiles = tiles_of(engine)
    tiles["DEM_ELEV"][0, 1, 3, 4:9] = np.nan
    with pytest.raises(TileError, match=r"DEM_ELEV has 5 NaN or infinite values"):
        engine.predict(tiles)
    void = np.isnan(tiles["DEM_ELEV"]).any(axis=1)
    assert engine.predict(tiles, voids={"DEM_ELEV": void}).labels


def test_nan_in_a_series_is_refused_or_filled_with_its_acquisition(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    name = "SENTINEL1-ASC_TS"
    series = tiles[name][0]
    flat = series.copy()
    flat[2, :] = series[2].mean(axis=(1, 2), keepdims=True)
    holed = flat.copy()
    holed[2, :, 4, 5] = np.nan
    with pytest.raises(TileError, match="SENTINEL1-ASC_TS has 2 NaN"):
        engine.predict({**tiles, name: [holed]})
    void = np.isnan(holed).any(axis=1)
    got = engine.predict({**tiles, name: [holed]}, voids={name: [void]}, logits=True)
    expected = engine.predict({**tiles, name: [flat]}, logits=True)
    for task, logits in expected.logits.items():
        assert relative_error(got.logits[task], logits) < MAX_ERROR


def test_a_wholly_void_acquisition_counts_as_absent(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    name = "SENTINEL2_TS"
    void = np.zeros(tiles[name][0][:, 0].shape, bool)
    void[3] = True
    kept = [index for index in range(len(void)) if index != 3]
    got = engine.predict(tiles, voids={name: [void]}, logits=True)
    fewer = {**tiles, name: [tiles[name][0][kept]], dates_key(name): [tiles[dates_key(name)][0][kept]]}
    expected = engine.predict(fewer, logits=True)
    for task, logits in expected.logits.items():
        assert relative_error(got.logits[task], logits) < MAX_ERROR


def _without(name):
    return lambda tiles: {key: value for key, value in tiles.items() if key != name}


def _with(**changed):
    return lambda tiles: {**tiles, **{k.replace("__", "-"): change(tiles) for k, change in changed.items()}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without("AERIAL_RGBI"), "tiles lack AERIAL_RGBI, and the plan never learnt to do without it"),
        (_with(AERIAL_RGBI=lambda t: t["AERIAL_RGBI"][:, :2]), "AERIAL_RGBI has 2 on axis C, expected 3"),
        (_with(AERIAL_RGBI=lambda t: t["AERIAL_RGBI"][..., :99, :]), "AERIAL_RGBI has 99 on axis Y, expected 128"),
        (
            _with(AERIAL_RGBI=lambda t: t["AERIAL_RGBI"].astype("uint16")),
            "AERIAL_RGBI is of type uint16, expected uint8",
        ),
        (_with(DEM_ELEV=lambda t: t["DEM_ELEV"].repeat(2, 0)), "modalities have different batch sizes"),
        (_with(RADAR=lambda t: t["DEM_ELEV"]), "tiles hold RADAR, expected some of"),
        (_without("SENTINEL2_DATES"), "SENTINEL2_TS comes without dates; give them under SENTINEL2_DATES"),
        (_with(SENTINEL2_DATES=lambda t: [t["SENTINEL2_DATES"][0][1:]]), "9 acquisitions on axis T and 8 dates"),
        (_with(SENTINEL2_DATES=lambda t: [["2021-01-01"] * 9]), "SENTINEL2_DATES: dates are of type <U10"),
        (_with(SENTINEL2_TS=lambda t: [t["SENTINEL2_TS"][0][:, 0]]), r"expected \[T, C, Y, X\]"),
        (_with(AERIAL_RGBI=lambda t: [t["AERIAL_RGBI"][0], t["AERIAL_RGBI"][0, :2]]), "AERIAL_RGBI is not an array"),
        (_with(AERIAL_RGBI=lambda t: np.ma.masked_less(t["AERIAL_RGBI"], 9)), "masked array, whose mask would be lost"),
        (_with(SENTINEL2_TS=lambda t: [np.ma.array(t["SENTINEL2_TS"][0])]), "masked array, whose mask would be lost"),
        (_with(DEM_ELEV=lambda _: None), "DEM_ELEV is of type object"),
        (_with(SENTINEL2_TS=lambda _: None), "SENTINEL2_TS is a NoneType, expected a list"),
        (_with(SENTINEL2_DATES=lambda _: "2021-01-01"), "SENTINEL2_DATES is a str, expected a list"),
        (
            _with(SENTINEL2_DATES=lambda _: [[20210101 + day for day in range(9)]]),
            "SENTINEL2_DATES: days run from 2021",
        ),
        (lambda tiles: {**tiles, 7: tiles["DEM_ELEV"]}, "tiles hold 7, expected some of"),
        (lambda tiles: list(tiles.values()), "tiles are a list, expected a mapping"),
        (lambda _: None, "tiles are a NoneType, expected a mapping"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(engines, change, message):
    engine = engines["all"]
    with pytest.raises(TileError, match=message):
        engine.predict(change(tiles_of(engine)))


@pytest.mark.parametrize(
    ("voids", "message"),
    [
        (np.zeros((1, 128, 128), bool), "voids are a ndarray, expected a mapping"),
        ({"AERIAL_RGBI": np.zeros((1, 128, 128), np.uint8)}, "voids of AERIAL_RGBI are uint8"),
        ({"AERIAL_RGBI": np.zeros((128, 128), bool)}, r"shape \(128, 128\), expected bool of shape \(1, 128, 128\)"),
        ({"AERIAL_RGBI": [[True], [True, False]]}, "voids of AERIAL_RGBI are not an array"),
        ({"SENTINEL2_TS": True}, "voids of SENTINEL2_TS is a bool, expected a list"),
        ({"SENTINEL2_DATES": [True] * 9}, "voids hold SENTINEL2_DATES, no modality of the tiles"),
    ],
)
def test_voids_that_do_not_fit_are_refused(engines, voids, message):
    with pytest.raises(TileError, match=message):
        engines["all"].predict(tiles_of(engines["all"]), voids=voids)


def test_memory_layout_does_not_matter(engines):
    engine = engines["all"]
    tiles = tiles_of(engine)
    expected = engine.predict(tiles, logits=True)
    aerial, elevation, series = tiles["AERIAL_RGBI"], tiles["DEM_ELEV"], tiles["SENTINEL2_TS"][0]
    sparse = np.zeros((1, 3, 256, 256), np.uint8)
    sparse[:, :, ::2, ::2] = aerial
    frozen = aerial.copy()
    frozen.setflags(write=False)
    odd = np.frombuffer(b"x" + elevation.tobytes(), np.uint8)[1:].view(np.float32).reshape(elevation.shape)
    for change in (
        {"AERIAL_RGBI": np.asfortranarray(aerial)},
        {"AERIAL_RGBI": sparse[:, :, ::2, ::2]},
        {"AERIAL_RGBI": aerial[..., ::-1].copy()[..., ::-1]},
        {"AERIAL_RGBI": frozen},
        {"AERIAL_RGBI": [aerial[0]]},
        {"DEM_ELEV": odd},
        {"DEM_ELEV": elevation.astype(">f4")},
        {"SENTINEL2_TS": [np.asfortranarray(series.astype(">u2"))]},
        {"SENTINEL2_TS": series[None], "SENTINEL2_DATES": tiles["SENTINEL2_DATES"][0][None]},
    ):
        got = engine.predict({**tiles, **change}, logits=True)
        for task, logits in expected.logits.items():
            np.testing.assert_array_equal(got.logits[task], logits)


def test_a_batch_may_be_empty(engines):
    engine = engines["all"]
    empty = {key: values[:0] for key, values in tiles_of(engine).items()}
    got = engine.predict(empty, logits=True)
    assert {(logits.shape, got.labels[task].shape) for task, logits in got.logits.items()} == {
        ((0, 19, 128, 128), (0, 128, 128)),
        ((0, 23, 128, 128), (0, 128, 128)),
    }


def test_an_unknown_grid_is_refused(engines):
    with pytest.raises(TileError, match="grid is 'pixel', expected one of label, base"):
        engines["all"].predict(tiles_of(engines["all"]), grid="pixel")


def test_threads_share_an_engine(engines):
    engine = engines["all"]
    batches = [tiles_of(engine, dates=5 + 3 * place) for place in range(4)]
    expected = [engine.predict(batch, logits=True) for batch in batches]
    got = [None] * len(batches)

    def predict(place: int) -> None:
        for _ in range(3):
            got[place] = engine.predict(batches[place], logits=True)

    workers = [threading.Thread(target=predict, args=(place,)) for place in range(len(batches))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for one, other in zip(expected, got, strict=True):
        for task, logits in one.logits.items():
            np.testing.assert_array_equal(other.logits[task], logits)


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_check_passes_and_can_fail(engines, name):
    engine = engines[name]
    assert all(result.passed and result.argmax_equal > 0.999 for result in engine.verify())
    broken = engine.manifest.check.model_copy(update={"seed": engine.manifest.check.seed + 5})
    other = engine.manifest.model_copy(update={"check": broken})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.plan, "manifest", other)
        assert not any(result.passed for result in engine.verify())


def test_bf16_is_used_where_the_processor_has_it_and_said(plans):
    path, network = plans("all")
    with Engine.load(path) as engine:
        words = engine.describe()
        if engine.precision == "float32":
            assert "no bf16" in words
            pytest.skip("this processor has no bf16 instructions")
        assert "bf16" in words
        tiles = tiles_of(engine, count=2)
        expected = reference_logits(network, engine.manifest, tiles)
        got = engine.predict(tiles, logits=True)
        for task, logits in expected.items():
            assert 1e-6 < relative_error(got.logits[task], logits) < 0.03
            assert (got.labels[task] == logits.argmax(1)).mean() > 0.97


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "device is 'gpu', expected auto, cpu, cuda or cuda:1"),
        ({"device": "cuda"}, "PyCUDA cannot be imported"),
        ({"precision": "fp16"}, "precision is fp16, which needs a GPU; no GPU is looked for"),
        ({"precision": "int4"}, "precision is 'int4', expected auto, float32, bf16 or int8"),
        ({"threads": 0}, "threads is 0, expected at least 1"),
    ],
)
def test_what_cannot_serve_is_refused(plans, options, message):
    with pytest.raises(BackendError, match=message):
        Engine.load(plans("aerial")[0], **options)


def test_series_alone_refuse_bf16(plans):
    with pytest.raises(BackendError, match="series alone"):
        Engine.load(plans("series")[0], precision="bf16")


def test_a_closed_engine_says_so(plans):
    engine = Engine.load(plans("aerial")[0])
    tiles = tiles_of(engine)
    engine.close()
    with pytest.raises(BackendError, match="the engine is closed"):
        engine.predict(tiles)


def test_closing_under_a_running_prediction_ends_in_words(plans):
    engine = Engine.load(plans("all")[0], precision="float32")
    tiles = tiles_of(engine)
    outcomes = []

    def predict() -> None:
        try:
            for _ in range(200):
                engine.predict(tiles)
        except BaseException as error:  # noqa: BLE001 - whatever it is must be looked at
            outcomes.append(error)

    workers = [threading.Thread(target=predict) for _ in range(3)]
    for worker in workers:
        worker.start()
    engine.predict(tiles)
    engine.close()
    for worker in workers:
        worker.join()
    assert [(type(error), str(error)) for error in outcomes] == [
        (BackendError, "the engine is closed; load the plan again")
    ] * len(workers)


def test_a_fork_is_refused_instead_of_waiting_for_ever(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    ours, theirs = multiprocessing.get_context("fork").Pipe()

    def predict() -> None:
        try:
            engine.predict(tiles)
        except BackendError as error:
            theirs.send(str(error))

    child = multiprocessing.get_context("fork").Process(target=predict)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of what is tested here
        child.start()
    said = ours.recv() if ours.poll(30) else "nothing"
    child.kill()
    child.join()
    assert "does not work in a fork of it; load it in each process" in said
    assert engine.predict(tiles).labels


def test_primed_tiles_are_shared_by_threads(engines):
    engine = engines["all"]
    tiles = tiles_of(engine)
    expected = engine.predict(tiles, logits=True).logits
    aerial = {"AERIAL_RGBI": tiles.pop("AERIAL_RGBI")}
    context = engine.prime(tiles)
    wrong = []

    def predict() -> None:
        for _ in range(5):
            got = context.predict(aerial, logits=True).logits
            wrong.extend(task for task, logits in expected.items() if not np.array_equal(got[task], logits))

    workers = [threading.Thread(target=predict) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_maps_on_the_base_grid(engines):
    engine = engines["series"]
    tiles = tiles_of(engine)
    assert engine.predict(tiles).labels["AERIAL_LABEL-COSIA"].shape == (1, 512, 512)
    coarse = engine.predict(tiles, logits=True, grid="base")
    assert coarse.labels["AERIAL_LABEL-COSIA"].shape == (1, 10, 10)
    np.testing.assert_array_equal(
        coarse.labels["AERIAL_LABEL-COSIA"], coarse.logits["AERIAL_LABEL-COSIA"].argmax(1).astype(np.uint8)
    )
