"""Compiled kernels, launched with PyCUDA by their records, give what the operations give."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from tests.simulated_cuda import control
from uperfuse.engine.launching import (
    KernelFiles,
    KernelRequest,
    aggregate_request,
    attention_numbers,
    attention_request,
    classify_numbers,
    classify_request,
    fusion_request,
    prepare_request,
    resize_steps,
)
from uperfuse.kernels.build import compile_requests
from uperfuse.kernels.classify import Resize, classify
from uperfuse.kernels.prepare import Channels, prepare
from uperfuse.kernels.pyramid_fusion import project_and_fuse, pyramid_fusion
from uperfuse.kernels.temporal_aggregate import temporal_aggregate
from uperfuse.kernels.temporal_attention import AttentionWeights, temporal_attention
from uperfuse.kernels.temporal_attention.reference import absorb

from .launching import Launcher

TORCH = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# both sides compute in float32, in another order, and round once
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1.6e-2}
HEADS, CHANNELS, EMBEDDING, PERIOD = 16, 32, 64, 1000.0
RESIZES = {
    0: ((22, 40), []),
    1: ((7, 10), [((22, 40), True)]),
    2: ((5, 9), [((20, 36), True), ((22, 40), False)]),
}
MAP_YX = (22, 40)
SUMMED = {0: ((3, 5), [((3, 5), 32), ((3, 5), 16)]), 1: ((3, 5), [((3, 5), 32), ((6, 7), 16), ((12, 9), 16)])}

REQUESTS: dict[str, KernelRequest] = {
    "prepare u8": prepare_request(sample="u8", dtype="fp16", pixels=48),
    "prepare u16": prepare_request(sample="u16", dtype="bf16", pixels=48),
    "prepare fp32": prepare_request(sample="fp32", dtype="fp32", pixels=4097),
    **{
        f"attention {dtype} {dates}": attention_request(
            heads=HEADS, channels=CHANNELS, embedding=EMBEDDING, dtype=dtype, dates=dates
        )
        for dtype, dates in (("fp16", 5), ("bf16", 70))
    },
    **{
        f"aggregate {dtype} {resized}": aggregate_request(
            heads=HEADS, channels=[C for _, C in SUMMED[resized][1]], dtype=dtype, resized=bool(resized)
        )
        for dtype, resized in (("fp16", 0), ("fp32", 1))
    },
    "fusion fp16": fusion_request(channels=16, dtype="fp16"),
    "fusion fp32 base": fusion_request(channels=24, dtype="fp32", base_channels=12),
    **{
        f"classify {dtype} {steps}": classify_request(
            dtype=dtype, logits_yx=RESIZES[steps][0], map_yx=MAP_YX, resizes=RESIZES[steps][1]
        )
        for dtype, steps in (("fp16", 0), ("fp32", 1), ("fp32", 2))
    },
}


@pytest.fixture(scope="session")
def compiled() -> dict[str, KernelFiles]:
    """Cubins of Orin and their records, by name."""
    files = compile_requests(REQUESTS.values(), capabilities=[87], jobs=1)
    return dict(zip(REQUESTS, files, strict=True))


@pytest.fixture
def launcher(cuda, gpu, compiled):
    """Puts a kernel and its arrays on the device: `launcher("prepare u8", arguments)`."""
    control.register(each.record for each in compiled.values())
    return lambda name, arguments: Launcher(gpu, compiled[name], arguments)


@pytest.fixture(params=["lazy", "eager"])
def run(request, launcher, gpu):
    """Launches a kernel once: `run(name, arguments)` has what it wrote."""
    control.configure(schedule=request.param)

    def launch(name, arguments):
        made = launcher(name, arguments)
        stream = gpu.Stream()
        made.launch(stream)
        for parameter in made.record.parameters:
            if parameter.written and parameter.name in made.arrays and parameter.dtype in TORCH:
                there = control.memory(int(made.arrays[parameter.name][0]), 2)
                assert (there == 0xFF).all(), "a kernel ran before anybody waited"
        stream.synchronize()
        return made.read

    return launch


def drawn(*shape: int, dtype: str = "fp32", seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(TORCH[dtype])


def assert_close(got: Tensor, expected: Tensor) -> None:
    (name,) = (name for name, dtype in TORCH.items() if dtype == got.dtype)
    torch.testing.assert_close(
        got.float(), expected.float().reshape(got.shape), rtol=TOLERANCE[name], atol=TOLERANCE[name]
    )


@pytest.mark.parametrize(("name", "shape"), [("u8", (2, 5, 6, 8)), ("u16", (1, 3, 6, 8)), ("fp32", (2, 3, 17, 241))])
@pytest.mark.parametrize("voids", [False, True])
def test_prepare(run, name, shape, voids):
    integers = torch.randint(0, 200, shape, generator=torch.Generator().manual_seed(1))
    pixels = integers.to({"u8": torch.uint8, "u16": torch.uint16, "fp32": torch.float32}[name])
    if name == "fp32":
        pixels[1, 0, 3, 5] = torch.nan
    void = drawn(shape[0], *shape[2:]) > 0.5 if voids else None
    channels = Channels.of(band=[1, 0], minus=[-1, 2], mean=[99.5, 3.0], std=[40.0, 7.0])
    wide = pixels if name != "u16" else integers.to(torch.int16)
    request = REQUESTS[f"prepare {name}"]
    expected = prepare(wide, channels=channels, void=void, dtype=TORCH[request.types["T"]])
    B, bands, Y, X = shape
    arguments = {"pixels": pixels, "band": channels.band, "minus": channels.minus, "mean": channels.mean}
    arguments |= {"std": channels.std, "B": B, "BANDS": bands, "C": 2, "N": Y * X, "VOIDS": int(voids)}
    read = run(f"prepare {name}", arguments | ({} if void is None else {"void": void.to(torch.uint8)}))
    assert torch.equal(read("out").nan_to_num(), expected.values.nan_to_num().reshape(B, 2, Y * X))
    assert read("broken").sum(1).tolist() == expected.broken.tolist()


@pytest.mark.parametrize(("dtype", "dates"), [("fp16", 5), ("bf16", 70)])
def test_temporal_attention(run, dtype, dates):
    B, Y, X, P = 2, 3, 5, EMBEDDING // HEADS
    features = drawn(B, dates, Y, X, CHANNELS, dtype=dtype)
    mask = torch.rand(B, dates, generator=torch.Generator().manual_seed(3)) > 0.3
    mask[1] = False
    days = torch.randint(-200, 200, (B, dates), generator=torch.Generator().manual_seed(4)).float()
    weights = AttentionWeights(
        norm_scale=1 + 0.1 * drawn(CHANNELS, seed=5),
        norm_shift=drawn(CHANNELS, seed=6),
        embed=drawn(EMBEDDING, CHANNELS, seed=7, dtype=dtype).float() / 6,
        embed_bias=drawn(EMBEDDING, seed=8),
        key=drawn(HEADS * 4, EMBEDDING, seed=9) / 8,
        key_bias=drawn(HEADS * 4, seed=10),
        query=drawn(HEADS, 4, seed=11),
        period=PERIOD,
    )
    score, score_position, score_bias = absorb(weights)
    numbers = attention_numbers(period=PERIOD, entries=P)
    arguments = {"features": features, "days": days, "mask": mask.to(torch.uint8), "score": score}
    arguments |= {"norm_scale": weights.norm_scale, "norm_shift": weights.norm_shift, "score_bias": score_bias}
    arguments |= {"score_position": score_position, "embed": (weights.embed).to(TORCH[dtype])}
    arguments |= {"embed_bias": weights.embed_bias, "seed": torch.zeros(1, dtype=torch.int64)}
    read = run(
        f"attention {dtype} {dates}", arguments | {"B": B, "T": dates, "N": Y * X, **numbers._asdict(), "dropout": 0.0}
    )
    context, attention = temporal_attention(features.float().permute(0, 1, 4, 2, 3), days, mask, weights=weights)
    assert_close(read("context"), context.permute(0, 2, 3, 1))
    assert_close(read("attention"), attention.permute(0, 2, 3, 4, 1))
    assert (read("attention")[1] == 0).all()
    assert read("normaliser").isfinite().all()


@pytest.mark.parametrize(("dtype", "resized"), [("fp16", 0), ("fp32", 1)])
def test_temporal_aggregate(run, dtype, resized):
    B, T = 2, 4
    (YA, XA), of = SUMMED[resized]
    attention = drawn(B, T, YA, XA, HEADS, dtype=dtype).abs()
    maps = [drawn(B, T, *yx, C, dtype=dtype, seed=C) for yx, C in of]
    arguments = {"attention": attention, "B": B, "T": T, "YA": YA, "XA": XA}
    arguments |= {f"{axis}{i}": 0 for axis in "YX" for i in range(4)}
    for i, each in enumerate(maps):
        arguments |= {f"features{i}": each, f"Y{i}": each.shape[2], f"X{i}": each.shape[3]}
    read = run(f"aggregate {dtype} {resized}", arguments)
    expected = temporal_aggregate(
        [each.float().permute(0, 1, 4, 2, 3) for each in maps], attention.float().permute(0, 4, 1, 2, 3)
    )
    for i, each in enumerate(expected):
        assert_close(read(f"out{i}"), each.permute(0, 2, 3, 1))


def fusion_arguments(dtype, *, same=(), sampled=(), size, channels):
    """Scalars and maps, with zeros where none is."""
    Y, X = size
    arguments = {"B": 2, "Y": Y, "X": X, "CIN": 0, "COUT": channels, "BIASES": 0, "MAPS": len(sampled)}
    arguments |= {f"BS{i}": 0 for i in range(2)} | {f"{axis}{i}": 0 for axis in "BYX" for i in range(5)}
    for i, each in enumerate(same):
        arguments |= {f"same{i}": each, f"BS{i}": each.shape[0]}
    for i, each in enumerate(sampled):
        arguments |= {f"map{i}": each, f"B{i}": each.shape[0], f"Y{i}": each.shape[1], f"X{i}": each.shape[2]}
    return arguments


def channels_first(maps):
    return [each.float().permute(0, 3, 1, 2) for each in maps]


def test_pyramid_fusion(run):
    same, sampled = [drawn(2, 9, 13, 16, dtype="fp16")], [drawn(1, 4, 5, 16, dtype="fp16", seed=1)]
    arguments = fusion_arguments("fp16", same=same, sampled=sampled, size=(9, 13), channels=16)
    read = run("fusion fp16", arguments)
    expected = pyramid_fusion(channels_first([*same, *sampled]), size=(9, 13))
    assert_close(read("out"), expected.permute(0, 2, 3, 1))


def test_pyramid_fusion_with_a_projection(run):
    base, sampled = drawn(2, 6, 7, 12), [drawn(2, 3, 2, 24, seed=1), drawn(1, 1, 1, 24, seed=2)]
    weight, bias = drawn(24, 12, seed=3), drawn(24, seed=4)
    arguments = fusion_arguments("fp32", sampled=sampled, size=(6, 7), channels=24)
    arguments |= {"base": base, "weight": weight, "bias": bias, "CIN": 12, "BIASES": 24}
    read = run("fusion fp32 base", arguments)
    (wide,) = channels_first([base])
    expected = project_and_fuse(wide, weight=weight[:, :, None, None], bias=bias, maps=channels_first(sampled))
    assert_close(read("out"), expected.permute(0, 2, 3, 1))


def classify_arguments(dtype, steps, void=None):
    logits_yx, resizes = RESIZES[steps]
    logits = drawn(2, 5, *logits_yx, dtype=dtype)
    logits[1, 2, 3, 4] = torch.inf
    numbers = classify_numbers(logits_yx, map_yx=MAP_YX, steps=resize_steps(logits_yx, resizes=resizes))
    arguments = {"logits": logits, "B": 2, "K": 5, "VOIDS": int(void is not None), **numbers}
    return arguments | ({} if void is None else {"void": void.to(torch.uint8)})


@pytest.mark.parametrize(("dtype", "steps"), [("fp16", 0), ("fp32", 1), ("fp32", 2)])
@pytest.mark.parametrize("voids", [False, True])
def test_classify(run, dtype, steps, voids):
    void = drawn(2, *MAP_YX) > 1 if voids else None
    arguments = classify_arguments(dtype, steps, void)
    read = run(f"classify {dtype} {steps}", arguments)
    resizes = [Resize(yx, aligned) for yx, aligned in RESIZES[steps][1]]
    expected = classify(arguments["logits"], resizes=resizes, void=void)
    assert torch.equal(read("labels"), expected.labels)
    assert torch.equal(read("confidence"), expected.confidence)
    assert read("broken").sum(1).tolist() == expected.broken.tolist()
    assert expected.broken[1] > 0


def test_a_graph_of_kernels_is_replayed_on_what_lies_there_then(launcher, gpu, cuda):
    from uperfuse.engine._native import CudaGraph

    made = launcher("classify fp32 1", classify_arguments("fp32", 1))
    stream = gpu.Stream()
    CudaGraph.capture_begin(stream.handle)
    made.launch(stream)
    graph = CudaGraph.capture_end(stream.handle)
    for seed in (1, 2):
        logits = drawn(2, 5, *RESIZES[1][0], seed=seed)
        gpu.memcpy_htod(made.arrays["logits"][0], logits.numpy())
        graph.launch(stream.handle)
        stream.synchronize()
        assert torch.equal(made.read("labels"), classify(logits, resizes=[Resize(MAP_YX, True)]).labels)
    graph.close()


WRONG = {
    "outside": (lambda made: made.point("logits", int(made.arrays["logits"][0]) + 16), r"logits: .* of an allocation"),
    "freed": (lambda made: made.arrays["logits"][0].free(), "logits: .* that was freed"),
    "null": (lambda made: made.point("labels", 0), "labels: 0x0 is null"),
    "host": (lambda made: made.point("labels", 0x7F0000001000), "labels: .* is no device address"),
    "unaligned": (lambda made: made.point("logits", int(made.arrays["logits"][0]) + 4), "expected a multiple of 16"),
    "overlap": (
        lambda made: made.point("confidence", int(made.arrays["labels"][0])),
        "writes labels, which overlaps confidence",
    ),
    "scratch": (lambda made: made.point("global_scratch", 16), "global_scratch is 0x10, expected zero"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_argument_is_an_illegal_address(launcher, gpu, cuda, mistake):
    spoil, said = WRONG[mistake]
    made = launcher("classify fp32 1", classify_arguments("fp32", 1))
    stream = gpu.Stream()
    spoil(made)
    made.launch(stream)
    with pytest.raises(gpu.LogicError, match="illegal memory access"):
        stream.synchronize()
    (problem,) = cuda.take_problems()
    assert re.match(rf"kernel classify: .*{said}", problem), problem
