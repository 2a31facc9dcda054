// Entry points that copy and fill memory.
#include <cuda.h>

#include "copy.h"

using namespace simulated;

namespace {

constexpr CUstream kLegacy = nullptr;

template <class Parameters>
End source_of(Call& call, const Parameters& copy, std::size_t slice_rows) {
  const bool device = copy.srcMemoryType == CU_MEMORYTYPE_DEVICE;
  call.demand(device || copy.srcMemoryType == CU_MEMORYTYPE_HOST, CUDA_ERROR_NOT_SUPPORTED);
  End end = device ? on_device(copy.srcDevice) : on_host(copy.srcHost);
  const std::size_t pitch = copy.srcPitch == 0 ? copy.WidthInBytes : copy.srcPitch;
  const std::size_t skipped = copy.srcY * pitch + copy.srcXInBytes;
  return {end.on_device, end.device + skipped, end.host + skipped, pitch, slice_rows * pitch};
}

template <class Parameters>
End target_of(Call& call, const Parameters& copy, std::size_t slice_rows) {
  const bool device = copy.dstMemoryType == CU_MEMORYTYPE_DEVICE;
  call.demand(device || copy.dstMemoryType == CU_MEMORYTYPE_HOST, CUDA_ERROR_NOT_SUPPORTED);
  End end = device ? on_device(copy.dstDevice) : on_host(copy.dstHost);
  const std::size_t pitch = copy.dstPitch == 0 ? copy.WidthInBytes : copy.dstPitch;
  const std::size_t skipped = copy.dstY * pitch + copy.dstXInBytes;
  return {end.on_device, end.device + skipped, end.host + skipped, pitch, slice_rows * pitch};
}

CUresult copy_2d(const char* name, CUstream stream, const CUDA_MEMCPY2D* asked, Waits waits) {
  return call(name, waits == Waits::kAlways ? kUnsafe : kContext, [&](Call& call) {
    call.demand(asked != nullptr);
    const End from = source_of(call, *asked, 0);
    copy(call, stream, target_of(call, *asked, 0), from, {asked->WidthInBytes, asked->Height, 1}, waits);
    return CUDA_SUCCESS;
  });
}

CUresult copy_3d(const char* name, CUstream stream, const CUDA_MEMCPY3D* asked, Waits waits) {
  return call(name, waits == Waits::kAlways ? kUnsafe : kContext, [&](Call& call) {
    call.demand(asked != nullptr && asked->srcZ == 0 && asked->dstZ == 0, CUDA_ERROR_NOT_SUPPORTED);
    const std::size_t from_rows = asked->srcHeight == 0 ? asked->Height : asked->srcHeight;
    const std::size_t to_rows = asked->dstHeight == 0 ? asked->Height : asked->dstHeight;
    const End from = source_of(call, *asked, from_rows);
    const End to = target_of(call, *asked, to_rows);
    copy(call, stream, to, from, {asked->WidthInBytes, asked->Height, asked->Depth}, waits);
    return CUDA_SUCCESS;
  });
}

CUresult copy_flat(const char* name, CUstream stream, const End& to, const End& from, std::size_t bytes, Waits waits) {
  return call(name, waits == Waits::kAlways ? kUnsafe : kContext, [&](Call& call) {
    copy(call, stream, to, from, {bytes}, waits);
    return CUDA_SUCCESS;
  });
}

CUresult fill_2d(const char* name, CUstream stream, CUdeviceptr to, std::size_t pitch, unsigned value, std::size_t size,
                 std::size_t width, std::size_t height) {
  return call(name, kContext, [&](Call& call) {
    fill(call, stream, {true, to, nullptr, pitch, 0}, {width * size, height, 1}, value, size);
    return CUDA_SUCCESS;
  });
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuMemcpyHtoD(CUdeviceptr to, const void* from, std::size_t bytes) {
  return copy_flat("cuMemcpyHtoD", kLegacy, on_device(to), on_host(from), bytes, Waits::kAlways);
}

CUresult CUDAAPI cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t bytes) {
  return copy_flat("cuMemcpyDtoH", kLegacy, on_host(to), on_device(from), bytes, Waits::kAlways);
}

// Between two places of the device the host is not made to wait.
CUresult CUDAAPI cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
  return copy_flat("cuMemcpyDtoD", kLegacy, on_device(to), on_device(from), bytes, Waits::kNever);
}

