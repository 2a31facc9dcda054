"""Decoders against a second, literal writing of segmentation-models-pytorch 0.4.0 over the same parameters."""

import pytest
import torch
from torch.nn import functional as F

DIMS = (8, 16, 32, 64)
TASK = "AERIAL_LABEL-COSIA"


def pyramid_of(rows, columns):
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, dim, rows // stride, columns // stride, generator=generator, dtype=torch.float64)
        for dim, stride in zip(DIMS, (4, 8, 16, 32), strict=True)
    ]


class Literal:
    """Layers by their parameter names."""

    def __init__(self, network):
        root = f"main_decoders.{TASK}.seg_model."
        self.weights = {
            key.removeprefix(root): value for key, value in network.state_dict().items() if key.startswith(root)
        }

    def layer(self, name, x, padding=0):
        w = self.weights
        x = F.conv2d(x, w[f"{name}.0.weight"], padding=padding)
        statistics = (w[f"{name}.1.running_mean"], w[f"{name}.1.running_var"])
        return F.batch_norm(x, *statistics, w[f"{name}.1.weight"], w[f"{name}.1.bias"]).relu()

    def head(self, x, padding):
        name = "segmentation_head.0"
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], padding=padding)

    def upernet(self, pyramid):
        coarse = pyramid[-1]
        pooled = [
            F.interpolate(
                self.layer(f"decoder.psp.blocks.{i}.1", F.adaptive_avg_pool2d(coarse, parts)),
                size=coarse.shape[2:],
                mode="bilinear",
            )
            for i, parts in enumerate((1, 2, 3, 6))
        ]
        maps = [self.layer("decoder.psp.out_conv", torch.cat([coarse, *pooled], 1))]
        for i, skip in enumerate(pyramid[-2::-1]):
            above = F.interpolate(maps[-1], size=skip.shape[2:], mode="bilinear")
            maps.append(above + self.layer(f"decoder.fpn_stages.{i}.skip_conv", skip))
        maps.append(F.interpolate(maps[-1], scale_factor=2, mode="bilinear"))
        quarter = pyramid[0].shape[2:]
        joined = torch.cat([F.interpolate(each, size=quarter, mode="bilinear") for each in maps], 1)
        logits = self.head(self.layer("decoder.fpn_bottleneck", joined, padding=1), padding=0)
        return F.interpolate(logits, scale_factor=4, mode="bilinear", align_corners=True)

    def unet(self, pyramid):
        x = pyramid[-1]
        for i, skip in enumerate([*pyramid[-2::-1], None, None]):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            x = x if skip is None else torch.cat([x, skip], 1)
            x = self.layer(f"decoder.blocks.{i}.conv1", x, padding=1)
            x = self.layer(f"decoder.blocks.{i}.conv2", x, padding=1)
        return self.head(x, padding=1)


@pytest.mark.parametrize("kind", ["upernet", "unet"])
@pytest.mark.parametrize("shape_yx", [(64, 64), (96, 224), (32, 64)], ids=str)
def test_equals_the_literal_one(kind, shape_yx, spec_of, network_of):
    network = network_of(spec_of("AERIAL_RGBI", decoder=kind))
    pyramid = pyramid_of(*shape_yx)
    with torch.no_grad():
        got = network.enlarge(network.decode(TASK, pyramid))
        want = getattr(Literal(network), kind)(pyramid)
    assert got.shape == (2, 5, *shape_yx)
    torch.testing.assert_close(got, want)


def test_logits_stay_at_a_quarter_until_they_are_enlarged(spec_of, network_of):
    for kind, scale in (("upernet", 4), ("unet", 1)):
        network = network_of(spec_of("AERIAL_RGBI", decoder=kind))
        assert network.head_scale == scale
        logits = network.decode(TASK, pyramid_of(64, 96))
        assert logits.shape == (2, 5, 64 // scale, 96 // scale)


def test_sides_that_32_does_not_divide(spec_of, network_of, tiles_of):
    for kind in ("upernet", "unet"):
        network = network_of(spec_of("AERIAL_RGBI", decoder=kind))
        pixels = torch.randn(1, 3, 70, 90, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        with torch.no_grad():
            logits = network({"AERIAL_RGBI": pixels})[TASK]
        assert logits.shape == (1, 5, 70, 90)
        assert torch.isfinite(logits).all()
        assert logits.std() > 0


def test_unet_has_the_published_names(spec_of, network_of):
    network = network_of(spec_of("AERIAL_RGBI", decoder="unet"))
    root = f"main_decoders.{TASK}.seg_model."
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layer = ["0.weight", *(f"1.{name}" for name in norm)]
    want = {f"{root}decoder.blocks.{i}.conv{j}.{name}" for i in range(5) for j in (1, 2) for name in layer}
    want |= {f"{root}segmentation_head.0.weight", f"{root}segmentation_head.0.bias"}
    weights = {key: tuple(value.shape) for key, value in network.state_dict().items() if key.startswith(root)}
    assert set(weights) == want
    assert weights[f"{root}decoder.blocks.0.conv1.0.weight"] == (24, 64 + 32, 3, 3)
    assert weights[f"{root}decoder.blocks.3.conv1.0.weight"] == (8, 12, 3, 3)
    assert weights[f"{root}segmentation_head.0.weight"] == (5, 6, 3, 3)
