// Entry points about memory: the device's, and pinned memory of the host.
#include <cuda.h>

#include "call.h"

using namespace simulated;

namespace {

constexpr std::size_t kPitchBytes = 512;

CUdeviceptr allocate(Call& call, std::size_t bytes) {
  call.demand(bytes > 0);
  call.note_bytes(bytes);
  Driver& driver = call.driver;
  const std::size_t room = driver.settings.memory_bytes;
  const std::size_t used = driver.memory.used();
  call.demand(used <= room && bytes <= room - used, CUDA_ERROR_OUT_OF_MEMORY);
  const Allocation* const made = driver.memory.allocate(bytes, Place::kDevice, 0, call.context->handle);
  call.demand(made != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  return made->device();
}

CUresult allocate_host(Call& call, void** host, std::size_t bytes, unsigned flags) {
  call.demand(host != nullptr && bytes > 0);
  call.note_bytes(bytes);
  const Allocation* const made = call.driver.memory.allocate(bytes, Place::kPinned, flags, call.context->handle);
  call.demand(made != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  *host = made->host;
  return CUDA_SUCCESS;
}

void give_back(Call& call, std::uintptr_t host, bool device, CUdeviceptr shown) {
  std::string why;
  call.driver.memory.free(host, device, &why);
  if (!why.empty()) call.misuse(CUDA_ERROR_INVALID_VALUE, hex(shown) + " " + why);
}

const Allocation& pinned(Call& call, const void* host) {
  const Allocation* const found = call.driver.memory.pinned(host, 1);
  if (found == nullptr) {
    call.misuse(CUDA_ERROR_INVALID_VALUE, hex(reinterpret_cast<std::uintptr_t>(host)) + " is not pinned memory");
  }
  return *found;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuMemGetInfo(std::size_t* free, std::size_t* total) {
  return call("cuMemGetInfo", kContext, [&](Call& call) {
    *total = call.driver.settings.memory_bytes;
    *free = *total - std::min(*total, call.driver.memory.used());
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemAlloc(CUdeviceptr* pointer, std::size_t bytes) {
  return call("cuMemAlloc", kUnsafe, [&](Call& call) {
    call.demand(pointer != nullptr);
    *pointer = allocate(call, bytes);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemAllocPitch(CUdeviceptr* pointer, std::size_t* pitch, std::size_t width, std::size_t height,
                                 unsigned int element) {
  return call("cuMemAllocPitch", kUnsafe, [&](Call& call) {
    call.demand(element == 4 || element == 8 || element == 16);
    *pitch = (width + kPitchBytes - 1) / kPitchBytes * kPitchBytes;
    *pointer = allocate(call, *pitch * height);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemFree(CUdeviceptr pointer) {
  return call("cuMemFree", kUnsafeGivesBack, [&](Call& call) {
    if (pointer == 0) return CUDA_SUCCESS;
    if (pointer < kDeviceBias) call.device(pointer, 1);
    give_back(call, static_cast<std::uintptr_t>(pointer - kDeviceBias), true, pointer);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemGetAddressRange(CUdeviceptr* base, std::size_t* bytes, CUdeviceptr pointer) {
  return call("cuMemGetAddressRange", kContext, [&](Call& call) {
    const Allocation* const found = call.driver.memory.around(pointer);
    // also how a program asks whether an address is the device's
    call.demand(found != nullptr, CUDA_ERROR_NOT_FOUND);
    if (base != nullptr) *base = found->device();
    if (bytes != nullptr) *bytes = found->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  return call("cuPointerGetAttribute", kContext, [&](Call& call) {
    const Allocation* const found = call.driver.memory.around(pointer);
    call.demand(found != nullptr);
    if (attribute == CU_POINTER_ATTRIBUTE_CONTEXT) {
      *static_cast<CUcontext*>(data) = reinterpret_cast<CUcontext>(found->context);
    } else if (attribute == CU_POINTER_ATTRIBUTE_MEMORY_TYPE) {
      const bool device = found->place == Place::kDevice;
      *static_cast<CUmemorytype*>(data) = device ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    } else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) {
      *static_cast<int*>(data) = 0;
    } else {
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostAlloc(void** host, std::size_t bytes, unsigned int flags) {
  return call("cuMemHostAlloc", kUnsafe, [&](Call& call) { return allocate_host(call, host, bytes, flags); });
}

CUresult CUDAAPI cuMemAllocHost(void** host, std::size_t bytes) {
  return call("cuMemAllocHost", kUnsafe, [&](Call& call) { return allocate_host(call, host, bytes, 0); });
}

CUresult CUDAAPI cuMemFreeHost(void* host) {
  return call("cuMemFreeHost", kUnsafeGivesBack, [&](Call& call) {
    const auto first = reinterpret_cast<std::uintptr_t>(host);
    give_back(call, first, false, first);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostRegister(void* host, std::size_t bytes, unsigned int flags) {
  return call("cuMemHostRegister", kUnsafe, [&](Call& call) {
    call.demand(host != nullptr && bytes > 0);
    const Allocation* const made = call.driver.memory.enlist(host, bytes, flags, call.context->handle);
    call.demand(made != nullptr, CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostUnregister(void* host) {
  return call("cuMemHostUnregister", kUnsafeGivesBack, [&](Call& call) {
    call.demand(pinned(call, host).place == Place::kRegistered, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
    const auto first = reinterpret_cast<std::uintptr_t>(host);
    give_back(call, first, false, first);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostGetDevicePointer(CUdeviceptr* pointer, void* host, unsigned int flags) {
  return call("cuMemHostGetDevicePointer", kContext, [&](Call& call) {
    call.demand(flags == 0);
    pinned(call, host);
    *pointer = reinterpret_cast<std::uintptr_t>(host) + kDeviceBias;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuMemHostGetFlags(unsigned int* flags, void* host) {
  return call("cuMemHostGetFlags", kContext, [&](Call& call) {
    *flags = pinned(call, host).flags;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
