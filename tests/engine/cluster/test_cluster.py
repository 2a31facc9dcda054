"""Many processes make the map of one, whatever happens to them."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import yaml
from hypothesis import given
from hypothesis import strategies as st

from uperfuse.engine import BackendError, Engine, Plan, PlanError, RasterError
from uperfuse.engine.cluster import connect, open_cluster, predict, predict_on_cluster, worker
from uperfuse.engine.cluster.job import Errand, Group, Job, MissingPlanError
from uperfuse.engine.cluster.predict import groups
from uperfuse.engine.rasters import MapOptions, Scene, Source, predict_raster
from uperfuse.engine.rasters.tiling import Tiling

OPTIONS = MapOptions(batch=1)


@pytest.fixture(scope="module")
def plan(plans) -> Path:
    return plans("aerial")[0]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """An aerial image of 100 tiles and more."""
    path = tmp_path_factory.mktemp("scene") / "ortho.tif"
    rng = np.random.default_rng(0)
    values = np.kron(rng.integers(1, 255, (3, 210, 220)), np.ones((1, 10, 10))).astype(np.uint8)
    values[:, :300, :500] = 0
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 3, "nodata": 0, "crs": "EPSG:2154"}
    blocks = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "DEFLATE", "photometric": "RGB"}
    place = rasterio.Affine(0.2, 0, 843000.0, 0, -0.2, 6519000.0)
    with rasterio.open(path, "w", height=2100, width=2200, transform=place, **profile, **blocks) as dataset:
        dataset.write(values)
    return Scene(inputs={"AERIAL_RGBI": Source(path=path)})


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def expected(plan: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Maps of one process."""
    out = tmp_path_factory.mktemp("one")
    with Engine.load(plan, device="cpu") as engine:
        predict_raster(engine, scene, out)
    return contents(out)


@pytest.fixture(scope="module")
def two() -> Iterator[connect.Cluster]:
    with open_cluster("local:2") as cluster:
        yield cluster


def mapped(cluster: connect.Cluster, plan: Path, scene: Scene, out: Path, **options):
    given = {"options": OPTIONS, "device": "cpu", **options}
    return predict_on_cluster(cluster, plan, scene, out, given.pop("options"), **given)


def test_two_processes_make_the_map_of_one(two, plan, scene, expected, tmp_path) -> None:
    said: list[str] = []
    summary = mapped(two, plan, scene, tmp_path / "out", report=said.append)
    assert contents(tmp_path / "out") == expected
    assert summary.tiles > 100 > summary.void_tiles > 0
    assert "runs on the processor" in said[0]
    assert summary.seconds["predict"] > 0
    assert two.dashboard.startswith("http://")


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 40), st.randoms())
def test_groups_are_near_and_hold_every_tile_once(rows: int, columns: int, size: int, chosen: random.Random) -> None:
    tiling = Tiling((rows, columns), tile_px=64, halo_px=8)
    tiles = sorted(chosen.sample(range(len(tiling)), chosen.randint(0, len(tiling))))
    made = [*groups(tiling, tiles, size=size)]
    assert sorted(tile for group in made for tile in group) == tiles
    for group in made:
        ys, xs = zip(*(divmod(tile, tiling.columns) for tile in group), strict=True)
        assert max(max(ys) - min(ys), max(xs) - min(xs)) < max(1, round(size**0.5))


def test_processes_that_die_are_replaced_and_their_tiles_mapped_again(plan, scene, expected, tmp_path) -> None:
    def kill() -> None:
        moments = random.Random(3)
        while len(killed) < 3 and not over.wait(moments.uniform(0.3, 1.2)):
            victims = [pid for pid in cluster.client.run(os.getpid).values() if pid not in killed]
            if victims and list((tmp_path / "out").glob(".*/shares")):
                killed.append(moments.choice(victims))
                os.kill(killed[-1], signal.SIGKILL)

    killed: list[int] = []
    over = threading.Event()
    with open_cluster("local:2") as cluster:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            mapped(cluster, plan, scene, tmp_path / "out")
        finally:
            over.set()
            killer.join()
    assert killed
    assert contents(tmp_path / "out") == expected


