"""Image encoders against timm itself, at the tile they were trained at and at others."""

import pytest
import timm
import torch

from uperfuse.trainer.network import BackboneSpec, ImageSpec
from uperfuse.trainer.network.images import ImageEncoder

SPEC = BackboneSpec("swin", (8, 16, 32, 64), (2, 2, 2, 2), (1, 2, 4, 8), (7, 7, 7, 7))


def timm_swin(shape_yx, windows, weights=None):
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        features_only=True,
        in_chans=3,
        img_size=shape_yx,
        embed_dim=8,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=windows,
    )
    if weights is not None:
        model.load_state_dict(weights, strict=True)
    return model.eval()


def pixels_of(rows, columns):
    return torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def encoder():
    """As SPOT's: trained at 64 px, where the deeper stages shrink their windows."""
    torch.manual_seed(0)
    return ImageEncoder(ImageSpec("SPOT_RGBI", 3, 64, SPEC.fitted(64))).eval()


def test_trained_tile_is_exactly_timms(encoder):
    reference = timm_swin((64, 64), 7, encoder.seg_model.model.state_dict())
    with torch.no_grad():
        ours, theirs = encoder(pixels_of(64, 64)), reference(pixels_of(64, 64))
    assert [tuple(each.shape) for each in ours] == [(2, 8 << level, 16 >> level, 16 >> level) for level in range(4)]
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want.permute(0, 3, 1, 2))


@pytest.mark.parametrize("shape_yx", [(128, 96), (96, 160)], ids=str)
def test_larger_tiles_keep_the_windows_of_the_checkpoint(encoder, shape_yx):
    # every stage is larger than its window here, so that timm shrinks none
    reference = timm_swin(shape_yx, (7, 7, 4, 2), encoder.seg_model.model.state_dict())
    with torch.no_grad():
        before = encoder(pixels_of(64, 64))
        ours, theirs = encoder(pixels_of(*shape_yx)), reference(pixels_of(*shape_yx))
        for got, want in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, want.permute(0, 3, 1, 2))
        # and the way back leaves no trace
        for got, want in zip(encoder(pixels_of(64, 64)), before, strict=True):
            assert torch.equal(got, want)


def test_sides_that_four_does_not_divide_are_padded_with_zeros(encoder):
    pixels = pixels_of(70, 129)
    with torch.no_grad():
        got = encoder(pixels)
        want = encoder(torch.nn.functional.pad(pixels, (0, 3, 0, 2)))
    for ours, theirs in zip(got, want, strict=True):
        assert torch.equal(ours, theirs)


def test_tiles_smaller_than_a_window_are_one_window(encoder):
    with torch.no_grad():
        maps = encoder(pixels_of(20, 16))
        assert [tuple(each.shape[2:]) for each in maps] == [(5, 4), (3, 2), (2, 1), (1, 1)]
        assert all(torch.isfinite(each).all() for each in maps)
        # without a shift every pixel of the only window sees every other one
        other = pixels_of(20, 16)
        other[0, :, -1, -1] += 1
        changed = (encoder(other)[0] - maps[0]).abs().amax(1)
    assert (changed[0] > 0).all()
    assert (changed[1] == 0).all()


def test_tile_set_without_gradients_serves_training(encoder):
    with torch.inference_mode():
        encoder(pixels_of(96, 64))
    sum(each.sum() for each in encoder(pixels_of(96, 64))).backward()
    encoder.zero_grad()


def test_convnext_takes_any_tile():
    spec = BackboneSpec("convnextv2", (8, 12, 20, 36), (1, 1, 1, 1))
    torch.manual_seed(0)
    encoder = ImageEncoder(ImageSpec("AERIAL_RGBI", 3, 64, spec)).eval()
    with torch.no_grad():
        maps = encoder(pixels_of(96, 64))
    assert [tuple(each.shape[1:]) for each in maps] == [(8, 24, 16), (12, 12, 8), (20, 6, 4), (36, 3, 2)]
    assert all(each.std() > 0 for each in maps)
