"""Arrays of a GPU between libraries: both protocols, what is kept alive, and what is refused."""

import gc
import weakref

import numpy as np
import pytest
import torch

from uperfuse.engine import TileError, _native
from uperfuse.engine.device_array import DeviceArray, as_device_array


class Owner:
    """Something whose end can be seen."""


class Interface:
    """An array of a library that speaks CUDA's array interface; it lies wherever it says."""

    def __init__(self, **changes):
        self.__cuda_array_interface__ = {
            "shape": (2, 3, 4),
            "typestr": "<u2",
            "data": (1 << 20, False),
            "version": 3,
            "strides": None,
        } | changes


class OnGpu:
    """A host array that a library says is CUDA's, by DLPack."""

    def __init__(self, array, *, device=(2, 1)):
        self.array = array
        self.device = device
        self.streams = []

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        return self.array.__dlpack__()


def test_the_array_interface_is_read():
    given = Interface(stream=7)
    array = as_device_array(given, what="AERIAL_RGBI")
    assert (array.address, array.shape, array.dtype, array.stream) == (1 << 20, (2, 3, 4), np.uint16, 7)
    assert array.owner is given
    assert array.nbytes == 48
    assert array[1].address == (1 << 20) + 24
    assert array[1].stacked().shape == (1, 3, 4)
    with pytest.raises(IndexError):
        array[2]


def test_dense_strides_are_dense():
    assert as_device_array(Interface(strides=(24, 8, 2)), what="x").shape == (2, 3, 4)
    with pytest.raises(TileError, match=r"x lies on the GPU with strides \(48, 8, 2\)"):
        as_device_array(Interface(strides=(48, 8, 2)), what="x")


@pytest.mark.parametrize("array", [np.zeros((2, 3)), torch.zeros(2, 3), [[1, 2]], None])
def test_what_lies_on_the_host_is_none(array):
    assert as_device_array(array, what="x") is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_dlpack_is_read_where_it_lies(dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    given = OnGpu(values)
    array = as_device_array(given, what="x")
    assert (array.address, array.shape, array.dtype) == (values.ctypes.data, (2, 3, 4), values.dtype)
    assert array.ordinal == 1
    # the maker was told whose stream to wait for, and the array may still be written there
    assert given.streams == [1]
    assert array.stream == 1


def test_dlpack_with_gaps_or_strange_types_is_refused():
    with pytest.raises(TileError, match="gaps"):
        as_device_array(OnGpu(np.zeros((4, 4), np.uint8)[:, ::2]), what="x")
    with pytest.raises(TileError, match="type 5 of 64 bits"):
        as_device_array(OnGpu(np.zeros(3, np.complex64)), what="x")


def test_what_dlpack_lends_is_kept_and_let_go():
    values = np.arange(6, dtype=np.float32)
    alive = weakref.ref(values)
    array = as_device_array(OnGpu(values), what="x")
    del values
    gc.collect()
    assert alive() is not None
    del array
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(("dtype", "type_"), [(np.uint8, (1, 8, 1)), (np.float32, (2, 32, 1)), (np.int16, (0, 16, 1))])
def test_our_arrays_are_lent_by_both_protocols(dtype, type_):
    array = DeviceArray(4096, (2, 5), np.dtype(dtype), Owner(), 3)
    assert array.__dlpack_device__() == (2, 3)
    borrowed = _native.borrow_array(array.__dlpack__(stream=None))
    assert borrowed.describe() == (4096, (2, 5), type_, (2, 3), True)
    interface = array.__cuda_array_interface__
    assert interface["data"] == (4096, False)
    assert np.dtype(interface["typestr"]) == dtype
    assert interface["stream"] is None


def test_a_lent_array_lives_as_long_as_its_last_user():
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = DeviceArray(4096, (3,), np.dtype(np.uint8), owner).__dlpack__()
    del owner
    gc.collect()
    assert alive() is not None
    borrowed = _native.borrow_array(capsule)
    del capsule  # a used capsule gives nothing back
    gc.collect()
    assert alive() is not None
    del borrowed
    gc.collect()
    assert alive() is None


def test_a_capsule_that_nobody_takes_gives_its_array_back():
    owner = Owner()
    alive = weakref.ref(owner)
    capsule = DeviceArray(4096, (3,), np.dtype(np.uint8), owner).__dlpack__()
    del owner, capsule
    gc.collect()
    assert alive() is None


def test_a_capsule_is_taken_once():
    capsule = DeviceArray(4096, (3,), np.dtype(np.uint8), None).__dlpack__()
    _native.borrow_array(capsule)
    with pytest.raises(ValueError, match="no unused DLPack capsule"):
        _native.borrow_array(capsule)
    with pytest.raises(ValueError, match="no unused DLPack capsule"):
        _native.borrow_array(object())


def test_numpy_takes_what_is_lent_from_the_host():
    values = np.arange(6, dtype=np.uint16).reshape(2, 3)

    class Lent:
        def __dlpack_device__(self):
            return (1, 0)

        def __dlpack__(self, **_):
            address = values.ctypes.data
            return _native.lend_array(address, shape=(2, 3), code=1, bits=16, device_type=1, ordinal=0, owner=values)

    taken = np.from_dlpack(Lent())
    assert (taken == values).all()
    assert taken.ctypes.data == values.ctypes.data