@pytest.fixture
def port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def scheduler(folder: Path, port: int) -> list[subprocess.Popen[bytes]]:
    """A scheduler and two workers, as somebody starts them by hand."""
    address = f"tcp://127.0.0.1:{port}"
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        *[["worker", address, "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]] * 2,
    ]
    python = [sys.executable, "-W", "ignore", "-m", "dask"]
    return [subprocess.Popen([*python, *command], cwd=folder, stderr=subprocess.DEVNULL) for command in commands]


def test_a_scheduler_that_is_gone_loses_nothing(plan, scene, expected, tmp_path, port: int) -> None:
    def kill(sentence: str) -> None:
        def killing() -> None:
            while not list((tmp_path / "out").glob(".*/shares/*.share")):
                time.sleep(0.02)
            for process in processes:
                process.kill()

        threading.Thread(target=killing).start()

    address = f"tcp://127.0.0.1:{port}"
    processes = scheduler(tmp_path, port)
    try:
        with open_cluster(address, threads=1) as cluster:
            cluster.client.wait_for_workers(2)
            with pytest.raises(BackendError, match=r"the cluster does not answer any more: .*--resume"):
                mapped(cluster, plan, scene, tmp_path / "out", report=kill)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    (folder,) = (tmp_path / "out").iterdir()
    again = scheduler(tmp_path, port)
    try:
        with open_cluster(address, threads=1) as cluster:
            cluster.client.wait_for_workers(2)
            mapped(cluster, plan, scene, tmp_path / "out", begin="resume")
    finally:
        for process in again:
            process.kill()
            process.wait()
    assert not folder.exists()
    assert contents(tmp_path / "out") == expected


def test_one_process_goes_on_where_a_cluster_stopped(two, plan, scene, expected, tmp_path) -> None:
    class EnoughError(Exception):
        """The user has seen enough."""

    def stop(self, share: Path) -> None:
        absorbed.append(share)
        absorb(self, share)
        if len(absorbed) == 20:
            raise EnoughError

    absorbed: list[Path] = []
    absorb = predict.Run.absorb
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict.Run, "absorb", stop)
        with pytest.raises(EnoughError):
            mapped(two, plan, scene, tmp_path / "out")
    said: list[str] = []
    with Engine.load(plan, device="cpu") as engine:
        predict_raster(engine, scene, tmp_path / "out", begin="resume", report=said.append)
    assert contents(tmp_path / "out") == expected


def test_what_stops_a_worker_stops_the_run_in_its_words(two, plan, scene, tmp_path) -> None:
    damaged = tmp_path / "ortho.tif"
    damaged.write_bytes(scene.inputs["AERIAL_RGBI"].path.read_bytes()[:-30_000])
    broken = Scene(inputs={"AERIAL_RGBI": Source(path=damaged)})
    with pytest.raises(RasterError, match=r"rows \d+ to \d+, columns .* cannot be read: .*\(tried 3 times\)"):
        mapped(two, plan, broken, tmp_path / "out")
    assert not list((tmp_path / "out").glob("[!.]*"))
    going = MapOptions(batch=1, keep_going=True)
    with pytest.raises(RasterError, match="interrupted run is kept"):
        mapped(two, plan, broken, tmp_path / "out", options=going)
    summary = mapped(two, plan, broken, tmp_path / "out", options=going, begin="resume")
    assert summary.unreadable


