// Entry points about compiled kernels: loading them, looking at them, launching them.
#include <cuda.h>

#include <cstring>
#include <utility>

#include "call.h"

using namespace simulated;

namespace {

constexpr int kUsualSharedBytes = 48 * 1024;

CUresult load(Call& call, CUmodule* module, const void* bytes) {
  call.demand(module != nullptr && bytes != nullptr);
  auto made = std::make_shared<Module>();
  made->context = call.context;
  CUresult result = read_image(bytes, &made->image);
  const Settings& settings = call.driver.settings;
  if (result == CUDA_SUCCESS) {
    result = fits(made->image, settings.capability, settings.driver_version, settings.takes_ptx);
  }
  if (result == CUDA_SUCCESS) *module = call.driver.modules.add(made);
  return result;
}

int attribute_of(const Call& call, const Function& function, CUfunction_attribute attribute) {
  switch (attribute) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      return 1024;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES:
      return static_cast<int>(function.kernel.static_shared_bytes);
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      return 0;
    case CU_FUNC_ATTRIBUTE_NUM_REGS:
      return function.kernel.registers;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION:
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION:
      return function.module->image.capability;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      return function.dynamic_shared_bytes;
    default:
      call.fail(CUDA_ERROR_NOT_SUPPORTED);
  }
}

// The bytes of all parameters, from a buffer or from the address of each.
std::string packed(const Call& call, const Kernel& kernel, void** each, void** extra) {
  call.demand((each == nullptr) != (extra == nullptr) || kernel.parameter_bytes == 0);
  std::string bytes(kernel.parameter_bytes, '\0');
  if (each != nullptr) {
    for (std::size_t i = 0; i < kernel.parameters.size(); ++i) {
      call.demand(each[i] != nullptr);
      std::memcpy(&bytes[kernel.parameters[i].offset], each[i], kernel.parameters[i].bytes);
    }
  } else if (extra != nullptr) {
    const void* buffer = nullptr;
    std::size_t size = 0;
    for (; *extra != CU_LAUNCH_PARAM_END; extra += 2) {
      if (*extra == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[1];
      if (*extra == CU_LAUNCH_PARAM_BUFFER_SIZE) size = *static_cast<std::size_t*>(extra[1]);
    }
    call.demand(buffer != nullptr && size == kernel.parameter_bytes);
    std::memcpy(bytes.data(), buffer, size);
  }
  return bytes;
}

void check_sizes(const Call& call, const Function& function, const unsigned (&grid)[3], const unsigned (&block)[3],
                 unsigned shared) {
  const std::size_t threads = std::size_t{block[0]} * block[1] * block[2];
  call.demand(grid[0] > 0 && grid[1] > 0 && grid[2] > 0 && threads > 0);
  call.demand(grid[0] <= 2147483647U && grid[1] <= 65535U && grid[2] <= 65535U);
  call.demand(threads <= 1024 && block[2] <= 64);
  const unsigned (&needed)[3] = function.kernel.threads;
  call.demand(needed[0] == 0 || std::equal(block, block + 3, needed));
  call.demand(shared <= static_cast<unsigned>(function.dynamic_shared_bytes));
}

CUresult run(const std::shared_ptr<Function>& function, const std::string& parameters, Launch launch) {
  Driver& all = driver();
  const Module& module = *function->module;
  if (!module.loaded) {
    all.problem("kernel " + function->kernel.name + " ran after its module was unloaded");
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  if (all.run_kernel == nullptr) {
    all.problem("kernel " + function->kernel.name + " was launched, and nobody carries out launches");
    return CUDA_ERROR_LAUNCH_FAILED;
  }
  launch.parameters = parameters.data();
  return static_cast<CUresult>(all.run_kernel(&launch));
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuModuleLoadData(CUmodule* module, const void* image) {
  return call("cuModuleLoadData", kUnsafe, [&](Call& call) { return load(call, module, image); });
}

// The sizes of the logs, which come back where they were asked for, are those of nothing.
CUresult CUDAAPI cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count, CUjit_option* options,
                                    void** values) {
  return call("cuModuleLoadDataEx", kUnsafe, [&](Call& call) {
    for (unsigned i = 0; i < count; ++i) {
      const CUjit_option option = options[i];
      if (option == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || option == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) {
        values[i] = nullptr;
      }
    }
    return load(call, module, image);
  });
}

CUresult CUDAAPI cuModuleUnload(CUmodule handle) {
  return call("cuModuleUnload", kUnsafeGivesBack, [&](Call& call) {
    const std::shared_ptr<Module> module = call.module(handle);
    module->loaded = false;
    call.driver.functions.remove_if([&](const Function& function) { return function.module == module; });
    call.driver.modules.remove(handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuModuleGetFunction(CUfunction* function, CUmodule handle, const char* name) {
  return call("cuModuleGetFunction", kContext, [&](Call& call) {
    const std::shared_ptr<Module> module = call.module(handle);
    for (const Kernel& kernel : module->image.kernels) {
      if (kernel.name != name) continue;
      auto made = std::make_shared<Function>();
      made->module = module;
      made->kernel = kernel;
      made->dynamic_shared_bytes = kUsualSharedBytes - static_cast<int>(kernel.static_shared_bytes);
      *function = call.driver.functions.add(made);
      return CUDA_SUCCESS;
    }
    return CUDA_ERROR_NOT_FOUND;
  });
}

CUresult CUDAAPI cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  return call("cuFuncGetAttribute", kContext, [&](Call& call) {
    *value = attribute_of(call, *call.function(handle), attribute);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  return call("cuFuncSetAttribute", kContext, [&](Call& call) {
    const std::shared_ptr<Function> function = call.function(handle);
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
    call.demand(attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
    const int room = call.driver.settings.block_shared_bytes - static_cast<int>(function->kernel.static_shared_bytes);
    call.demand(value >= 0 && value <= room);
    function->dynamic_shared_bytes = value;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuFuncSetCacheConfig(CUfunction handle, CUfunc_cache) {
  return call("cuFuncSetCacheConfig", kContext, [&](Call& call) {
    call.function(handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuLaunchKernel(CUfunction handle, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                                unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared,
                                CUstream stream_handle, void** parameters, void** extra) {
  return call("cuLaunchKernel", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(stream_handle);
    const std::shared_ptr<Function> function = call.function(handle);
    const unsigned grid[3] = {grid_x, grid_y, grid_z};
    const unsigned block[3] = {block_x, block_y, block_z};
    check_sizes(call, *function, grid, block, shared);
    const std::string bytes = packed(call, function->kernel, parameters, extra);
    const Module& module = *function->module;
    const Launch launch{module.handle,
                        module.image.bytes.data(),
                        module.image.bytes.size(),
                        function->kernel.name.c_str(),
                        nullptr,
                        bytes.size(),
                        {grid_x, grid_y, grid_z},
                        {block_x, block_y, block_z},
                        shared};
    call.submit(stream, "kernel " + function->kernel.name,
                [function, bytes, launch] { return run(function, bytes, launch); });
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuLaunchHostFunc(CUstream handle, CUhostFn function, void* data) {
  return call("cuLaunchHostFunc", kContext, [&](Call& call) {
    call.demand(function != nullptr);
    call.submit(call.stream(handle), "host function", [function, data] {
      function(data);
      return CUDA_SUCCESS;
    });
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
