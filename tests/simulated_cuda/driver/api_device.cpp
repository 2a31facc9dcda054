// Entry points about the driver and its one device.
#include <cuda.h>

#include <cstdio>
#include <cstring>
#include <map>

#include "call.h"

using namespace simulated;

namespace {

constexpr CUdevice kDevice = 0;
constexpr const char* kBus = "0000:01:00.0";

void demand_device(const Call& call, CUdevice device) { call.demand(device == kDevice, CUDA_ERROR_INVALID_DEVICE); }

void write_text(const Call& call, const std::string& text, char* out, int room) {
  call.demand(out != nullptr && room > 0);
  std::snprintf(out, static_cast<std::size_t>(room), "%s", text.c_str());
}

int attribute_of(const Settings& settings, CUdevice_attribute attribute) {
  const std::map<int, int> values{
      {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 2147483647},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 48 * 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, settings.block_shared_bytes},
      {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, settings.block_shared_bytes + 1024},
      {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
      {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
      {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
      {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, settings.multiprocessors},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, settings.capability / 10},
      {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, settings.capability % 10},
      {CU_DEVICE_ATTRIBUTE_INTEGRATED, settings.integrated ? 1 : 0},
      {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
      {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
      {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
      {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, settings.integrated ? 1 : 2},
      {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
      {CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 1},
  };
  const auto found = values.find(attribute);
  return found == values.end() ? 0 : found->second;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuInit(unsigned int flags) {
  return call("cuInit", kAnytime, [&](Call& call) {
    call.demand(flags == 0);
    call.driver.initialised = true;
    return call.driver.lost;
  });
}

CUresult CUDAAPI cuDriverGetVersion(int* version) {
  return call("cuDriverGetVersion", kAnytime, [&](Call& call) {
    call.demand(version != nullptr);
    *version = call.driver.settings.driver_version;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetCount(int* count) {
  return call("cuDeviceGetCount", kNoContext, [&](Call& call) {
    call.demand(count != nullptr);
    *count = 1;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGet(CUdevice* device, int ordinal) {
  return call("cuDeviceGet", kNoContext, [&](Call& call) {
    demand_device(call, ordinal);
    *device = kDevice;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetName(char* name, int room, CUdevice device) {
  return call("cuDeviceGetName", kNoContext, [&](Call& call) {
    demand_device(call, device);
    write_text(call, call.driver.settings.name, name, room);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return call("cuDeviceGetUuid", kNoContext, [&](Call& call) {
    demand_device(call, device);
    const std::string name = call.driver.settings.name;
    std::memset(uuid->bytes, 0, sizeof uuid->bytes);
    std::memcpy(uuid->bytes, name.data(), std::min(name.size(), sizeof uuid->bytes));
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetPCIBusId(char* bus, int room, CUdevice device) {
  return call("cuDeviceGetPCIBusId", kNoContext, [&](Call& call) {
    demand_device(call, device);
    write_text(call, kBus, bus, room);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetByPCIBusId(CUdevice* device, const char* bus) {
  return call("cuDeviceGetByPCIBusId", kNoContext, [&](Call& call) {
    call.demand(std::strcmp(bus, kBus) == 0, CUDA_ERROR_INVALID_DEVICE);
    *device = kDevice;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  return call("cuDeviceComputeCapability", kNoContext, [&](Call& call) {
    demand_device(call, device);
    *major = call.driver.settings.capability / 10;
    *minor = call.driver.settings.capability % 10;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceTotalMem(std::size_t* bytes, CUdevice device) {
  return call("cuDeviceTotalMem", kNoContext, [&](Call& call) {
    demand_device(call, device);
    *bytes = call.driver.settings.memory_bytes;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return call("cuDeviceGetAttribute", kNoContext, [&](Call& call) {
    demand_device(call, device);
    call.demand(attribute > 0 && attribute < CU_DEVICE_ATTRIBUTE_MAX);
    *value = attribute_of(call.driver.settings, attribute);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return call("cuDeviceCanAccessPeer", kNoContext, [&](Call& call) {
    demand_device(call, device);
    demand_device(call, peer);
    *can = 0;
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
