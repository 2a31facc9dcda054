"""The simulation's laws of compiled kernels: which device takes which image, and which launches are refused."""

from __future__ import annotations

import ctypes

import pytest
import torch

from tests.simulated_cuda import control
from uperfuse.engine.launching import KernelFiles, prepare_request
from uperfuse.kernels.build import compile_requests

from . import raw
from .launching import Launcher

CAPABILITIES = (86, 87, 90, 100)
REQUEST = prepare_request(sample="u8", dtype="fp16", pixels=48)
INVALID_HANDLE, NOT_FOUND, ILLEGAL_ADDRESS, LAUNCH_FAILED = 400, 500, 700, 719
# cubins run on their architecture and on later ones of its generation, but not on boards like Orin; sm_90a and sm_100a
# run on their own alone
RUNS = {
    86: {80: False, 86: True, 87: False, 89: True, 90: False},
    87: {86: False, 87: True, 89: False, 90: False},
    90: {87: False, 90: True, 100: False},
    100: {90: False, 100: True, 103: False, 120: False},
}


@pytest.fixture(scope="session")
def compiled() -> dict[int, KernelFiles]:
    files = compile_requests([REQUEST], capabilities=CAPABILITIES, jobs=1)
    return {each.record.capability: each for each in files}


@pytest.fixture
def prepared(gpu, compiled):
    """A launch of `prepare` that can be spoilt, and what it needs."""
    control.register([compiled[87].record])
    return Launcher(gpu, compiled[87], arguments())


def arguments():
    """Two bands of 48 pixels, as they are."""
    table = {"band": [0, 1], "minus": [-1, -1]}
    made = {name: torch.tensor(values, dtype=torch.int32) for name, values in table.items()}
    made |= {"mean": torch.zeros(2), "std": torch.ones(2), "pixels": torch.arange(96, dtype=torch.uint8)}
    return made | {"B": 1, "BANDS": 2, "C": 2, "N": 48, "VOIDS": 0}


@pytest.mark.parametrize(("image", "device"), [(image, device) for image, on in RUNS.items() for device in on])
def test_a_cubin_runs_where_it_may(gpu, cuda, compiled, image, device):
    cuda.configure(capability=device)
    if RUNS[image][device]:
        module = gpu.module_from_buffer(compiled[image].cubin)
        assert module.get_function("prepare").num_regs > 0
    else:
        with pytest.raises(gpu.RuntimeError, match="no kernel image is available for execution on the device"):
            gpu.module_from_buffer(compiled[image].cubin)


PTX = {
    "the same": (87, 87, {}, None),
    "a later board": (86, 120, {}, None),
    "an earlier board": (87, 86, {}, "no kernel image is available"),
    "another than sm_90a": (90, 100, {}, "no kernel image is available"),
    "a driver that is too old": (87, 87, {"driver_version": 12060}, "unsupported toolchain"),
    "a driver that compiles none": (87, 87, {"ptx": False}, "PTX JIT compilation was disabled"),
}


@pytest.mark.parametrize("case", PTX)
def test_ptx_runs_where_it_may(gpu, cuda, compiled, case):
    image, device, settings, refusal = PTX[case]
    cuda.configure(capability=device, **settings)
    if refusal is None:
        assert gpu.module_from_buffer(compiled[image].ptx).get_function("prepare")
    else:
        with pytest.raises(gpu.Error, match=refusal):
            gpu.module_from_buffer(compiled[image].ptx)


def test_a_kernel_runs_from_its_ptx(gpu, cuda, compiled):
    """On a board that no cubin was compiled for."""
    cuda.configure(capability=120)
    cuda.register([compiled[86].record])
    files = compiled[86]
    made = Launcher(gpu, KernelFiles(files.record, files.ptx, files.ptx), arguments())
    stream = gpu.Stream()
    made.launch(stream)
    assert torch.equal(made.read("out").flatten(), torch.arange(96).half())


def test_a_cubin_needs_a_driver_of_its_time(gpu, cuda, compiled):
    assert int(compiled[100].record.ptxas.split(".")[0]) == 13
    cuda.configure(capability=100, driver_version=12090)
    with pytest.raises(gpu.LogicError, match="device kernel image is invalid"):
        gpu.module_from_buffer(compiled[100].cubin)


@pytest.mark.parametrize("image", [b"", b"no image", b"\x7fELF" + bytes(100)], ids=["empty", "text", "another ELF"])
def test_what_is_no_image_is_refused(gpu, image):
    with pytest.raises(gpu.LogicError, match="device kernel image is invalid"):
        gpu.module_from_buffer(image)


