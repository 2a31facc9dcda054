"""`uperfuse inspect` and `uperfuse verify` on plans that are sound, unsound, and runnable."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from typer.testing import CliRunner

from uperfuse.engine import Engine
from uperfuse.engine.check import check_tiles_of
from uperfuse.engine.cli.inspect import register
from uperfuse.engine.cli.payload_tables import KnownKeys
from uperfuse.engine.cli.plan_tables import plan_tables
from uperfuse.engine.cli.tables import count, size
from uperfuse.engine.errors import PlanError
from uperfuse.engine.keyring import Keyring
from uperfuse.engine.plan import Manifest, Plan, sign_plan, write_plan

from .examples import AERIAL, COVER, DEM, S1, S2, a_manifest, members_of, with_payloads

STRANGER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
STRANGE = STRANGER.public_key().public_bytes_raw().hex()


@pytest.fixture(autouse=True)
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keyring:
    """The user's keyring, empty."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return Keyring.open()


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    register(app)
    return app


def _write(path: Path, modalities: tuple[str, ...] = (AERIAL, DEM, S2, S1)) -> Path:
    manifest = a_manifest(modalities)
    extra = {"tensorrt/sm87-trt10.3-fp16/decode.engine": b"e" * 123_456}
    write_plan(path, manifest, members_of(manifest, extra=extra))
    return path


def _write_full(path: Path, modalities: tuple[str, ...] = (AERIAL, DEM, S2, S1)) -> Path:
    """A plan with every kind of payload, signed by a stranger."""
    manifest = with_payloads(a_manifest(modalities))
    write_plan(path, manifest, members_of(manifest), sign_with=[STRANGER])
    return path


def _printed(path: Path, width: int = 100, known: KnownKeys | None = None) -> list[str]:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    with Plan.open(path) as plan:
        console.print(plan_tables(plan, known=known))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_inspect_prints_what_a_user_wants_to_know(tmp_path: Path, app: typer.Typer) -> None:
    path = _write(tmp_path / "a.plan")
    outcome = CliRunner().invoke(app, ["inspect", str(path)])
    assert outcome.exit_code == 0, outcome.exception
    lines = [" ".join(line.split()) for line in outcome.stdout.splitlines()]
    with Plan.open(path) as plan:
        assert f"hash {plan.hash}" in lines
        sha = plan.manifest.members["segments/absent:DEM_ELEV.onnx"].sha256[:16]
    for line in [
        "AERIAL_RGBI image 64 px 0.2 m uint8 no NIR R G",
        "DEM_ELEV image 64 px 0.2 m float32 yes DSM DTM",
        "SENTINEL2_TS series 10 px 1.28 m uint16 no B02 B03 B04 B05 B06 B07 B08 B8A B11 B12",
        "HEIGHT DSM - DTM 311.06 537.55",
        "SENTINEL1-ASC_TS all VV VH, raw numbers - -",
        "maps 64 x 64 px of 0.2 m (12.8 m a side), following AERIAL_RGBI",
        "0 building #db0e9a 2 vigne, cultivée #660082",
        "1 water #1553ae 3 undefined (ignored) #000000",
        "encoder:SENTINEL2_TS pixels [B, T, 10, 10, 10], days, mask 12,345 0.25 180 B",
        "ONNX 7 segments, 1.3 kB, for any machine",
        "TensorRT none",
        "kernels none",
        "of no use 2 files, 123.5 kB",
        "signed by nobody",
        "AERIAL_LABEL-COSIA OpenVINO CPU float32 4 random tiles 1.3e-06 100.000%",
        f"segments/absent:DEM_ELEV.onnx 125 B {sha}",
        "made 2026-01-31T12:00:00Z from example.safetensors",
        "with uperfuse 0.1.0, torch 2.14.1",
    ]:
        assert line in lines, line
    assert any("15 May day -130 to 228 95 % of pixels with cloud <= 1 %" in line for line in lines)


