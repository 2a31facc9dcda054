"""The roofline on paper: counts against figures computed by hand, and the document against the counts."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks import roofline
from benchmarks.kernels.cases import shapes_of
from benchmarks.kernels.draw import Draw
from benchmarks.kernels.shapes import Classify, Prepare, PyramidFusion, TemporalAggregate
from benchmarks.networks import DATES, NETWORKS
from benchmarks.peaks import PEAKS, Load, peak_of
from benchmarks.roofline import floors
from benchmarks.unfused import measure_unfused
from benchmarks.work import Work, without_numbers, work_of_segments, work_of_shape
from uperfuse.kernels.launch import collect
from uperfuse.trainer.network import UPerFuse

ROOT = Path(__file__).resolve().parents[2]
BF16 = torch.bfloat16
KERNELS = {path.parent.name for path in (ROOT / "kernels").glob("*/kernel.py")}


@pytest.fixture(scope="module")
def document() -> str:
    return roofline.markdown()


def test_the_document_is_what_is_computed(document):
    written = (ROOT / "docs" / "roofline.md").read_text(encoding="utf-8")
    assert written == document, (
        "counts have changed: run python -m benchmarks.roofline --markdown docs/roofline.md and read the difference"
    )


def test_everything_is_labelled_as_arithmetic(document):
    assert "**Every figure here is arithmetic, not measurement.**" in document
    heads = [line for line in document.splitlines() if line.startswith("## LC-")]
    assert len(heads) == 4 * len(NETWORKS)
    assert all("(arithmetic, not measurement)" in head for head in heads)


def test_temporal_aggregate_by_hand():
    work = work_of_shape(TemporalAggregate(61, 10, (128, 64, 64), 16), BF16)
    points = 61 * 10 * 10
    assert work.fused.launches == 1
    assert work.fused.moved == 2 * (points * (16 + 256) + 100 * 256)
    # per map: maps x weights written out, then summed over dates
    assert work.unfused.moved == 2 * sum(points * (C + 16 + C) + points * C + 100 * C for C in (128, 64, 64))
    assert (work.fused.matrix_flop, work.fused.vector_flop) == (0, 2 * points * 256)


def test_pyramid_fusion_by_hand():
    work = work_of_shape(PyramidFusion(64, 256, (16, 10), projected=False), BF16)
    pixels, coarse = 64 * 64, 16 * 16 + 10 * 10
    assert work.fused.moved == 2 * 256 * (pixels + coarse + pixels + 256) + 4 * 256
    assert work.fused.matrix_flop == 2 * pixels * 256 * 256
    # two maps are resized and added
    assert work.fused.vector_flop == 2 * 2 * pixels * 256


def test_classify_by_hand():
    work = work_of_shape(Classify(128, 19, 4), BF16)
    logits, void, labels, confidence = 2 * 19 * 128 * 128, 512 * 512, 512 * 512, 512 * 512
    # and a count of broken pixels from each program
    assert 0 < work.fused.moved - (logits + void + labels + confidence) < 1000


README_ROWS = [
    ("classify", "LC-F", "512 px, bf16"),
    ("prepare", "LC-L", "elevation 512 px, fp32 to bf16"),
    ("pyramid_fusion", "LC-F", "LC-F, 512 px, bf16"),
    ("pyramid_fusion", "LC-L", "LC-L, 512 px, bf16"),
    ("temporal_aggregate", "LC-F", "512 px, bf16"),
    ("temporal_attention", "LC-F", "512 px, bf16"),
]


@pytest.mark.parametrize(("kernel", "network", "case"), README_ROWS)
def test_the_kernels_readmes_say_the_same(kernel, network, case):
    """There bytes were counted while the kernel ran: of one series, or one image."""
    shapes = {s: n for s, n in shapes_of(NETWORKS[network]).items() if s.kernel == kernel and not s.form}
    if kernel == "prepare":
        shapes = {Prepare("DEM_ELEV"): 1}
    if kernel.startswith("temporal"):
        shapes = dict.fromkeys(shapes, 1)
    work = sum((work_of_shape(shape, BF16) * times for shape, times in shapes.items()), Work())
    readme = (ROOT / "kernels" / kernel / "README.md").read_text(encoding="utf-8")
    (row,) = (line for line in readme.splitlines() if line.startswith(f"| {case} | ") and line.count("|") == 6)
    _, compulsory, _, unfused = row.strip("| ").split(" | ")[1:]
    assert compulsory == f"{work.fused.moved / 1e6:.2f}"
    assert unfused == f"{work.unfused.moved / 1e6:.2f}"


@pytest.fixture(scope="module")
def segments() -> dict[str, Work]:
    return work_of_segments(NETWORKS["LC-F"], dtype=BF16)


def test_a_series_encoder_by_hand(segments):
    work = segments["encoder:SENTINEL2_TS"]
    # taps, channels in and out, of every date and pixel
    by_date = [(9, 10, 64), *[(9, 64, 64)] * 5, (9, 64, 128), *[(9, 128, 128)] * 4]
    by_pixel = [
        *[(1, 256, 128)],  # after the attention
        *[(1, 128, 128), (9, 128, 128), (9, 256, 128), (9, 128, 128)],
        *[(1, 64, 64), (9, 128, 64), (9, 128, 64), (9, 64, 64)],
        *[(1, 64, 64), (9, 64, 64), (9, 128, 64), (9, 64, 64)],
        *[(1, 128, 128), (1, 128, 256), (1, 64, 512), (1, 64, 1024)],  # its slice of the fusion
    ]
    convolutions = sum(61 * 2 * taps * a * b for taps, a, b in by_date) + sum(2 * t * a * b for t, a, b in by_pixel)
    (attention,) = (shape for shape in shapes_of(NETWORKS["LC-F"]) if shape.kernel == "temporal_attention")
    with measure_unfused() as counted:
        call = attention.make(Draw("meta", BF16))
        call.run(call.reference)
    by_hand = 100 * convolutions + counted.load.matrix_flop
    assert work.unfused.matrix_flop == by_hand
    # the queries are absorbed outside of the kernel, and by its reference once more
    assert by_hand <= work.fused.matrix_flop <= 1.001 * by_hand


def test_attention_over_dates_by_hand():
    (attention,) = (shape for shape in shapes_of(NETWORKS["LC-F"]) if shape.kernel == "temporal_attention")
    with measure_unfused() as counted:
        call = attention.make(Draw("meta", BF16))
        call.run(call.reference)
    scores_and_sums = 2 * 2 * 16 * 128 * 100 * DATES
    context = 2 * 256 * 128 * 100
    positions = 2 * 256 * 100 * DATES
    absorbed = 2 * 16 * 256 * 128
    # the rest makes scores from dates
    rest = counted.load.matrix_flop - scores_and_sums - context - positions - absorbed
    assert 0 <= rest <= 2 * 16 * 16 * DATES


def test_segments_are_those_of_the_plan(segments):
    encoders = [f"encoder:{name}" for name in NETWORKS["LC-F"].modalities]
    assert list(segments) == [*encoders, "decode:AERIAL_LABEL-COSIA"]
    for name, work in segments.items():
        assert work.fused.moved < work.unfused.moved, name
        assert work.fused.launches < work.unfused.launches, name


def test_weights_and_activations_of_a_segment_count_once(segments):
    """The decoder's last convolutions alone: 1,280 to 64 channels 3 x 3, and 64 to 19."""
    quarter = 128 * 128
    bottleneck = quarter * (1280 + 64) + 9 * 1280 * 64
    head = quarter * (64 + 19) + 64 * 19 + 19
    assert 2 * (bottleneck + head) < segments["decode:AERIAL_LABEL-COSIA"].fused.moved < 2 * 2 * (bottleneck + head)


