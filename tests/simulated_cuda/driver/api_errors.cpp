// Entry points that look things up: the words for errors, and the entry points themselves.
#include <cuda.h>
#include <dlfcn.h>

#include <cstring>
#include <map>
#include <string>

#include "call.h"

using namespace simulated;

namespace {

struct Words {
  const char* name;
  const char* text;
};

#define UPERFUSE_ERROR(name, text) \
  {                                \
    name, { #name, text }          \
  }

const Words* words_of(CUresult code) {
  static const std::map<CUresult, Words> all{
      UPERFUSE_ERROR(CUDA_SUCCESS, "no error"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
      UPERFUSE_ERROR(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
      UPERFUSE_ERROR(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
      UPERFUSE_ERROR(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
      UPERFUSE_ERROR(CUDA_ERROR_DEVICE_UNAVAILABLE, "CUDA-capable device(s) is/are busy or unavailable"),
      UPERFUSE_ERROR(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
      UPERFUSE_ERROR(CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"),
      UPERFUSE_ERROR(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_PTX, "a PTX JIT compilation failed"),
      UPERFUSE_ERROR(CUDA_ERROR_UNSUPPORTED_PTX_VERSION,
                     "the provided PTX was compiled with an unsupported toolchain."),
      UPERFUSE_ERROR(CUDA_ERROR_JIT_COMPILATION_DISABLED, "PTX JIT compilation was disabled"),
      UPERFUSE_ERROR(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
      UPERFUSE_ERROR(CUDA_ERROR_ILLEGAL_STATE, "the operation cannot be performed in the present state"),
      UPERFUSE_ERROR(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
      UPERFUSE_ERROR(CUDA_ERROR_NOT_READY, "device not ready"),
      UPERFUSE_ERROR(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
      UPERFUSE_ERROR(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
      UPERFUSE_ERROR(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
      UPERFUSE_ERROR(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
      UPERFUSE_ERROR(CUDA_ERROR_ASSERT, "device-side assert triggered"),
      UPERFUSE_ERROR(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED,
                     "part or all of the requested memory range is already mapped"),
      UPERFUSE_ERROR(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED,
                     "pointer does not correspond to a registered memory region"),
      UPERFUSE_ERROR(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
      UPERFUSE_ERROR(CUDA_ERROR_NOT_PERMITTED, "operation not permitted"),
      UPERFUSE_ERROR(CUDA_ERROR_NOT_SUPPORTED, "operation not supported"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_MERGE,
                     "operation would result in a merge of separate capture sequences"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "capture was not ended in the same stream as it began"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "capturing stream has unjoined work"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "dependency created on uncaptured work in another stream"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT,
                     "operation would make the legacy stream depend on a capturing blocking stream"),
      UPERFUSE_ERROR(CUDA_ERROR_CAPTURED_EVENT,
                     "operation not permitted on an event last recorded in a capturing stream"),
      UPERFUSE_ERROR(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD,
                     "attempt to terminate a thread-local capture sequence from another thread"),
      UPERFUSE_ERROR(CUDA_ERROR_UNKNOWN, "unknown error"),
  };
  const auto found = all.find(code);
  return found == all.end() ? nullptr : &found->second;
}

CUresult look_up(const char* symbol, void** function) {
  void* const library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  // the newest form of each is the one that is simulated
  for (const char* const suffix : {"_v4", "_v3", "_v2", ""}) {
    *function = dlsym(library, (std::string(symbol) + suffix).c_str());
    if (*function != nullptr) return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

}  // namespace

extern "C" {

// Callers that know no better print what they get: an unknown code has words, too.
CUresult CUDAAPI cuGetErrorString(CUresult code, const char** text) {
  const Words* const words = words_of(code);
  *text = words == nullptr ? "an error without words" : words->text;
  return words == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetErrorName(CUresult code, const char** name) {
  const Words* const words = words_of(code);
  *name = words == nullptr ? nullptr : words->name;
  return words == nullptr ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

CUresult CUDAAPI cuGetProcAddress(const char* symbol, void** function, int, cuuint64_t,
                                  CUdriverProcAddressQueryResult* status) {
  const CUresult result = look_up(symbol, function);
  if (status != nullptr) {
    *status = result == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  }
  return result;
}

}  // extern "C"