def test_inspect_prints_what_each_kind_of_machine_finds(tmp_path: Path, app: typer.Typer) -> None:
    path = _write_full(tmp_path / "a.plan")
    outcome = CliRunner().invoke(app, ["inspect", str(path)])
    assert outcome.exit_code == 0, outcome.exception
    text = " ".join(outcome.stdout.split())
    with Plan.open(path) as plan:
        members = plan.manifest.members
        engines = [part.member for engine in plan.manifest.engines for part in engine.parts]
    agreement = "; ".join(
        f"{task}: same class 99.950%, mIoU 99.91, relative error 2.0e-03" for task in (COVER, "ALL_LABEL-LPIS")
    )
    targets = "sm_87-tensorrt-10.3.0-fp16, rtx-1.7.1.116-float32, sm_90-tensorrt-11.4.0-int8"
    for words in [
        "signed by 1 key that the keyring does not hold",
        f"TensorRT 22 engines, {size(sum(members[name].size for name in engines))}, for {targets}",
        "for sm_87, sm_90 attention 14 files,",
        "of SENTINEL2_TS, SENTINEL1-ASC_TS 8 bits 1 segment, 276 B, for the processor of no use 1 file, 0 B",
        "Engines sm_87-tensorrt-10.3.0-fp16 runs on sm_87, with tensorrt 10.3.0 or later computes in fp16 "
        "shapes 1 or 4 tiles at a time, 16 or 32 dates parts 8 engines, 2.6 kB series cut at the kernels "
        f"built on Orin verified on Orin; {agreement} Engines rtx",
        "runs on any GPU that it supports, with tensorrt_rtx 1.7.1.116 computes in float32 "
        "shapes 1 tile at a time, 16 or 32 dates parts 6 engines, 1.6 kB series whole, without kernels "
        "built on a machine without a GPU verified not yet; done when it is first loaded on a GPU Engines",
        "computes in int8 shapes 1 or 4 tiles at a time, 16 or 32 dates parts 8 engines, 2.7 kB "
        "series cut at the kernels stayed float 2 layers built on H100 verified on H100;",
        "sm_87 classify, prepare 950 B sm_90 classify, prepare 995 B",
        "segments encoder:AERIAL_RGBI weights 12,000 in 8 bits stayed float 1 layer "
        f"limit mIoU may drop by 0.5 points measured {agreement} size 1 file, 276 B",
        f"Public key In the keyring as {'─' * 83} {STRANGE} -",
    ]:
        assert words in text, words


def test_signers_have_the_names_of_the_keyring(tmp_path: Path, app: typer.Typer, keyring: Keyring) -> None:
    path = _write_full(tmp_path / "a.plan", (AERIAL,))
    sign_plan(path, keyring.machine_key())
    made = keyring.new("agency")
    sign_plan(path, keyring.private_key("agency"))
    lines = [" ".join(line.split()) for line in CliRunner().invoke(app, ["inspect", str(path)]).stdout.splitlines()]
    assert f"{made.public.hex()} agency" in lines
    assert f"{STRANGE} -" in lines
    (signed,) = (line for line in lines if line.startswith("signed by"))
    assert sorted(signed.removeprefix("signed by ").split(", ")) == [
        "1 key that the keyring does not hold", "agency", "machine",
    ]  # fmt: skip
    said = json.loads(CliRunner().invoke(app, ["inspect", "--json", str(path)]).stdout)["signed_by"]
    assert {entry["key"]: entry["name"] for entry in said} == {
        key.public.hex(): key.name for key in (*keyring.keys(),)
    } | {STRANGE: None}


def test_a_plan_is_shown_where_the_keyring_cannot_be_believed(
    tmp_path: Path, app: typer.Typer, keyring: Keyring
) -> None:
    path = _write_full(tmp_path / "a.plan", (AERIAL,))
    keyring.machine_key()
    keyring.folder.chmod(0o777)
    outcome = CliRunner().invoke(app, ["inspect", str(path)])
    assert outcome.exit_code == 0
    text = " ".join(outcome.stdout.split())
    assert "signed by 1 key, and whose is not known: " in text
    assert "may be written by others" in text
    assert f"{STRANGE} -" in text


