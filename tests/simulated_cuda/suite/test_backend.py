"""The CUDA back end from a plan to maps: engines by the project's own builder, real cubins, one graph per shape."""

from __future__ import annotations

import gc
import itertools
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from tests.simulated_cuda.suite.engine_cases import assert_same, tiles_of
from uperfuse.engine import BackendError, Engine, TileError
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.flairhub import dates_key


@pytest.fixture
def both(build):
    """A plan with engines on both devices: `both("all")`."""
    opened = []

    def load(name, **settings):
        path = build(name, **settings)
        gpu = Engine.load(path, device="cuda")
        opened.append(gpu)
        cpu = Engine.load(path, device="cpu", precision="float32")
        opened.append(cpu)
        return gpu, cpu

    yield load
    for engine in opened:
        engine.close()


def test_one_image_in_chunks(both, cuda):
    gpu, cpu = both("aerial")
    tiles = tiles_of(gpu, count=5)
    assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))
    assert_same(gpu.predict(tiles), cpu.predict(tiles))


def test_a_replay_is_one_launch_and_allocates_nothing(both, cuda):
    gpu, _ = both("aerial")
    tiles = tiles_of(gpu, count=2)
    gpu.predict(tiles)
    cuda.forget_calls()
    gpu.predict(tiles)
    names = [call.name for call in cuda.calls()]
    assert names.count("cuGraphLaunch") == 1
    assert not {"cuLaunchKernel", "cuMemAlloc", "cuMemHostAlloc", "cuStreamCreate", "cuModuleLoadData"} & set(names)
    # raw numbers go up in one piece, maps and counts come down in two
    assert names.count("cuMemcpyHtoDAsync") == 1
    assert names.count("cuMemcpyDtoHAsync") == 2


@pytest.mark.parametrize("schedule", ["lazy", "eager"])
def test_many_chunks_do_not_disturb_each_other(both, cuda, schedule):
    cuda.configure(schedule=schedule)
    gpu, cpu = both("aerial", batches=(1,))
    tiles = tiles_of(gpu, count=6)
    first = gpu.predict(tiles)
    assert_same(first, cpu.predict(tiles))
    again = gpu.predict(tiles)
    assert all((first.labels[task] == again.labels[task]).all() for task in first.labels)


def test_every_subset_of_absent_modalities(both, cuda):
    gpu, cpu = both("all", batches=(1,))
    optional = ("DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS")
    for count in range(len(optional) + 1):
        for names in itertools.combinations(optional, count):
            tiles = tiles_of(gpu, names=("AERIAL_RGBI", *names))
            assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))


def test_batches_and_numbers_of_dates(both, cuda):
    gpu, cpu = both("all")
    for dates in (1, 4, 5, 8):
        tiles = tiles_of(gpu, count=3, dates=dates)
        assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))
    keys = {key.dates for key in gpu._backend._resources.session._frames}
    assert {number for key in keys for _, number in key} == {4, 8}


def test_a_series_without_a_date_and_one_with_too_many(both, cuda):
    gpu, cpu = both("all", batches=(1,))
    tiles = tiles_of(gpu)
    name = "SENTINEL2_TS"
    empty = tiles | {name: [tiles[name][0][:0]], dates_key(name): [tiles[dates_key(name)][0][:0]]}
    assert_same(gpu.predict(empty, logits=True), cpu.predict(empty, logits=True))
    with pytest.raises(TileError, match=r"a series has 9 dates, expected at most 8; .*--dates 9"):
        gpu.predict(tiles_of(gpu, dates=9))
    assert_same(gpu.predict(tiles), cpu.predict(tiles))


def test_series_alone(both, cuda):
    gpu, cpu = both("series")
    tiles = tiles_of(gpu, count=3)
    assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))
    assert_same(gpu.predict(tiles, grid="base"), cpu.predict(tiles, grid="base"))


def test_whole_encoders_in_tensorrt(both, cuda):
    gpu, cpu = both("all", cut=False, batches=(1,))
    tiles = tiles_of(gpu)
    assert_same(gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True))
    assert not any("temporal_attention" in name for name in cuda.executed())


@pytest.mark.parametrize(("precision", "tolerance", "percent"), [("fp16", 5e-3, 4), ("bf16", 4e-2, 25)])
def test_short_types(both, cuda, precision, tolerance, percent):
    gpu, cpu = both("all", precision=precision)
    assert gpu.precision == precision
    tiles = tiles_of(gpu, count=2)
    truth = cpu.predict(tiles, logits=True)
    assert_same(gpu.predict(tiles, logits=True), truth, tolerance=tolerance, equal=0.95, percent=percent)