def test_every_kernel_is_there():
    for network in NETWORKS.values():
        assert {shape.kernel for shape in shapes_of(network)} == KERNELS


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_that_the_network_asks_for(name):
    """A forward pass on tensors without numbers: every kernel that it calls is a shape, and the other way round."""
    spec = NETWORKS[name]
    with without_numbers(), collect():
        pixels = {image.name: torch.empty(1, image.channels, image.tile_px, image.tile_px) for image in spec.images}
        pixels |= {each.name: torch.empty(1, DATES, each.channels, 10, 10) for each in spec.series}
        days = {each.name: torch.empty(1, DATES) for each in spec.series}
        with measure_unfused() as counted:
            UPerFuse(spec).eval()(pixels, days)
        asked = Counter((each.name, each.moved) for each in counted.operations if each.name in KERNELS)
        expected = Counter()
        for shape, times in shapes_of(spec).items():
            # raw pixels and labels are not the network's, nor is what a plan's encoders projected
            if shape.kernel not in {"prepare", "classify"} and not shape.form:
                call = shape.make(Draw("meta", torch.float32))
                with measure_unfused() as counted:
                    call.run(call.operation)
                expected += Counter(
                    {(each.name, each.moved): times for each in counted.operations if each.name in KERNELS}
                )
    assert asked == expected


