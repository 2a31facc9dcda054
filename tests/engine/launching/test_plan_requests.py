"""The kernels that a plan needs, for manifests whose needs are told by hand."""

import re
from pathlib import Path

import pytest

from tests.engine.plan.examples import AERIAL, DEM, S1, S2, a_manifest
from uperfuse.engine import BackendError, Plan
from uperfuse.engine.launching import SHORT_TYPES, AttentionShape, plan_requests
from uperfuse.engine.plan.network import Resize

SMALL = Path(__file__).resolve().parents[3] / "models" / "uperfuse-small.plan"
UTAE = AttentionShape(heads=16, channels=128, embedding=256, summed=(64, 64, 128))


def _names(manifest, **said) -> list[str]:
    said = {"attention": {}, "precision": "fp16", "dates": (16, 64)} | said
    return [str(request) for request in plan_requests(manifest, **said)]


def test_the_small_plan():
    with Plan.open(SMALL) as plan:
        series = dict.fromkeys(("SENTINEL2_TS", "SENTINEL1-ASC_TS", "SENTINEL1-DESC_TS"), UTAE)
        assert _names(plan.manifest, attention=series, dates=(16, 32, 64, 96), precision="bf16") == [
            "prepare.u8_bf16_ALIGNED1",
            "prepare.fp32_fp32_ALIGNED1",
            "prepare.u16_bf16_ALIGNED1",
            "temporal_attention.bf16_H16_C128_D256_ONE_PASS1_DROPOUT0",
            "temporal_attention.bf16_H16_C128_D256_ONE_PASS0_DROPOUT0",
            "temporal_aggregate.bf16_H16_C0-64_C1-64_C2-128_C3-0_RESIZED0",
            # 24 channels, then 48, 96 and 144
            "pyramid_fusion.bf16_BASE0_ALIGNED0",
            "pyramid_fusion.bf16_BASE0_ALIGNED1",
            "classify.fp32_STEPS1_ALIGNED1_TY64_TX128",
        ]


def test_one_image_is_fused_with_nothing():
    assert _names(a_manifest((AERIAL,))) == ["prepare.u8_fp16_ALIGNED1", "classify.fp32_STEPS1_ALIGNED1_TY64_TX128"]


def test_series_that_run_whole_need_neither_attention_nor_sums():
    kernels = {name.split(".")[0] for name in _names(a_manifest((AERIAL, DEM, S2)))}
    assert kernels == {"prepare", "pyramid_fusion", "classify"}


def test_series_alone_are_classified_on_both_grids():
    names = _names(a_manifest((S2, S1)), attention={S2: UTAE, S1: UTAE}, dates=(96,))
    assert names[-2:] == ["classify.fp32_STEPS1_ALIGNED1_TY64_TX128", "classify.fp32_STEPS0_ALIGNED0_TY64_TX64"]
    # their maps are scores of classes
    assert names[-3].startswith("pyramid_fusion.fp16_BASE0")
    assert not any(name.startswith("prepare") or "ONE_PASS1" in name for name in names)


def test_sums_of_many_maps_take_several_launches():
    wide = AttentionShape(16, 128, 256, summed=(16, 16, 32, 32, 64, 128))
    sums = [name for name in _names(a_manifest((S2,)), attention={S2: wide}) if name.startswith("temporal_aggregate")]
    assert sums == [
        "temporal_aggregate.fp16_H16_C0-16_C1-16_C2-32_C3-32_RESIZED0",
        "temporal_aggregate.fp16_H16_C0-64_C1-128_C2-0_C3-0_RESIZED0",
    ]
    none = AttentionShape(16, 128, 256, summed=())
    assert not [name for name in _names(a_manifest((S2,)), attention={S2: none}) if "aggregate" in name]


@pytest.mark.parametrize("precision", SHORT_TYPES)
def test_elevation_stays_in_float32_and_all_else_is_of_the_short_type(precision):
    short = {"float32": "fp32", "bf16": "bf16"}.get(precision, "fp16")
    types = {}
    for request in plan_requests(a_manifest(), attention={S2: UTAE}, precision=precision, dates=(16,)):
        types.setdefault(request.kernel, set()).add(tuple(request.types.values()))
    assert types == {
        "prepare": {("u8", short), ("fp32", "fp32")},
        "temporal_attention": {(short,)},
        "temporal_aggregate": {(short,)},
        "pyramid_fusion": {(short,)},
        "classify": {("fp32",)},
    }


@pytest.mark.parametrize(
    ("shape", "dates", "says"),
    [
        (AttentionShape(8, 128, 256, (64,)), (16,), ["temporal_attention: the kernel got 8 heads, 128 channels"]),
        (AttentionShape(16, 96, 256, (64,)), (16,), ["temporal_attention: the kernel got 16 heads, 96 channels"]),
        (AttentionShape(16, 128, 256, (64, 8)), (16,), ["temporal_aggregate: the kernel got maps of [64, 8] channels"]),
        (UTAE, (16, 366), ["temporal_attention: the kernel got 366 dates, expected at most 256"]),
        (
            AttentionShape(16, 96, 256, (48,)),
            (366,),
            ["16 heads, 96 channels", "366 dates", "maps of [48] channels"],
        ),
    ],
)
def test_refuses_series_that_the_kernels_cannot_serve_with_all_reasons(shape, dates, says):
    with pytest.raises(BackendError, match=r"SENTINEL2_TS cannot be cut .*; build with --no-kernels$") as caught:
        plan_requests(a_manifest(), attention={S2: shape}, precision="fp16", dates=dates)
    for each in says:
        assert re.search(re.escape(each), str(caught.value)), caught.value


def test_refuses_resizes_that_classify_cannot_serve():
    manifest = a_manifest((AERIAL,)).model_copy(
        update={"upsampling": (Resize(px=48, align_corners=True), Resize(px=32, align_corners=True))}
    )
    with pytest.raises(BackendError, match=r"maps of the base grid: classify: .* 3 resizes.*; run .* device='cpu'$"):
        plan_requests(manifest, attention={}, precision="fp16", dates=())