def test_functions_have_names_and_go_with_their_module(gpu, cuda, compiled):
    """By the driver's own calls: PyCUDA keeps the module of a function."""
    module, function, value = ctypes.c_uint64(), ctypes.c_uint64(), ctypes.c_int()
    assert raw.call("cuModuleLoadData", ctypes.byref(module), compiled[87].cubin) == 0
    assert raw.call("cuModuleGetFunction", ctypes.byref(function), module.value, b"prepared") == NOT_FOUND
    assert raw.call("cuModuleGetFunction", ctypes.byref(function), module.value, b"prepare") == 0
    assert raw.call("cuModuleUnload", module.value) == 0
    assert raw.call("cuFuncGetAttribute", ctypes.byref(value), 0, function.value) == INVALID_HANDLE
    assert raw.call("cuModuleUnload", module.value) == INVALID_HANDLE
    assert [said.split(" 0x")[0] for said in cuda.take_problems()] == [
        "cuFuncGetAttribute: function",
        "cuModuleUnload: module",
    ]


def test_shared_memory_above_the_usual_is_asked_for(gpu, cuda, prepared):
    function, attribute = prepared.function, gpu.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
    prepared.record = prepared.record.model_copy(update={"shared_bytes": 100 * 1024})
    stream = gpu.Stream()
    with pytest.raises(gpu.LogicError, match="invalid argument"):
        prepared.launch(stream)
    function.set_attribute(attribute, 163 * 1024)
    with pytest.raises(gpu.LogicError, match="invalid argument"):
        function.set_attribute(attribute, 163 * 1024 + 1)
    prepared.launch(stream)
    assert raw.call("cuStreamSynchronize", stream.handle) == ILLEGAL_ADDRESS
    assert "has grid, block and shared memory" in cuda.take_problems()[0], "the record asks for less"


@pytest.mark.parametrize(
    ("grid", "block", "short"),
    [
        ((0, 1, 1), (128, 1, 1), 0),
        ((1, 65536, 1), (128, 1, 1), 0),
        ((1, 1, 1), (64, 1, 1), 0),
        ((1, 1, 1), (128, 1, 1), 8),
    ],
    ids=["an empty grid", "a grid that is too high", "another block", "parameters that are too short"],
)
def test_a_launch_that_cannot_be_is_refused(gpu, prepared, grid, block, short):
    values = bytes(prepared.parameters)[: len(prepared.parameters) - short]
    with pytest.raises(gpu.LogicError, match="invalid argument"):
        prepared.function._launch_kernel(grid, block, values, prepared.record.shared_bytes, gpu.Stream())


def test_parameters_by_their_addresses(gpu, prepared):
    """As C++ passes them: an array with the address of each."""
    handle, module = ctypes.c_void_p(), prepared.module
    values = bytes(prepared.parameters)
    room = ctypes.create_string_buffer(values, len(values))
    places = [ctypes.addressof(room) + each.offset for each in prepared.record.parameters]
    addresses = (ctypes.c_void_p * len(places))(*places)
    stream = gpu.Stream()
    found = [each for each in control.left() if each.startswith("module")]
    module_handle = int(found[0].split()[1], 16)
    assert raw.call("cuModuleGetFunction", ctypes.byref(handle), module_handle, b"prepare") == 0
    sizes = (1, 1, 1, *prepared.record.block, prepared.record.shared_bytes)
    assert raw.call("cuLaunchKernel", handle.value, *sizes, stream.handle, addresses, None) == 0
    assert torch.equal(prepared.read("out").flatten(), torch.arange(96).half())
    assert module


def test_an_image_that_nobody_described_is_a_problem(gpu, cuda, compiled):
    made = Launcher(gpu, compiled[87], arguments())
    stream = gpu.Stream()
    made.launch(stream)
    assert raw.call("cuStreamSynchronize", stream.handle) == ILLEGAL_ADDRESS
    assert "no registered launch record describes" in cuda.take_problems()[0]


def test_a_kernel_whose_module_went_is_a_problem(gpu, cuda, prepared):
    stream = gpu.Stream()
    prepared.launch(stream)
    prepared.module = prepared.function = None
    assert raw.call("cuStreamSynchronize", stream.handle) == LAUNCH_FAILED
    assert cuda.take_problems() == ["kernel prepare ran after its module was unloaded"]


def test_another_form_than_the_sizes_ask_for_is_a_problem(gpu, cuda, compiled):
    cuda.register([compiled[87].record])
    values = arguments()
    values |= {"N": 40, "pixels": values["pixels"][:80]}
    made = Launcher(gpu, compiled[87], values)
    stream = gpu.Stream()
    made.launch(stream)
    assert raw.call("cuStreamSynchronize", stream.handle) == ILLEGAL_ADDRESS
    assert "is prepare.u8_fp16_ALIGNED1, expected prepare.u8_fp16_ALIGNED0" in cuda.take_problems()[0]