CUresult CUDAAPI cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t bytes, CUstream stream) {
  return copy_flat("cuMemcpyHtoDAsync", stream, on_device(to), on_host(from), bytes, Waits::kForPageable);
}

CUresult CUDAAPI cuMemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  return copy_flat("cuMemcpyDtoHAsync", stream, on_host(to), on_device(from), bytes, Waits::kForPageable);
}

CUresult CUDAAPI cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream stream) {
  return copy_flat("cuMemcpyDtoDAsync", stream, on_device(to), on_device(from), bytes, Waits::kNever);
}

CUresult CUDAAPI cuMemcpy2D(const CUDA_MEMCPY2D* asked) {
  return copy_2d("cuMemcpy2D", kLegacy, asked, Waits::kAlways);
}

CUresult CUDAAPI cuMemcpy2DUnaligned(const CUDA_MEMCPY2D* asked) {
  return copy_2d("cuMemcpy2DUnaligned", kLegacy, asked, Waits::kAlways);
}

CUresult CUDAAPI cuMemcpy2DAsync(const CUDA_MEMCPY2D* asked, CUstream stream) {
  return copy_2d("cuMemcpy2DAsync", stream, asked, Waits::kForPageable);
}

CUresult CUDAAPI cuMemcpy3D(const CUDA_MEMCPY3D* asked) {
  return copy_3d("cuMemcpy3D", kLegacy, asked, Waits::kAlways);
}

CUresult CUDAAPI cuMemcpy3DAsync(const CUDA_MEMCPY3D* asked, CUstream stream) {
  return copy_3d("cuMemcpy3DAsync", stream, asked, Waits::kForPageable);
}

CUresult CUDAAPI cuMemsetD8(CUdeviceptr to, unsigned char value, std::size_t count) {
  return fill_2d("cuMemsetD8", kLegacy, to, 0, value, 1, count, 1);
}

CUresult CUDAAPI cuMemsetD16(CUdeviceptr to, unsigned short value, std::size_t count) {
  return fill_2d("cuMemsetD16", kLegacy, to, 0, value, 2, count, 1);
}

CUresult CUDAAPI cuMemsetD32(CUdeviceptr to, unsigned int value, std::size_t count) {
  return fill_2d("cuMemsetD32", kLegacy, to, 0, value, 4, count, 1);
}

CUresult CUDAAPI cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t count, CUstream stream) {
  return fill_2d("cuMemsetD8Async", stream, to, 0, value, 1, count, 1);
}

CUresult CUDAAPI cuMemsetD16Async(CUdeviceptr to, unsigned short value, std::size_t count, CUstream stream) {
  return fill_2d("cuMemsetD16Async", stream, to, 0, value, 2, count, 1);
}

CUresult CUDAAPI cuMemsetD32Async(CUdeviceptr to, unsigned int value, std::size_t count, CUstream stream) {
  return fill_2d("cuMemsetD32Async", stream, to, 0, value, 4, count, 1);
}

CUresult CUDAAPI cuMemsetD2D8(CUdeviceptr to, std::size_t pitch, unsigned char value, std::size_t width,
                              std::size_t height) {
  return fill_2d("cuMemsetD2D8", kLegacy, to, pitch, value, 1, width, height);
}

CUresult CUDAAPI cuMemsetD2D8Async(CUdeviceptr to, std::size_t pitch, unsigned char value, std::size_t width,
                                   std::size_t height, CUstream stream) {
  return fill_2d("cuMemsetD2D8Async", stream, to, pitch, value, 1, width, height);
}

}  // extern "C"