@pytest.mark.parametrize("grid", ["label", "base"])
def test_void_pixels(both, cuda, grid):
    gpu, cpu = both("all")
    tiles = tiles_of(gpu, count=2)
    rng = np.random.default_rng(3)
    voids = {
        "AERIAL_RGBI": rng.random((2, 128, 128)) < 0.3,
        "DEM_ELEV": np.zeros((2, 128, 128), bool),
        "SENTINEL2_TS": [rng.random((len(dates), 2, 2)) < 0.2 for dates in tiles[dates_key("SENTINEL2_TS")]],
    }
    voids["DEM_ELEV"][1, :40] = True
    dem = tiles["DEM_ELEV"].copy()
    dem[1, :, :40] = np.nan
    tiles = tiles | {"DEM_ELEV": dem}
    got, truth = (engine.predict(tiles, voids=voids, grid=grid) for engine in (gpu, cpu))
    assert_same(got, truth)
    labels = got.labels["AERIAL_LABEL-COSIA"]
    assert ((labels == 255) == (truth.labels["AERIAL_LABEL-COSIA"] == 255)).all()
    assert (labels == 255).any()


def test_numbers_that_are_none_are_refused_and_forgotten(both, cuda):
    gpu, cpu = both("all")
    tiles = tiles_of(gpu, count=2)
    for name in ("DEM_ELEV", "SENTINEL1-ASC_TS"):
        broken = {key: list(values) if isinstance(values, list) else values.copy() for key, values in tiles.items()}
        spoilt = np.array(broken[name][1])
        spoilt[0, 0, 0] = np.nan
        broken[name][1] = spoilt
        with pytest.raises(TileError, match=rf"{name} has \d+ NaN or infinite values"):
            gpu.predict(broken)
        assert_same(gpu.predict(tiles), cpu.predict(tiles))


@pytest.mark.parametrize(
    "primed",
    [
        ("DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"),
        ("SENTINEL2_TS",),
        ("AERIAL_RGBI", "SENTINEL1-ASC_TS"),
        ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"),
    ],
    ids=lambda names: "+".join(name.partition("_")[0] for name in names),
)
def test_priming_changes_nothing(both, cuda, primed):
    gpu, cpu = both("all")
    tiles = tiles_of(gpu, count=3)
    known = {name: values for name, values in tiles.items() if name in {*primed, *map(dates_key, primed)}}
    rest = {name: values for name, values in tiles.items() if name not in known}
    area = gpu.prime(known)
    gpu.predict(tiles_of(gpu, count=3, seed=90))  # what is primed must not live where frames work
    assert_same(area.predict(rest, logits=True), cpu.predict(tiles, logits=True))
    assert_same(area.predict(rest), cpu.predict(tiles))
    # without the others that may be absent
    least = {name: values for name, values in rest.items() if name == "AERIAL_RGBI"}
    if least or "AERIAL_RGBI" in known:
        assert_same(area.predict(least), cpu.predict(known | least))
    area.close()
    with pytest.raises(BackendError, match="what was primed is closed"):
        area.predict(rest)


def test_a_primed_frame_runs_no_other_encoder(both, cuda):
    gpu, _ = both("all", batches=(1,))
    tiles = tiles_of(gpu)
    frame = {"AERIAL_RGBI": tiles["AERIAL_RGBI"]}
    area = gpu.prime({name: values for name, values in tiles.items() if name not in frame})
    area.predict(frame)
    cuda.forget_calls()
    area.predict(frame)
    ran = cuda.executed()
    assert not any("SENTINEL" in name or "DEM" in name or "temporal" in name for name in ran), ran
    area.close()