def test_floors_scale():
    peak = PEAKS["A100"]
    load = Load(moved=2_039_000, matrix_flop=312_000_000, vector_flop=9_750_000)
    work = Work(load, dataclasses.replace(load, moved=4_078_000))
    assert floors(work, peak) == pytest.approx((1.0, 2.0))
    assert floors(work * 3, peak) == pytest.approx((3.0, 6.0))
    assert floors(work + work, peak) == pytest.approx((2.0, 4.0))
    assert floors(work, dataclasses.replace(peak, bytes_s=peak.bytes_s / 2)) == pytest.approx((2.0, 4.0))
    # with more bandwidth the matrix units decide
    assert floors(work, dataclasses.replace(peak, bytes_s=peak.bytes_s * 4)) == pytest.approx((1.0, 1.0))
    slow = dataclasses.replace(peak, vector_flop_s=peak.vector_flop_s / 10)
    assert floors(work, slow) == pytest.approx((5.0, 5.0))
    assert (peak.bound(Load(moved=1)), peak.bound(Load(matrix_flop=1)), slow.bound(load)) == (
        "memory",
        "matrix",
        "vector",
    )


def test_derived_peaks_follow_from_what_is_published():
    rates = {name: (peak.matrix_flop_s / 1e12, peak.vector_flop_s / 1e12) for name, peak in PEAKS.items()}
    assert rates["Orin NX"] == (60 / 2 / 2, pytest.approx(1024 * 2 * 0.918 / 1e3, rel=1e-3))
    assert rates["AGX Orin"][0] == 170 / 2 / 2
    assert rates["Thor"] == (1035 / 2 / 2, pytest.approx(2560 * 2 * 1.575 / 1e3, rel=1e-3))
    assert rates["L4"][0] == 242 / 2
    assert all(peak.source for peak in PEAKS.values())


def test_boards_are_told_apart_by_their_processors():
    assert [peak_of("Orin", count) for count in (8, 16, 14)] == [PEAKS["Orin NX"], PEAKS["AGX Orin"], None]
    assert peak_of("NVIDIA GeForce RTX 4090", 128) is None


def test_what_is_unknown_is_refused(monkeypatch, capsys):
    with pytest.raises(ValueError, match="network LC-Z is unknown, expected one of LC-F, LC-L"):
        roofline.works("LC-Z")
    with pytest.raises(ValueError, match="board H900 is unknown, expected one of Orin NX"):
        list(roofline.grids(boards=["H900"]))
    monkeypatch.setattr(sys, "argv", ["roofline", "--board", "H900"])
    with pytest.raises(SystemExit) as stopped:
        roofline.main()
    assert stopped.value.code == 2
    assert "board H900 is unknown" in capsys.readouterr().err


def test_the_terminal_shows_what_was_asked_for(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["roofline", "--board", "L4", "--network", "LC-F"])
    roofline.main()
    shown = capsys.readouterr().out
    assert "temporal_aggregate" in shown
    assert "encoder:AERIAL_RGBI" in shown
    assert "arithmetic, not measurement" in shown
    assert "LC-L" not in shown


def test_the_counter_of_plain_operations():
    x, weight = torch.empty(2, 5, 4, device="meta"), torch.empty(4, 3, device="meta")
    with measure_unfused() as counted:
        y = x @ weight  # reshaped on both sides, which moves nothing
        y.transpose(0, 1).relu()
        y.expand(2, 5, 3).clone()
    assert [each.name for each in counted.operations] == ["mm", "relu", "clone"]
    assert [each.moved for each in counted.operations] == [4 * (40 + 12 + 30), 4 * 60, 4 * 60]
    assert [each.matrix_flop for each in counted.operations] == [2 * 10 * 4 * 3, 0, 0]
    assert [each.vector_flop for each in counted.operations] == [0, 30, 0]


def test_a_convolution_that_pads_reads_what_is_there():
    x, weight = torch.empty(1, 2, 6, 6, device="meta"), torch.empty(3, 2, 3, 3, device="meta")
    with measure_unfused() as counted:
        padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
        torch.nn.functional.conv2d(padded, weight)
    assert counted.moved == 4 * (72 + 128 + 128 + 54 + 108)
    assert counted.load_of_products.moved == 4 * (72 + 54 + 108)
