"""Records and launches graphs with a build of the extension: `python record_graphs.py EXTENSION [LIBRARY]`.

LIBRARY is the simulated driver; the script then prints "clean". Without it, it says what it found: 0 where there is no
driver, and "driver" where there is one, with which nothing is tried.
"""

import ctypes
import importlib.util
import sys

BYTES = 1000
INVALIDATED = 901


class Cuda:
    """The few calls that a graph needs around it."""

    def __init__(self, library):
        self.library = ctypes.CDLL(library)
        self.context = ctypes.c_void_p()
        self.call("cuInit", 0)

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments)
        assert code == 0, f"{name}: {code}"

    def enter(self):
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.call("cuCtxPushCurrent_v2", self.context)

    def leave(self):
        self.call("cuCtxPopCurrent_v2", None)
        self.call("cuDevicePrimaryCtxRelease_v2", 0)

    def stream(self):
        stream = ctypes.c_void_p()
        self.call("cuStreamCreate", ctypes.byref(stream), 1)
        return stream.value

    def allocate(self):
        pointer = ctypes.c_uint64()
        self.call("cuMemAlloc_v2", ctypes.byref(pointer), ctypes.c_size_t(BYTES))
        return pointer

    def fill(self, pointer, stream, value):
        self.call("cuMemsetD8Async", pointer, ctypes.c_ubyte(value), ctypes.c_size_t(BYTES), ctypes.c_void_p(stream))

    def read(self, pointer, stream):
        self.call("cuStreamSynchronize", ctypes.c_void_p(stream))
        out = (ctypes.c_ubyte * BYTES)()
        self.call("cuMemcpyDtoH_v2", out, pointer, ctypes.c_size_t(BYTES))
        return set(out)


def refused(native, function, *arguments):
    try:
        function(*arguments)
    except native.CudaError as error:
        return error.code
    raise AssertionError("nothing was refused")


def record(native, cuda, stream, pointer, value):
    native.CudaGraph.capture_begin(stream)
    cuda.fill(pointer, stream, value)
    return native.CudaGraph.capture_end(stream)


def walk(native, cuda):
    cuda.enter()
    stream, pointer = cuda.stream(), cuda.allocate()
    graphs = [record(native, cuda, stream, pointer, value) for value in range(5)]
    for value, graph in enumerate(graphs):
        for _ in range(3):
            graph.launch(stream)
        assert cuda.read(pointer, stream) == {value}
    graphs[0].close()
    graphs[0].close()
    refused(native, graphs[0].launch, stream)
    graphs[1] = None

    native.CudaGraph.capture_begin(stream)
    assert cuda.library.cuMemAlloc_v2(ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(1)) != 0
    assert refused(native, native.CudaGraph.capture_end, stream) == INVALIDATED
    native.CudaGraph.capture_begin(stream)
    cuda.fill(pointer, stream, 9)
    native.CudaGraph.capture_abort(stream)
    native.CudaGraph.capture_abort(stream)
    refused(native, native.CudaGraph.capture_begin, stream + 1)
    assert cuda.read(pointer, stream) == {4}

    cuda.leave()  # graphs 2, 3 and 4 go with the context
    graphs[2].close()
    cuda.enter()  # a context that came later
    refused(native, graphs[3].launch, cuda.stream())
    cuda.leave()
    graphs.clear()


def main(extension, library=None):
    spec = importlib.util.spec_from_file_location("_native", extension)
    native = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(native)
    version = native.cuda_driver_version()
    if library is not None:
        assert version > 0
        for _ in range(3):
            walk(native, Cuda(library))
        print("clean")
    elif version:
        print("driver")
    else:
        assert refused(native, native.CudaGraph.capture_begin, 0) == 500
        assert refused(native, native.CudaGraph.capture_end, 0) == 500
        assert refused(native, native.CudaGraph.capture_abort, 0) == 500
        print(version)


if __name__ == "__main__":
    main(*sys.argv[1:])
