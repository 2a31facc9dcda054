"""Which tensors run as kernels, and how that is switched off and on."""

import pytest
import torch
import triton

from uperfuse.kernels import disable
from uperfuse.kernels.dispatch import fused, interpret, interpreting

TENSOR = torch.zeros(1)


@pytest.fixture
def enabled_again(monkeypatch):
    """What a statement switched off is on again after the test."""
    from uperfuse.kernels import dispatch

    monkeypatch.setattr(dispatch, "_disabled", 0)


def test_a_cpu_tensor_runs_as_the_reference():
    assert not fused(TENSOR)
    assert not interpreting()


def test_a_cuda_tensor_runs_as_the_kernel():
    class OnCuda:
        is_cuda = True

    assert fused(OnCuda())
    with disable():
        assert not fused(OnCuda())


def test_the_interpreter_runs_kernels_on_the_cpu():
    with interpret():
        assert interpreting()
        assert fused(TENSOR)
        with interpret():
            assert fused(TENSOR)
        assert fused(TENSOR)
    assert not interpreting()


def test_the_interpreter_is_left_after_an_error():
    with pytest.raises(KeyError), interpret():
        raise KeyError
    assert not interpreting()


def test_the_interpreter_must_be_on(monkeypatch):
    monkeypatch.setattr(triton.knobs.runtime, "interpret", False)
    with pytest.raises(RuntimeError, match="expected TRITON_INTERPRET=1; set it before Python starts"), interpret():
        pass
    assert not interpreting()


def test_disabled_inside_of_a_with():
    with interpret():
        with disable():
            assert not fused(TENSOR)
            assert interpreting()
            with disable():
                assert not fused(TENSOR)
            assert not fused(TENSOR)
        assert fused(TENSOR)


def test_enabled_again_after_an_error():
    with interpret():
        with pytest.raises(KeyError), disable():
            raise KeyError
        assert fused(TENSOR)


def test_a_statement_holds_to_the_end(enabled_again):
    with interpret():
        disable()
        assert not fused(TENSOR)
        with disable():
            assert not fused(TENSOR)
        assert not fused(TENSOR)


def test_an_object_undoes_itself_once(enabled_again):
    with interpret():
        disable()
        once = disable()
        with once:
            pass
        assert not fused(TENSOR)
