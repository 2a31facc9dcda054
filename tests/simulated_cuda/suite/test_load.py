"""Which engines run: those that fit, of whom the user trusts; what is built here is kept, what is foreign checked."""

from __future__ import annotations

import shutil

import pytest
import simulated_tensorrt

from tests.simulated_cuda.engines import compiled, requests_of
from tests.simulated_cuda.suite.engine_cases import assert_same, tiles_of
from uperfuse.engine import BackendError, Engine, Plan
from uperfuse.engine.builder.build import build_plan, find_device
from uperfuse.engine.builder.settings import BuildSettings
from uperfuse.engine.cache import cache_root
from uperfuse.engine.doctor import examine, examine_plan
from uperfuse.engine.keyring import Keyring
from uperfuse.engine.plan import write_plan


@pytest.fixture
def truth(build):
    """Tiles of the plan of one image, and their maps by the processor."""
    with Engine.load(build("aerial"), device="cpu", precision="float32") as cpu:
        tiles = tiles_of(cpu, count=2)
        return tiles, cpu.predict(tiles)


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """Another user, who has neither keys nor caches yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def rewritten(path, to, **changes):
    """A plan with other words in the manifest of its first payload."""
    with Plan.open(path) as plan:
        payload = plan.manifest.engines[0].model_copy(update=changes)
        members = {name: plan.member(name) for name in plan.manifest.members}
        manifest = plan.manifest.model_copy(update={"engines": (payload,), "members": {}})
        write_plan(to, manifest, members)
    return to


def test_auto_takes_the_gpu_and_a_name_is_never_swapped(build, truth):
    tiles, expected = truth
    with Engine.load(build("aerial")) as engine:
        assert "runs on Simulated GPU" in engine.describe()
        assert_same(engine.predict(tiles), expected)
    with Engine.load(build("aerial"), device="cpu") as engine:
        assert "runs on the processor" in engine.describe()
    with pytest.raises(BackendError, match="device is cuda:3, and there are 1 GPUs"):
        Engine.load(build("aerial"), device="cuda:3")


def test_a_foreign_plan_is_built_anew_and_kept(build, truth, newcomer, cuda):
    tiles, expected = truth
    path = build("aerial")
    requests = requests_of(path, BuildSettings(precision="float32"))
    compiled(requests, capability=87)
    for how in ("built on this machine", "built on this machine before"):
        with Engine.load(path, device="cuda", precision="float32") as engine:
            assert f"engines of tensorrt 10.3.0, {how}\n" in engine.describe() + "\n"
            assert_same(engine.predict(tiles), expected)
    kept = list((cache_root() / "tensorrt").rglob("built.json"))
    assert len(kept) == 1
    # a file that is no longer what was built is not run
    member = max((each for each in kept[0].parent.iterdir() if each.suffix != ".json"), key=lambda f: f.stat().st_size)
    member.write_bytes(member.read_bytes()[:-1] + b"?")
    with pytest.raises(Exception, match="holds another"):
        Engine.load(path, device="cuda", precision="float32")


def test_trust_decides_whose_engines_run(build, truth, newcomer, cuda):
    tiles, expected = truth
    path = build("aerial")
    with Engine.load(path, device="cuda", trust="any") as engine:
        assert "engines are run whoever built them" in engine.describe()
        assert_same(engine.predict(tiles), expected)
    mine = newcomer / "mine.plan"
    shutil.copy(path, mine)
    with Plan.open(mine) as plan:
        (key,) = plan.signed_by
    (newcomer / "builder.pub").write_text(f"ed25519 {key.hex()} builder\n")
    Keyring.open().add(newcomer / "builder.pub")
    with Engine.load(mine, device="cuda") as engine:
        assert "from the plan: signed by builder of the keyring" in engine.describe()


def test_what_nobody_signed_and_nothing_can_build_says_all_reasons(build, newcomer, cuda, monkeypatch):
    path = build("aerial")
    import uperfuse.engine.builder.build as building

    def refuse(*_, **__):
        raise BackendError("no TensorRT can build engines here: tensorrt only runs engines")

    monkeypatch.setattr(building, "find_flavour", refuse)
    with pytest.raises(BackendError) as raised:
        Engine.load(path, device="cuda", precision="float32")
    words = str(raised.value)
    assert "sm_87-tensorrt-10.3.0-float32: signed by" in words
    assert "cannot be built here: no TensorRT can build engines here" in words
    with Engine.load(path) as engine:  # without a name the processor serves, and says why
        assert "no GPU: nothing in the plan runs on this GPU" in engine.describe()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"capability": 90}, "built for sm_90, the GPU is sm_87"),
        ({"version": "10.9.0"}, "built by tensorrt 10.9.0, installed is tensorrt 10.3.0"),
        ({"flavour": "tensorrt_rtx", "capability": None}, "built by tensorrt_rtx 10.3.0, installed is tensorrt_rtx 1."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_payloads_of_other_machines_are_passed_over_in_words(build, newcomer, cuda, change, reason):
    path = rewritten(build("aerial"), newcomer / "other.plan", **change)
    with Plan.open(path) as plan:
        (fit,) = examine_plan(plan)
    assert any(reason in each for each in fit.why_not), fit.why_not


def test_another_version_is_refused_by_tensorrt_in_words(build, cuda):
    path = build("aerial")
    simulated_tensorrt.configure(version="10.7.0")
    with Plan.open(path) as plan:
        (fit,) = examine_plan(plan)
    assert fit.why_not == ("built by tensorrt 10.3.0, installed is tensorrt 10.7.0",)


def test_engines_are_checked_before_their_first_prediction_on_another_gpu(build, truth, cuda):
    tiles, expected = truth
    path = build("aerial")
    cuda.configure(name="Another GPU")
    cuda.forget_calls()
    with Engine.load(path, device="cuda") as engine:
        checked = len([call for call in cuda.calls() if call.name == "cuGraphLaunch"])
        assert checked >= 1
        assert_same(engine.predict(tiles), expected)
    cuda.forget_calls()
    with Engine.load(path, device="cuda"):
        assert not [call for call in cuda.calls() if call.name == "cuGraphLaunch"]  # it was good yesterday


def test_engines_that_compute_something_else_are_refused(build, newcomer, cuda):
    path = build("aerial")
    with Plan.open(path) as plan:
        # the maps of another seed: what a broken engine would look like
        check = plan.manifest.check.model_copy(update={"seed": 7})
        members = {name: plan.member(name) for name in plan.manifest.members}
        manifest = plan.manifest.model_copy(update={"check": check, "members": {}})
        write_plan(newcomer / "wrong.plan", manifest, members)
    cuda.configure(name="Another GPU")
    with pytest.raises(BackendError, match=r"gives other maps of AERIAL_LABEL-COSIA than the plan.*it is not used"):
        Engine.load(newcomer / "wrong.plan", device="cuda", trust="any")
    assert not cuda.left()


def test_a_build_signs_for_what_this_machine_built_alone(build, newcomer, plans, cuda):
    foreign = build("aerial")
    own = newcomer / "own.plan"
    settings = BuildSettings(precision="fp16", kernels=compiled(
        requests_of(foreign, BuildSettings(precision="fp16")), capability=87
    ))  # fmt: skip
    device, _ = find_device("cuda")
    try:
        report = build_plan(foreign, out=own, settings=settings, device=device)
    finally:
        device.release()
    with Plan.open(own) as plan:
        assert [payload.precision for payload in plan.manifest.engines] == ["fp16"]
        assert Keyring.open().trusted(plan) == "machine"
        assert plan.manifest.engines[0].verified.machine == "Simulated GPU"
    assert any("left out, as this machine signs for what it built alone" in note for note in report.notes)
    assert any("earlier signatures held for the plan as it was" in note for note in report.notes)


def test_a_build_that_fails_leaves_the_plan_as_it_was(plans, newcomer, cuda):
    path = newcomer / "plan.plan"
    shutil.copy(plans("all")[0], path)
    before = path.read_bytes()
    device, _ = find_device("cuda")
    folder = compiled(requests_of(path, BuildSettings(dates=(8,))), capability=87)
    cuda.inject("cuGraphLaunch", code=700)
    try:
        with pytest.raises(BackendError, match="illegal memory access"):
            build_plan(path, settings=BuildSettings(dates=(8,), kernels=folder), device=device)
    finally:
        device.release()
    assert path.read_bytes() == before
    assert [each.name for each in newcomer.iterdir() if each.suffix == ".plan" or ".partial" in each.name] == [
        "plan.plan"
    ]
    cuda.take_problems()


def test_a_plan_holds_several_payloads_and_auto_takes_the_fastest(build, newcomer, cuda):
    path = newcomer / "both.plan"
    source = build("aerial")
    with Plan.open(source) as plan:
        (key,) = plan.signed_by
    (newcomer / "builder.pub").write_text(f"ed25519 {key.hex()} builder\n")
    Keyring.open().add(newcomer / "builder.pub")
    folder = compiled(requests_of(source, BuildSettings(precision="fp16")), capability=87)
    device, _ = find_device("auto")
    try:
        build_plan(source, out=path, settings=BuildSettings(precision="fp16", kernels=folder), device=device)
    finally:
        device.release()
    with Engine.load(path) as engine:
        assert engine.precision == "fp16"
    with Engine.load(path, precision="float32") as engine:
        assert engine.precision == "float32"
        assert "Simulated GPU" in engine.describe()


def test_the_doctor_sees_what_is_there(build, cuda):
    words = {finding.what: finding for finding in examine()}
    assert words["cuda:0"].good
    assert "Simulated GPU, sm_87" in words["cuda:0"].found
    assert "for CUDA 13.0" in words["driver"].found
    assert words["TensorRT"].found == "tensorrt 10.3.0, builds and runs engines"
    assert words["TensorRT-RTX"].found.startswith("tensorrt_rtx 1.")
    with Plan.open(build("aerial")) as plan:
        (fit,) = examine_plan(plan)
    assert not fit.why_not
    assert str(fit.flavour) == "tensorrt 10.3.0"