def test_threads_share_an_engine(both, cuda):
    gpu, cpu = both("all", batches=(1,))
    batches = [tiles_of(gpu, seed=seed) for seed in range(4)]
    found = [None] * len(batches)

    def work(index):
        found[index] = [gpu.predict(batches[index]) for _ in range(2)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for tiles, predictions in zip(batches, found, strict=True):
        for prediction in predictions:
            assert_same(prediction, cpu.predict(tiles))


def test_an_engine_closed_by_another_thread(build, cuda):
    gpu = Engine.load(build("aerial"), device="cuda")
    gpu.predict(tiles_of(gpu))
    closer = threading.Thread(target=gpu.close)
    closer.start()
    closer.join()
    with pytest.raises(BackendError, match="the engine is closed"):
        gpu.predict({})
    assert not cuda.left()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the plan's file is left to Python, too
def test_an_engine_that_nobody_closes_is_given_back(build, cuda):
    gpu = Engine.load(build("all"), device="cuda")
    area = gpu.prime(tiles_of(gpu, names=("DEM_ELEV",)))
    gpu.predict(tiles_of(gpu))
    del gpu, area
    gc.collect()
    assert not cuda.left()


def test_maps_stay_on_the_device_if_asked(both, cuda):
    gpu, cpu = both("all")
    tiles = tiles_of(gpu, count=3)
    truth = cpu.predict(tiles)
    got = gpu.predict(tiles, residence="device")
    for task, labels in truth.labels.items():
        array = got.labels[task]
        assert array.shape == labels.shape
        assert array.__dlpack_device__() == (2, 0)
        values = cuda.memory(array.address, array.nbytes).reshape(labels.shape)
        assert (values == labels).mean() > 0.999
    del got, array
    gc.collect()


def test_maps_on_the_device_outlive_their_engine(build, cuda):
    gpu = Engine.load(build("aerial"), device="cuda")
    got = gpu.predict(tiles_of(gpu), residence="device")
    before = cuda.memory(got.labels["AERIAL_LABEL-COSIA"].address, 256 * 256).copy()
    gpu.close()
    assert (cuda.memory(got.labels["AERIAL_LABEL-COSIA"].address, 256 * 256) == before).all()
    del got
    gc.collect()
    assert not cuda.left()


class OnDevice:
    """An array that another library brought to the device."""

    def __init__(self, driver, values, *, stream=None):
        self.memory = driver.mem_alloc(values.nbytes)
        driver.memcpy_htod(self.memory, np.ascontiguousarray(values))
        self.__cuda_array_interface__ = {
            "shape": values.shape,
            "typestr": values.dtype.str,
            "data": (int(self.memory), False),
            "strides": None,
            "stream": stream,
            "version": 3,
        }


def test_images_may_lie_on_the_device(both, gpu, cuda):
    engine, cpu = both("all")
    tiles = tiles_of(engine, count=3)
    lying = tiles | {
        "AERIAL_RGBI": OnDevice(gpu, tiles["AERIAL_RGBI"]),
        "DEM_ELEV": OnDevice(gpu, tiles["DEM_ELEV"], stream=1),
    }
    assert_same(engine.predict(lying), cpu.predict(tiles))
    with pytest.raises(TileError, match="AERIAL_RGBI lies on a GPU, and the engine runs on the processor"):
        cpu.predict(lying)
    with pytest.raises(TileError, match="AERIAL_RGBI is of type float32, expected uint8"):
        engine.predict(lying | {"AERIAL_RGBI": OnDevice(gpu, tiles["AERIAL_RGBI"].astype(np.float32))})
    del lying


def test_warming_up_leaves_nothing_to_do(both, cuda):
    gpu, cpu = both("all")
    gpu.warm_up(batch=2, dates=5)
    cuda.forget_calls()
    tiles = tiles_of(gpu, count=2)
    got = gpu.predict(tiles)
    names = [call.name for call in cuda.calls()]
    assert not {"cuStreamBeginCapture", "cuGraphInstantiate", "cuGraphInstantiateWithFlags", "cuMemAlloc"} & set(names)
    assert_same(got, cpu.predict(tiles))
    with pytest.raises(BackendError, match=r"warm_up for 3 tiles at a time.*--batch 3"):
        gpu.warm_up(batch=3, dates=5)
    with pytest.raises(BackendError, match=r"warm_up for 9 dates.*--dates 9"):
        gpu.warm_up(batch=1, dates=9)


def test_a_fork_is_refused_in_words(both, cuda):
    gpu, _ = both("aerial")
    tiles = tiles_of(gpu)
    child = os.fork()
    if not child:
        try:
            gpu.predict(tiles)
        except BackendError as error:
            os._exit(17 if "does not work in a fork" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 17
    gpu.predict(tiles)


def test_it_says_what_runs_where_and_why(both, cuda):
    gpu, _ = both("all")
    words = gpu.describe()
    assert "runs on Simulated GPU (sm_87, cuda:0) in float32" in words
    assert "engines of tensorrt 10.3.0, from the plan: signed on this machine" in words
    assert "kernels compiled for sm_87" in words


def test_eight_bits(build, plans, home, cuda):
    from tests.simulated_cuda.engines import compiled, requests_of
    from uperfuse.engine.builder.build import build_plan, find_device
    from uperfuse.engine.builder.quantised import quantise_for_tensorrt
    from uperfuse.engine.builder.settings import BuildSettings
    from uperfuse.engine.builder.tiles import CalibrationTiles, Sample

    source = build("all")
    settings = BuildSettings(precision="int8", dates=(8,))
    settings = replace(settings, kernels=compiled(requests_of(source, settings), capability=87))

    def quantise(plan):
        drawn = [check_tiles_of(plan.manifest, seed=seed, dates=6) for seed in range(8)]
        tiles = CalibrationTiles.split([Sample(each) for each in drawn])
        return quantise_for_tensorrt(plan, tiles=tiles, kind="int8", max_miou_drop=30)

    device, _ = find_device("cuda")
    try:
        report = build_plan(source, out=home / "int8.plan", settings=settings, device=device, quantise=quantise)
    finally:
        device.release()
    assert report.payload.precision == "int8"
    assert all(each.relative_error > 1e-3 for each in report.payload.verified.agreement)  # 8 bits are seen
    with Engine.load(home / "int8.plan") as gpu, Engine.load(source, device="cpu", precision="float32") as cpu:
        assert gpu.precision == "int8"
        tiles = tiles_of(gpu, count=2)
        got, truth = gpu.predict(tiles, logits=True), cpu.predict(tiles, logits=True)
        assert_same(got, truth, tolerance=0.2, equal=0.85, percent=100)
