"""Plans with an 8-bit form for processors: made by NNCF, read from ONNX, run in 8 bits."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import subprocess
import sys

import numpy as np
import pytest

from uperfuse.engine import BackendError, Engine, Plan
from uperfuse.engine.backends.cpu.graph_cache import open_cache
from uperfuse.engine.backends.cpu.precision import multiplies_8_bits
from uperfuse.engine.backends.graph_file import check_graph_file
from uperfuse.engine.backends.openvino_core import openvino_core
from uperfuse.engine.builder import accuracy_control
from uperfuse.engine.builder.processor import build_for_processor
from uperfuse.engine.builder.processor_layers import quantise_for_processor
from uperfuse.engine.builder.tiles import CalibrationTiles, tiles_of_scene
from uperfuse.engine.rasters import Scene
from uperfuse.engine.simulation import simulate, write_scene

from .samples import IMAGE, poison, simulated

TASK = "AERIAL_LABEL-COSIA"
LIMIT = 3.0

pytestmark = pytest.mark.skipif(
    not multiplies_8_bits(),
    reason="this processor's 8-bit products overflow, so that plans in int8 are refused",
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Scene:
    folder = write_scene(simulate(31, shape_yx_px=(512, 1024)), tmp_path_factory.mktemp("scene")).parent
    return Scene.from_options([f"AERIAL_RGBI={folder / 'AERIAL_RGBI.tif'}"])


@pytest.fixture(scope="module")
def built(plans, scene, tmp_path_factory):
    """The plan, the plan with its 8-bit form, what the build said, and its report."""
    out = tmp_path_factory.mktemp("built") / "int8.plan"
    said = []
    report = build_for_processor(plans("aerial")[0], out=out, scene=scene, max_miou_drop=LIMIT, say=said.append)
    return plans("aerial")[0], out, said, report


def test_the_form_lies_beside_the_segments_and_changes_none(built):
    path, out, said, report = built
    with Plan.open(path) as before, Plan.open(out) as after:
        payload = after.manifest.quantised
        assert payload == report.quantisation.payload
        assert report.plan_hash == after.hash
        assert set(payload.segments) == {IMAGE, f"decode:{TASK}"}
        for name in before.manifest.members:
            assert after.member(name) == before.member(name)
        for name, member in payload.segments.items():
            check_graph_file(after.member(member), segment=name)
            whole = before.manifest.members[before.manifest.segment(name).member].size
            assert after.manifest.members[member].size < 0.6 * whole
        assert 0 < payload.parameters <= sum(segment.parameters for segment in before.manifest.segments)
        assert payload.max_miou_drop == LIMIT
        assert report.quantisation.miou_drop <= LIMIT
        assert open_cache(before) != open_cache(after)
    steps = [line.split(":")[0] for line in said]
    assert steps[0].endswith(", without quantisation")
    assert steps[1:] == [
        "decode",
        "encoder",
        "comparing with float32 on the plan's fixed tiles",
        "timing it in turns with the plan's other precision",
    ]
    assert "3 allowed" in "\n".join(report.lines)
    assert f"{report.gain.median:.2f} x as fast as in {report.gain.precision} on this processor" in "\n".join(
        report.lines
    )
    assert ("no faster here" in "\n".join(report.lines)) == (report.gain.median <= 1)


def test_what_runs_is_what_was_measured(built, scene):
    _, out, _, report = built
    with (
        Engine.load(out, device="cpu", precision="int8") as short,
        Engine.load(out, device="cpu", precision="float32") as wide,
    ):
        assert (short.precision, wide.precision) == ("int8", "float32")
        tiles = tiles_of_scene(scene, short.manifest)
        equal = []
        for sample in tiles.accuracy:
            got, expected = (each.predict(sample.tiles, voids=sample.voids).labels[TASK] for each in (short, wide))
            equal.append((got == expected).mean())
        (agreement,) = report.quantisation.payload.agreement
        assert np.mean(equal) == pytest.approx(agreement.argmax_equal, abs=0.002)
        assert 0.9 < agreement.argmax_equal < 1
        words = short.describe()
        assert f"in int8 (decode:{TASK}, {IMAGE})" in words
        assert f"{TASK} {agreement.argmax_equal:.2%}" in words
        assert "at most 3 points of mean IoU lost" in words


def test_auto_takes_it_and_float32_leaves_it_alone(built, scene):
    path, out, _, _ = built
    with Engine.load(out, device="cpu") as engine:
        assert engine.precision == "int8"
    sample = tiles_of_scene(scene, engine.manifest, most=2).accuracy[0]
    logits = []
    for each in (path, out):
        with Engine.load(each, device="cpu", precision="float32") as engine:
            logits.append(engine.predict(sample.tiles, logits=True).logits[TASK])
    np.testing.assert_array_equal(*logits)


def test_its_products_are_in_8_bits(built):
    _, out, _, report = built
    with Engine.load(out, device="cpu", precision="int8") as engine:
        # the base's encoder and the decoder, both in 8 bits, are one graph
        model = engine._backend._segments.compiled("joined").get_runtime_model()
        kinds = [node.get_rt_info() for node in model.get_ops()]
        products = [kind for kind in kinds if kind["layerType"].astype(str) in ("Convolution", "FullyConnected")]
        short = sum(kind["primitiveType"].astype(str).endswith("I8") for kind in products)
        assert short >= 5 * len(report.quantisation.payload.segments)


@pytest.fixture
def signal_stack():
    """This thread's stack for signals is the same after a test as before it."""

    class Stack(ctypes.Structure):
        _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

    def base() -> int | None:
        stack = Stack()
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
        return stack.base

    openvino_core()
    before = base()
    yield
    assert base() == before


