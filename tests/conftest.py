"""What every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tests.plan_cache import cached_plan

# the machine may be busy: a test is not wrong for being slow
hypothesis.settings.register_profile("calm", deadline=None)
hypothesis.settings.load_profile("calm")

# Triton reads this when a kernel is defined: tests run kernels through its interpreter, on the CPU.
os.environ["TRITON_INTERPRET"] = "1"

ROOT = Path(__file__).resolve().parent.parent

# processes of a run share the cores: threads that wait for each other by spinning would take them from one another
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    _SHARE = max(1, len(os.sched_getaffinity(0)) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(_SHARE))

# a pytest that a test starts is no worker of the run that the test is part of
for _name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
    del os.environ[_name]

# files that take minutes, the longest first: they begin first, so that no process of a run is left with one at its end
_LONGEST = (
    "test_simulated_cuda.py",
    "engine/builder/test_real_builder.py",
    "training/test_loop.py",
    "kernels/test_build.py",
    "export/test_export.py",
    "training/test_configs.py",
    "test_maps.py",
    "export/test_rewrite.py",
    "export/test_sharing.py",
    "evaluation/test_command.py",
    "benchmarks/test_fusion_study.py",
    "csrc/test_sanitizers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    items.sort(key=lambda item: _place(item.path.as_posix()))


def _place(path: str) -> int:
    return next((place for place, end in enumerate(_LONGEST) if path.endswith(end)), len(_LONGEST))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of real rasters and golden values beside the checkout."""
    folder = ROOT.parent / "shared"
    if not (folder / "golden").is_dir():
        pytest.skip("../shared (golden values and real rasters) is not beside this checkout")
    return folder


@pytest.fixture
def ctrl_c():
    """Ctrl-C raises `KeyboardInterrupt`, even where whoever started the tests has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def plans() -> PlanFactory:
    """Plans of small networks with random weights, exported once: `plans("aerial")`."""
    return PlanFactory()


class PlanFactory:
    """Small networks by name, and their plans.

    `aerial`: one RGB image. `all`: aerial, elevation, Sentinel-2 and -1, two tasks, all but the aerial image may be
    absent. `series`: Sentinel-2 and -1 alone.
    """

    def __init__(self) -> None:
        self._made = {}

    def __call__(self, name: str):
        """Path of the plan `name` and its network in PyTorch."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def _make(self, name: str):
        import torch

        from uperfuse.engine.plan.network import Provenance
        from uperfuse.trainer.export import ExportConfig, export_network
        from uperfuse.trainer.network import UPerFuse

        torch.manual_seed(7)
        network = UPerFuse(small_spec(name)).eval()
        randomise(network, seed=SEEDS.get(name, 11))
        provenance = Provenance(checkpoint="random", checkpoint_sha256="0" * 64, created="2026-01-01", tools={})
        bands = {image.name: {"bands": ["R", "G", "B"]} for image in network.spec.images if image.channels == 3}
        said = ExportConfig.model_validate({"modalities": bands})

        def export(path: Path) -> None:
            export_network(
                network, out=path, name=f"small-{name}", provenance=provenance, said=said, tile_px=TILE_PX[name]
            )

        return cached_plan(f"small-{name}", export, made_from=Path(__file__).read_text(encoding="utf-8")), network


TILE_PX = {"aerial": 256, "all": 128, "series": 10}
SEEDS = {"series": 14}
"""Of weights; with others the best two of a series' rectified scores are often equal up to rounding."""


def small_spec(name: str):
    """Spec of a network with a tenth of the published widths."""
    from uperfuse.trainer.network import BackboneSpec, ImageSpec, NetworkSpec, SeriesSpec, TaskSpec

    backbone = BackboneSpec("convnextv2", (16, 24, 32, 40), (1, 1, 1, 1))

    def image(modality: str, channels: int, tile_px: int) -> ImageSpec:
        return ImageSpec(modality, channels, tile_px, backbone)

    def series(modality: str, channels: int, widths: tuple[int, ...], out: int) -> SeriesSpec:
        return SeriesSpec(modality, channels, widths, widths, heads=16, d_key=4, d_model=64, out_widths=(16, out))

    land_cover, crops = TaskSpec("AERIAL_LABEL-COSIA", 19), TaskSpec("ALL_LABEL-LPIS", 23)
    widths = (16, 16, 32, 32)
    if name == "aerial":
        return NetworkSpec((image("AERIAL_RGBI", 3, 512),), (), (land_cover,), pyramid_channels=32)
    if name == "series":
        both = (series("SENTINEL2_TS", 10, widths, 19), series("SENTINEL1-ASC_TS", 2, widths, 19))
        return NetworkSpec((), both, (land_cover,))
    return NetworkSpec(
        (image("AERIAL_RGBI", 3, 512), image("DEM_ELEV", 2, 512)),
        (series("SENTINEL2_TS", 10, widths, 42), series("SENTINEL1-ASC_TS", 2, widths, 42)),
        (land_cover, crops),
        pyramid_channels=32,
        absent=("DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS"),
    )


def randomise(network, *, seed: int = 11) -> None:
    """Weights and statistics that make every layer count: no zero initialisation survives."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(value.shape, generator=generator)
        if name.endswith("running_var"):
            value.copy_(1 + 0.3 * noise.abs())
        elif value.ndim == 1 and name.endswith("weight"):
            value.copy_(1 + 0.2 * noise)
        elif value.ndim <= 1 or name.startswith("absent"):
            value.copy_(0.2 * noise)
        else:
            value.copy_(noise * (1.4 / value[0].numel() ** 0.5))
