#include "cuda_driver.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <dlfcn.h>
#endif

#include <cstring>

namespace uperfuse {
namespace {

#ifdef _WIN32
constexpr const char* kLibrary = "nvcuda.dll";

void* open_library() { return reinterpret_cast<void*>(LoadLibraryA(kLibrary)); }

void* find(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#else
constexpr const char* kLibrary = "libcuda.so.1";

void* open_library() { return dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL); }

void* find(void* library, const char* name) { return dlsym(library, name); }
#endif

// Opened once per process, and never closed: others in the process use it, too.
void* library() {
  static void* const opened = open_library();
  return opened;
}

template <class Function>
void look_up(const char* name, Function** function) {
  void* const found = find(library(), name);
  if (found == nullptr) {
    throw CudaError(
        name, kCudaNotFound,
        std::string("the CUDA driver has no ") + name + ", expected one of CUDA 12.0 or later; update the driver");
  }
  std::memcpy(function, &found, sizeof found);
}

CudaDriver look_up_all() {
  if (library() == nullptr) {
    throw CudaError(
        kLibrary, kCudaNotFound,
        std::string(kLibrary) + " cannot be opened, expected the CUDA driver of an NVIDIA GPU; install the driver");
  }
  CudaDriver driver{};
  look_up("cuDriverGetVersion", &driver.get_version);
  look_up("cuGetErrorString", &driver.get_error_string);
  look_up("cuCtxGetCurrent", &driver.context_get_current);
  look_up("cuCtxGetId", &driver.context_get_id);
  look_up("cuCtxPopCurrent_v2", &driver.context_pop);
  look_up("cuDevicePrimaryCtxRelease_v2", &driver.primary_context_release);
  look_up("cuStreamBeginCapture_v2", &driver.stream_begin_capture);
  look_up("cuStreamEndCapture", &driver.stream_end_capture);
  look_up("cuGraphInstantiateWithFlags", &driver.graph_instantiate);
  look_up("cuGraphLaunch", &driver.graph_launch);
  look_up("cuGraphDestroy", &driver.graph_destroy);
  look_up("cuGraphExecDestroy", &driver.graph_executable_destroy);
  return driver;
}

}  // namespace

void CudaDriver::check(int code, const char* call) const {
  if (code == kCudaSuccess) return;
  const char* words = nullptr;
  if (get_error_string(code, &words) != kCudaSuccess || words == nullptr) words = "unknown error";
  throw CudaError(call, code, std::string(call) + " failed: " + words + " (" + std::to_string(code) + ")");
}

const CudaDriver& cuda_driver() {
  static const CudaDriver driver = look_up_all();
  return driver;
}

int cuda_driver_version() {
  if (library() == nullptr) return 0;
  int (*get_version)(int*) = nullptr;
  look_up("cuDriverGetVersion", &get_version);
  int version = 0;
  return get_version(&version) == kCudaSuccess ? version : 0;
}

void cuda_pop_context() {
  void* popped = nullptr;
  cuda_driver().check(cuda_driver().context_pop(&popped), "cuCtxPopCurrent");
}

void cuda_release_primary_context(int device) {
  cuda_driver().check(cuda_driver().primary_context_release(device), "cuDevicePrimaryCtxRelease");
}

}  // namespace uperfuse