@pytest.mark.parametrize("modalities", [(AERIAL,), (AERIAL, DEM, S2, S1), (S2, S1)])
@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("write", [_write, _write_full])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_broken(
    tmp_path: Path, write: Callable[..., Path], modalities: tuple[str, ...], width: int
) -> None:
    known = KnownKeys({bytes.fromhex(STRANGE): "a-rather-long-name-for-a-key"})
    lines = _printed(write(tmp_path / "a.plan", modalities), width, known)
    assert sum(line.startswith(STRANGE) for line in lines) == (write is _write_full)
    assert max(map(len, lines)) <= width
    assert all(any(f"{name} " in line for line in lines) for name in modalities)
    assert sum("12,345" in line for line in lines) == len(a_manifest(modalities).segments)
    if width >= 100:
        rows = [line for line in lines if line.startswith("encoder:")]
        assert len(rows) == len(modalities)
        assert all(row.endswith(" B") for row in rows)


def test_classes_show_their_colour_where_there_is_colour(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.plan", (AERIAL,))
    console = Console(width=100, file=io.StringIO(), color_system="truecolor", force_terminal=True)
    with Plan.open(path) as plan:
        console.print(plan_tables(plan))
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[48;2;219;14;154m" in console.file.getvalue()
    assert "\x1b" not in "\n".join(_printed(path))


def test_words_of_a_plan_are_not_taken_for_markup(tmp_path: Path) -> None:
    tree = a_manifest((AERIAL,)).model_dump()
    tree["name"] = "[red]:warning: [/nothing]"
    tree["tasks"][0]["classes"][0]["name"] = "[/] \\[bold]"
    manifest = Manifest.model_validate(tree)
    write_plan(tmp_path / "a.plan", manifest, members_of(manifest))
    lines = _printed(tmp_path / "a.plan")
    assert lines[0] == "[red]:warning: [/nothing]"
    assert any("[/] \\[bold]" in line for line in lines)


def test_json_holds_everything(tmp_path: Path, app: typer.Typer) -> None:
    path = _write(tmp_path / "a.plan")
    outcome = CliRunner().invoke(app, ["inspect", "--json", str(path)])
    said = json.loads(outcome.stdout)
    with Plan.open(path) as plan:
        assert Manifest.model_validate_json(json.dumps(said["manifest"]), strict=True) == plan.manifest
        assert (said["hash"], said["size"], said["path"]) == (plan.hash, plan.size, str(path))
        assert said["signed_by"] == []


def test_sizes_and_counts_for_people() -> None:
    assert [size(n) for n in (0, 999, 1000, 999_949, 999_950, 412_300_000, 2**32)] == [
        "0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "412.3 MB", "4.3 GB",
    ]  # fmt: skip
    assert [count(n) for n in (0, 999_999, 1_000_000, 88_123_456)] == ["0", "999,999", "1.0 M", "88.1 M"]


def test_verify_names_every_member_that_is_wrong(tmp_path: Path, app: typer.Typer) -> None:
    path = _write(tmp_path / "a.plan")
    content = path.read_bytes().replace(b"graph of absent", b"GRAPH of absent")
    path.write_bytes(content.replace(b"logits of ALL", b"LOGITS of ALL"))
    outcome = CliRunner().invoke(app, ["verify", str(path)])
    assert outcome.exit_code != 0
    assert isinstance(outcome.exception, PlanError)
    assert (
        "2 of 11 members are not what the manifest says: check/ALL_LABEL-LPIS.npy, segments/absent:DEM_ELEV.onnx"
        in str(outcome.exception)
    )
    lines = outcome.stdout.splitlines()
    assert sum("not as listed" in line for line in lines) == 2
    assert sum(" as listed" in line for line in lines) == len(members_of(a_manifest((AERIAL, DEM, S2, S1)))) + 1


_Shapes = dict[str, list[int | str]]


def _graph(nodes: list[onnx.NodeProto], inputs: _Shapes, outputs: _Shapes, **weights: np.ndarray) -> bytes:
    takes, gives = (
        [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape) for tensor, shape in tensors.items()]
        for tensors in (inputs, outputs)
    )
    stored = [numpy_helper.from_array(weight, tensor) for tensor, weight in weights.items()]
    graph = helper.make_graph(nodes, "segment", takes, gives, initializer=stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


@pytest.fixture
def runnable(tmp_path: Path) -> Path:
    """A small network of pooling and two convolutions as plans without a check, with a true one and a false one."""
    manifest = a_manifest((AERIAL,), (COVER,))
    levels: _Shapes = {f"level{i}": ["B", 8, 16 >> i, 16 >> i] for i in range(4)}
    rng = np.random.default_rng(5)
    widen = rng.normal(size=(8, 3, 1, 1)).astype(np.float32)
    pools = [
        helper.make_node("Conv", ["pixels", "w"], ["wide"]),
        *(
            helper.make_node("AveragePool", ["wide"], [f"level{i}"], kernel_shape=[4 << i] * 2, strides=[4 << i] * 2)
            for i in range(4)
        ),
    ]
    weight = rng.normal(size=(4, 8, 1, 1)).astype(np.float32)
    head = [
        *(helper.make_node("GlobalAveragePool", [f"level{i}"], [f"mean{i}"]) for i in (1, 2, 3)),
        helper.make_node("Sum", ["level0", "mean1", "mean2", "mean3"], ["all"]),
        helper.make_node("Conv", ["all", "w"], ["logits"]),
    ]
    members = {
        f"segments/encoder:{AERIAL}.onnx": _graph(pools, {"pixels": ["B", 3, 64, 64]}, levels, w=widen),
        f"segments/decode:{COVER}.onnx": _graph(head, levels, {"logits": ["B", 4, 16, 16]}, w=weight),
    }
    bare = manifest.model_copy(update={"check": None})
    write_plan(tmp_path / "bare.plan", bare, members)
    assert manifest.check is not None
    check = manifest.check
    with Engine.load(tmp_path / "bare.plan", device="cpu", precision="float32", threads=1) as engine:
        tiles = check_tiles_of(manifest, seed=check.seed, dates=check.dates)
        logits = engine.predict(tiles, logits=True).logits[COVER][0, :, :: check.stride_px, :: check.stride_px]
    expected = io.BytesIO()
    np.save(expected, logits)
    write_plan(tmp_path / "sound.plan", manifest, {**members, check.members[COVER]: expected.getvalue()})
    spoilt = io.BytesIO()
    np.save(spoilt, logits * np.float32(1.01))
    write_plan(tmp_path / "spoilt.plan", manifest, {**members, check.members[COVER]: spoilt.getvalue()})
    return tmp_path


def test_verify_repeats_the_stored_check(runnable: Path, app: typer.Typer) -> None:
    options = ["--device", "cpu", "--precision", "float32"]
    outcome = CliRunner().invoke(app, ["verify", str(runnable / "sound.plan"), *options])
    assert outcome.exit_code == 0, outcome.exception
    assert "All 3 members are what the manifest says.\nplan " in outcome.stdout
    assert "\nsigned by nobody\n" in outcome.stdout
    assert "passed" in outcome.stdout

    outcome = CliRunner().invoke(app, ["verify", str(runnable / "spoilt.plan"), *options])
    assert isinstance(outcome.exception, PlanError)
    assert f"the stored check failed for {COVER}" in str(outcome.exception)
    assert "FAILED" in outcome.stdout

    outcome = CliRunner().invoke(app, ["verify", str(runnable / "bare.plan"), *options])
    assert outcome.exit_code == 0
    assert "stores no check: its numbers were not computed again" in outcome.stdout
