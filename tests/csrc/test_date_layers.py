"""`_native.DateLayers` against PyTorch in float64: convolution, group normalisation, rectifier, residual sum."""

import numpy as np
import pytest
import torch
from torch import nn

from uperfuse.engine import _native

EPSILON = 1e-5
UTAE = [(10, 64), (64, 64), (64, 64), (64, 64), (64, 64, "+"), (64, 128), (128, 128, "+")]
ODD = [(3, 20), (20, 20, "+"), (20, 100), (100, 12)]
"""No number of channels is a multiple of a vector; a block of weights is broken off after 3 of 4 vectors."""


@pytest.fixture(params=_native.levels())
def level(request):
    return request.param


def modules_of(widths, *, groups=4, seed=0):
    torch.manual_seed(seed)
    made = []
    for before, after, *residual in widths:
        convolution = nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
        norm = nn.GroupNorm(groups, after, eps=EPSILON)
        nn.init.normal_(norm.weight, 1.0, 0.3)
        nn.init.normal_(norm.bias)
        made.append((convolution, norm, bool(residual)))
    return made


def layers_of(modules, *, level=None):
    layers = _native.DateLayers(level=level)
    for convolution, norm, residual in modules:
        layers.append(
            weight=convolution.weight.detach().numpy(),
            bias=convolution.bias.detach().numpy(),
            scale=norm.weight.detach().numpy(),
            shift=norm.bias.detach().numpy(),
            groups=norm.num_groups,
            epsilon=norm.eps,
            residual=residual,
        )
    return layers


def expected_of(modules, pixels):
    found, x = [], torch.from_numpy(pixels).double()
    with torch.no_grad():
        for convolution, norm, residual in modules:
            y = torch.relu(norm.double()(convolution.double()(x)))
            x = x + y if residual else y
            found.append(x.numpy())
    return found


def room(modules, pixels):
    """Arrays for what every layer gives."""
    dates, _, *size = pixels.shape
    return {
        index: np.full((dates, convolution.out_channels, *size), np.nan, np.float32)
        for index, (convolution, *_) in enumerate(modules)
    }


def series(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("size", [(2, 2), (2, 3), (3, 2), (5, 5), (10, 10), (7, 12), (41, 40)], ids=str)
@pytest.mark.parametrize("widths", [UTAE, ODD], ids=["utae", "odd"])
def test_every_layer_equals_torch(widths, size, level):
    modules = modules_of(widths)
    pixels = series((5, widths[0][0], *size))
    out, layers = room(modules, pixels), layers_of(modules, level=level)
    layers.run(pixels, mask=np.ones(5, np.float32), out=out, threads=2)
    for index, expected in enumerate(expected_of(modules, pixels)):
        # of maps of 2 x 2 px some groups hardly vary: their deviation multiplies rounding
        np.testing.assert_allclose(out[index], expected, rtol=0, atol=2e-5 * np.abs(expected).max(), err_msg=str(index))


@pytest.mark.parametrize("groups", [1, 2, 20])
def test_groups_of_any_size(groups, level):
    modules = modules_of([(3, 20), (20, 20)], groups=groups)
    pixels = series((2, 3, 6, 6))
    out, layers = room(modules, pixels), layers_of(modules, level=level)
    layers.run(pixels, mask=np.ones(2, np.float32), out=out)
    for index, expected in enumerate(expected_of(modules, pixels)):
        np.testing.assert_allclose(out[index], expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_maps_far_from_zero_keep_their_contrast(level):
    """A bias of 1000 under a variation of 1: squares summed in float32 would have lost it."""
    modules = modules_of([(4, 16)])
    with torch.no_grad():
        modules[0][0].bias += 1000
    pixels = series((1, 4, 10, 10))
    out = room(modules, pixels)
    layers_of(modules, level=level).run(pixels, mask=np.ones(1, np.float32), out=out)
    np.testing.assert_allclose(out[0], expected_of(modules, pixels)[0], rtol=0, atol=1e-3)


def test_no_result_depends_on_threads_or_on_other_dates(level):
    modules = modules_of(ODD)
    pixels, layers = series((9, 3, 6, 5)), layers_of(modules, level=level)
    ones = np.ones(9, np.float32)
    alone = room(modules, pixels)
    layers.run(pixels, mask=ones, out=alone, threads=1)
    for threads in (2, 3, 32):
        out = room(modules, pixels)
        layers.run(pixels, mask=ones, out=out, threads=threads)
        for index, array in out.items():
            np.testing.assert_array_equal(array, alone[index])
    for date in range(9):
        one = pixels[date : date + 1]
        out = room(modules, one)
        layers.run(one, mask=ones[:1], out=out)
        np.testing.assert_array_equal(out[3][0], alone[3][date])


def test_dates_outside_the_mask_are_not_looked_at_and_give_zeros(level):
    modules = modules_of(ODD)
    pixels, layers = series((4, 3, 6, 5)), layers_of(modules, level=level)
    pixels[2] = np.nan
    out = room(modules, pixels)
    layers.run(pixels, mask=np.array([1, 1, 0, 1], np.float32), out=out, threads=2)
    kept = [0, 1, 3]
    for index, expected in enumerate(expected_of(modules, pixels[kept])):
        assert not out[index][2].any()
        np.testing.assert_allclose(out[index][kept], expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    layers.run(pixels, mask=np.zeros(4, np.float32), out=out)
    assert not any(array.any() for array in out.values())


def test_a_value_that_is_no_number_is_not_hidden(level):
    modules = modules_of(ODD)
    pixels = series((1, 3, 6, 5))
    pixels[0, 1, 2, 2] = np.nan
    out = room(modules, pixels)
    layers_of(modules, level=level).run(pixels, mask=np.ones(1, np.float32), out=out)
    assert np.isnan(out[3]).all()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 3, 0, 1), (1, 0, 2, 3)], ids=str)