@pytest.mark.usefixtures("signal_stack")
def test_the_layer_that_ruins_a_plan_goes_back(plans, tmp_path):
    path = tmp_path / "poisoned.plan"
    culprit = poison(plans("aerial")[0], path)
    with Plan.open(path) as plan:
        tiles = CalibrationTiles.split(simulated(plan.manifest, range(50, 58)))
        found = quantise_for_processor(plan, tiles=tiles, max_miou_drop=LIMIT)
    assert f"{IMAGE}/{culprit}" in found.payload.float_layers
    assert IMAGE in found.payload.segments
    assert len(found.payload.float_layers) < 4
    assert found.miou_drop <= LIMIT


@pytest.mark.usefixtures("ctrl_c", "signal_stack")
def test_ctrl_c_stops_it(plans, monkeypatch):
    def press(compiled):
        validations.append(compiled)
        os.kill(os.getpid(), signal.SIGINT)
        return running(compiled)

    validations, running = [], accuracy_control._running
    monkeypatch.setattr(accuracy_control, "_running", press)
    with Plan.open(plans("aerial")[0]) as plan:
        tiles = CalibrationTiles.split(simulated(plan.manifest, range(50, 54)))
        with pytest.raises(KeyboardInterrupt):
            quantise_for_processor(plan, tiles=tiles, max_miou_drop=LIMIT)
    assert len(validations) == 1


def test_a_plan_without_it_says_how_to_get_it(plans):
    with pytest.raises(BackendError, match=r"no 8-bit form; add one with uperfuse build PLAN --device cpu --precision"):
        Engine.load(plans("aerial")[0], device="cpu", precision="int8")


def test_a_limit_that_cannot_be_kept_leaves_the_plan_as_it_was(plans, scene, tmp_path):
    path = tmp_path / "aerial.plan"
    path.write_bytes(plans("aerial")[0].read_bytes())
    with pytest.raises(BackendError, match=r"no segment can compute in 8 bits and lose at most -100 points"):
        build_for_processor(path, scene=scene, max_miou_drop=-100)
    assert path.read_bytes() == plans("aerial")[0].read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["aerial.plan"]


OLD_PROCESSOR = """
import sys
from uperfuse.engine import BackendError, Plan
from uperfuse.engine.backends.cpu.precision import choose_precision
from uperfuse.engine.builder.processor_layers import quantise_for_processor

with Plan.open(sys.argv[1]) as plan:
    chosen = choose_precision("auto", manifest=plan.manifest)
    print(chosen.precision, chosen.rest, chosen.why)
    for refused in (
        lambda: choose_precision("int8", manifest=plan.manifest),
        lambda: quantise_for_processor(plan, tiles=None, max_miou_drop=1),
    ):
        try:
            refused()
        except BackendError as error:
            print(error)
"""


def test_a_processor_whose_products_overflow_is_found_out(built):
    """The same processor, kept from its newer instructions, adds 8-bit products in 16 bits."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        pytest.skip("only x86 processors have instructions that overflow")
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", OLD_PROCESSOR, built[1]], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout
    assert told.split()[:2] in (["bf16", "bf16"], ["float32", "float32"])
    assert "the plan's 8-bit form is left alone, for the processor's 8-bit products overflow" in told
    assert (
        "precision is int8, but the processor's 8-bit products overflow (it has no VNNI); use precision='auto'" in told
    )
    assert "so that nothing can be measured on it" in told


def test_nncf_reports_nothing_over_the_network():
    says = (
        "import os, sys\n"
        "from uperfuse.engine.builder.accuracy_control import _import_nncf\n"
        "before = dict(os.environ)\n"
        "_import_nncf()\n"
        "assert dict(os.environ) == before\n"
        "from nncf.telemetry.wrapper import NNCFTelemetryStub, telemetry\n"
        "print(isinstance(telemetry, NNCFTelemetryStub), 'pytest' in sys.modules)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NNCF_CI"}
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "False"]
