#include "cuda_graph.h"

#include "cuda_driver.h"

namespace uperfuse {
namespace {

constexpr int kThreadLocal = 1;  // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

void* handle(std::uintptr_t stream) { return reinterpret_cast<void*>(stream); }

// A graph as it was recorded, for as long as it takes to make it executable.
struct Recorded {
  explicit Recorded(const CudaDriver& driver_of) : driver(driver_of) {}
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;
  ~Recorded() {
    if (graph != nullptr) driver.graph_destroy(graph);
  }

  const CudaDriver& driver;
  void* graph = nullptr;
};

}  // namespace

void CudaGraph::capture_begin(std::uintptr_t stream) {
  const CudaDriver& driver = cuda_driver();
  driver.check(driver.stream_begin_capture(handle(stream), kThreadLocal), "cuStreamBeginCapture");
}

std::unique_ptr<CudaGraph> CudaGraph::capture_end(std::uintptr_t stream) {
  const CudaDriver& driver = cuda_driver();
  Recorded recorded(driver);
  driver.check(driver.stream_end_capture(handle(stream), &recorded.graph), "cuStreamEndCapture");
  void* context = nullptr;
  driver.check(driver.context_get_current(&context), "cuCtxGetCurrent");
  unsigned long long context_id = 0;
  driver.check(driver.context_get_id(context, &context_id), "cuCtxGetId");
  void* executable = nullptr;
  driver.check(driver.graph_instantiate(&executable, recorded.graph, 0), "cuGraphInstantiate");
  return std::make_unique<CudaGraph>(executable, context, context_id);
}

void CudaGraph::capture_abort(std::uintptr_t stream) {
  const CudaDriver& driver = cuda_driver();
  Recorded recorded(driver);
  // whatever went wrong is why the caller is here
  driver.stream_end_capture(handle(stream), &recorded.graph);
}

CudaGraph::CudaGraph(void* executable, void* context, unsigned long long context_id)
    : executable_(executable), context_(context), context_id_(context_id) {}

void CudaGraph::launch(std::uintptr_t stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const CudaDriver& driver = cuda_driver();
  if (executable_ == nullptr) {
    throw CudaError("cuGraphLaunch", kCudaInvalidHandle,
                    "the graph is closed, expected an open one; record it again with capture_begin");
  }
  driver.check(driver.graph_launch(executable_, handle(stream)), "cuGraphLaunch");
}

void CudaGraph::close() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (executable_ == nullptr) return;
  const CudaDriver& driver = cuda_driver();
  unsigned long long id = 0;
  // a context takes its graphs along; one that came later may lie where it lay
  if (driver.context_get_id(context_, &id) == kCudaSuccess && id == context_id_) {
    driver.graph_executable_destroy(executable_);
  }
  executable_ = nullptr;
}

}  // namespace uperfuse