def test_outputs_of_other_orders(order, level):
    modules = modules_of([(3, 20), (20, 12)])
    pixels, layers = series((3, 3, 6, 5)), layers_of(modules, level=level)
    plain = room(modules, pixels)
    layers.run(pixels, mask=np.array([1, 0, 1], np.float32), out=plain)
    back = np.argsort(order)
    other = np.full([plain[1].shape[axis] for axis in order], np.nan, np.float32).transpose(back)
    layers.run(pixels, mask=np.array([1, 0, 1], np.float32), out={1: other})
    np.testing.assert_array_equal(other, plain[1])


WRONG = {
    r"weight has shape \[16, 5, 3, 3\]; expected \[out, in, 3, 3\] = \[any, 20, 3, 3\]": {"weight": (16, 5, 3, 3)},
    r"weight has shape \[16, 20, 5, 5\]": {"weight": (16, 20, 5, 5)},
    r"bias has shape \[15\]; expected \[out\] = \[16\]": {"bias": (15,)},
    r"groups is 3; expected a divisor of 16 channels": {"groups": 3},
    r"groups is 0; expected a divisor": {"groups": 0},
    r"epsilon is 0.0*; expected a finite float32 above 0": {"epsilon": 0.0},
    r"residual is True for 20 channels in and 16 out; expected as many": {"residual": True},
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_no_layer_is_refused(said):
    layers = layers_of(modules_of([(3, 20)]))
    right = {"weight": (16, 20, 3, 3), "bias": (16,), "scale": (16,), "shift": (16,), "groups": 4, "epsilon": 1e-5}
    given = {k: np.zeros(v, np.float32) if isinstance(v, tuple) else v for k, v in (right | WRONG[said]).items()}
    with pytest.raises(ValueError, match=said):
        layers.append(**given)
    layers.append(**{k: np.zeros(v, np.float32) if isinstance(v, tuple) else v for k, v in right.items()})


def test_what_cannot_run_is_refused():
    modules = modules_of([(3, 20)])
    layers, pixels, mask = layers_of(modules), series((2, 3, 6, 5)), np.ones(2, np.float32)
    out = room(modules, pixels)
    with pytest.raises(ValueError, match="there are no layers"):
        _native.DateLayers().run(pixels, mask=mask, out={})
    with pytest.raises(ValueError, match=r"pixels has shape \[2, 4, 6, 5\]; expected \[T, C, Y, X\] = \[any, 3, any"):
        layers.run(series((2, 4, 6, 5)), mask=mask, out=out)
    with pytest.raises(ValueError, match=r"pixels has shape \[2, 3, 1, 5\]; expected at least 2 x 2 px"):
        layers.run(series((2, 3, 1, 5)), mask=mask, out=out)
    with pytest.raises(ValueError, match=r"mask has shape \[3\]; expected \[T\] = \[2\]"):
        layers.run(pixels, mask=np.ones(3, np.float32), out=out)
    with pytest.raises(TypeError, match="pixels has dtype float64; expected float32"):
        layers.run(pixels.astype(np.float64), mask=mask, out=out)
    with pytest.raises(ValueError, match="pixels is not C-contiguous"):
        layers.run(pixels[:, :, ::-1], mask=mask, out=out)
    with pytest.raises(ValueError, match=r"out\[1\] is of no layer; expected 0 to 0"):
        layers.run(pixels, mask=mask, out={1: out[0]})
    with pytest.raises(ValueError, match=r"out\[0\] has shape \[2, 20, 6, 4\]"):
        layers.run(pixels, mask=mask, out={0: out[0][..., :4]})
    with pytest.raises(ValueError, match=r"out\[0\] has rows that do not follow each other"):
        layers.run(pixels, mask=mask, out={0: np.zeros((2, 20, 6, 7), np.float32)[..., :5]})
    out[0].flags.writeable = False
    with pytest.raises(ValueError, match=r"out\[0\] is read-only"):
        layers.run(pixels, mask=mask, out=out)
    with pytest.raises(ValueError, match="level is 'mmx'"):
        _native.DateLayers(level="mmx")
