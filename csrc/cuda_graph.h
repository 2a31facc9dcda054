// Work of a stream, recorded once and launched again with one call.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

namespace uperfuse {

// Streams are handles of the CUDA driver; the context that they belong to is current in every call but `close`.
class CudaGraph {
 public:
  // From here on, what is put on the stream is recorded and does not run. While it is recorded, calls of this thread
  // that could wait for the device or allocate are refused; other threads are not watched.
  static void capture_begin(std::uintptr_t stream);
  // The stream runs again, whether this succeeds or not.
  static std::unique_ptr<CudaGraph> capture_end(std::uintptr_t stream);
  // The stream runs again, and what was recorded is dropped. Nothing happens where nothing is recorded.
  static void capture_abort(std::uintptr_t stream);

  CudaGraph(void* executable, void* context, unsigned long long context_id);
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;
  ~CudaGraph() { close(); }

  void launch(std::uintptr_t stream);
  // Any number of times, from any thread; launches that are under way come to their end.
  void close() noexcept;

 private:
  std::mutex mutex_;
  void* executable_;  // nullptr once closed
  void* context_;
  unsigned long long context_id_;
};

}  // namespace uperfuse