@pytest.fixture
def job(plan, scene, tmp_path, monkeypatch) -> Iterator[Job]:
    """A job whose plan this machine does not have."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Plan.open(plan) as opened:
        plan_hash = opened.hash
    yield Job("one", tmp_path / "away.plan", plan_hash, "cpu", "auto", 1, None, None, scene, tmp_path / "out", OPTIONS)
    worker.release()


def test_a_plan_is_believed_by_its_hash(job: Job, plan: Path, plans) -> None:
    with pytest.raises(MissingPlanError):
        worker.describe(job)
    job.plan.write_bytes(plans("series")[0].read_bytes())  # another one of that name
    with pytest.raises(MissingPlanError):
        worker.describe(job)
    for wrong in (b"no plan", plans("series")[0].read_bytes()):
        with pytest.raises(PlanError, match="is not"):
            worker.store_plan(wrong, job.plan_hash)
    assert not list(worker._stored(job.plan_hash).parent.iterdir())
    worker.store_plan(plan.read_bytes(), job.plan_hash)
    assert worker.describe(job)[0] == "cpu"


def keep_caches_in(folder: str) -> None:
    os.environ["XDG_CACHE_HOME"] = folder


def test_a_plan_that_workers_do_not_see_is_sent_once_to_each_machine(
    two, plan, scene, expected, tmp_path, monkeypatch
) -> None:
    def elsewhere(**facts) -> Job:
        return Job(**{**facts, "plan": Path("/not/on/this/machine.plan")})

    def counted(self, host: str) -> None:
        sent.append(host)
        send(self, host)

    sent: list[str] = []
    send = predict._Tasks._send_plan
    two.client.run(keep_caches_in, str(tmp_path / "cache"))
    monkeypatch.setattr(predict, "Job", elsewhere)
    monkeypatch.setattr(predict._Tasks, "_send_plan", counted)
    mapped(two, plan, scene, tmp_path / "out")
    assert contents(tmp_path / "out") == expected
    assert sent == [worker.host()]
    assert len(list((tmp_path / "cache/uperfuse/plans").iterdir())) == 1


def test_a_worker_that_would_make_another_map_is_refused(job: Job, plan: Path, tmp_path: Path) -> None:
    worker.store_plan(plan.read_bytes(), job.plan_hash)
    worker.describe(job)
    settings = {**worker._Session.of(job).work.settings, "precision": "fp16"}
    worker.learn(Errand(job, settings, tmp_path))
    with pytest.raises(BackendError, match=r"would make other maps: precision: was fp16, is \w+; give every"):
        worker.map_tiles(Group(job.name, (0,)))
    worker.forget(job.name)
    with pytest.raises(BackendError, match="of an errand that it never heard of"):
        worker.map_tiles(Group(job.name, (0,)))


@pytest.mark.parametrize("where", ["local:", "local:none", "local:0"])
def test_no_number_of_processes_is_refused(where: str) -> None:
    with pytest.raises(BackendError, match="expected a number of processes; write local:4"), open_cluster(where):
        pass


def test_a_cluster_takes_no_0_readers_for_one(two, plan, scene, tmp_path) -> None:
    with pytest.raises(RasterError, match="0 readers, expected at least 1"):
        mapped(two, plan, scene, tmp_path / "out", options=MapOptions(readers=0))
    assert not list(tmp_path.rglob("*.tif"))


def test_no_cluster_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    monkeypatch.setattr(connect, "_PATIENCE_S", 1)
    address = f"tcp://127.0.0.1:{port}"
    with (
        pytest.raises(BackendError, match=f"no scheduler answers at {address}: .*`dask scheduler`"),
        open_cluster(address),
    ):
        pass
    with pytest.raises(BackendError, match=r"none\.yaml cannot be read"), open_cluster(str(tmp_path / "none.yaml")):
        pass
    (tmp_path / "slurm.yaml").write_text("[queue]")
    with pytest.raises(BackendError, match="holds no settings"), open_cluster(str(tmp_path / "slurm.yaml")):
        pass
    for name, where in (("distributed", "local:2"), ("dask_jobqueue", str(tmp_path / "slurm.yaml"))):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            with pytest.raises(BackendError, match=r"install uperfuse\[cluster\]"), open_cluster(where):
                pass


# dask's own: a cluster that was refused is collected half made
@pytest.mark.filterwarnings("ignore:Exception ignored in. <function Cluster.__del__")
def test_a_setting_that_slurm_does_not_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "slurm.yaml").write_text("{queue: gpu, colour: red}")
    with pytest.raises(BackendError, match="SLURMCluster"), open_cluster(str(tmp_path / "slurm.yaml")):
        pass
    gc.collect()


SBATCH = """#!{python}
import subprocess, sys
subprocess.Popen(["bash", sys.argv[-1]], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print("Submitted batch job 7")
"""


def test_workers_that_slurm_starts(plan, scene, expected, tmp_path, monkeypatch) -> None:
    """Slurm itself is stood in for by a program that runs what is submitted at once."""
    for name, program in (("sbatch", SBATCH.format(python=sys.executable)), ("scancel", "#!/bin/sh\n")):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(program)
        (tmp_path / "bin" / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    settings = {
        "queue": "any",
        "cores": 1,
        "processes": 1,
        "memory": "4GB",
        "jobs": 1,
        "local_directory": str(tmp_path),
    }
    (tmp_path / "slurm.yaml").write_text(yaml.safe_dump(settings))
    with open_cluster(str(tmp_path / "slurm.yaml"), threads=1) as cluster:
        mapped(cluster, plan, scene, tmp_path / "out")
    assert contents(tmp_path / "out") == expected
