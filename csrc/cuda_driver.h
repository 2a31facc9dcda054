// The CUDA driver, looked up when it is first needed: the extension is built and imported without CUDA.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace uperfuse {

// A call that failed, with the driver's code. Where the driver or a part of it is missing: 500, CUDA's "not found".
class CudaError : public std::runtime_error {
 public:
  CudaError(const std::string& call, int code, const std::string& words)
      : std::runtime_error(words), call_(call), code_(code) {}

  const std::string& call() const { return call_; }
  int code() const { return code_; }

 private:
  std::string call_;
  int code_;
};

constexpr int kCudaSuccess = 0;
constexpr int kCudaInvalidHandle = 400;
constexpr int kCudaNotFound = 500;

// The entry points in use, with handles as the addresses that they are.
struct CudaDriver {
  int (*get_version)(int* version);
  int (*get_error_string)(int code, const char** words);
  int (*context_get_current)(void** context);
  int (*context_get_id)(void* context, unsigned long long* id);
  int (*context_pop)(void** context);
  int (*primary_context_release)(int device);
  int (*stream_begin_capture)(void* stream, int mode);
  int (*stream_end_capture)(void* stream, void** graph);
  int (*graph_instantiate)(void** executable, void* graph, unsigned long long flags);
  int (*graph_launch)(void* executable, void* stream);
  int (*graph_destroy)(void* graph);
  int (*graph_executable_destroy)(void* executable);

  // Throws CudaError unless `code` is success.
  void check(int code, const char* call) const;
};

// Throws CudaError where this machine has no driver, or one without what is used.
const CudaDriver& cuda_driver();

// 12060 for CUDA 12.6; 0 where this machine has no driver.
int cuda_driver_version();

// Takes the calling thread's current context off its stack; throws CudaError where there is none.
void cuda_pop_context();

// Takes one user off a device's primary context, whichever state it is in; the last one destroys it.
void cuda_release_primary_context(int device);

}  // namespace uperfuse
