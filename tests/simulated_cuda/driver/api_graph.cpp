// Entry points that capture streams into graphs, and launch these.
#include <cuda.h>

#include <algorithm>
#include <utility>

#include "call.h"
#include "capture.h"

using namespace simulated;

namespace {

CUresult instantiate(Call& call, CUgraphExec* executable, CUgraph handle) {
  const std::shared_ptr<Graph> graph = call.driver.graphs.find(handle);
  if (!graph) call.misuse(CUDA_ERROR_INVALID_VALUE, "the graph was destroyed or never made");
  auto made = std::make_shared<Executable>();
  made->context = graph->context;
  made->nodes = std::make_shared<const std::vector<Node>>(graph->nodes);
  *executable = call.driver.executables.add(made);
  return CUDA_SUCCESS;
}

// What other streams captured has to lead back to the stream in which the capture began.
bool is_joined(const Call& call, const Stream& origin) {
  const Capture* const capture = origin.capture.get();
  const auto& streams = call.driver.streams.all();
  return std::all_of(streams.begin(), streams.end(), [&](const auto& each) {
    const Stream& stream = *each.second;
    return stream.capture.get() != capture || leads_to(*capture->graph, stream.frontier, origin.frontier);
  });
}

CUresult end_capture(Call& call, CUstream handle, CUgraph* graph) {
  *graph = nullptr;
  const std::shared_ptr<Stream> stream = call.stream(handle);
  const std::shared_ptr<Capture> capture = stream->capture;
  call.demand(capture != nullptr, CUDA_ERROR_ILLEGAL_STATE);
  call.demand(capture->origin == stream->handle, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  const bool any_thread = capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED;
  const bool same_thread = capture->thread == std::this_thread::get_id();
  call.demand(any_thread || same_thread, CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  const bool joined = is_joined(call, *stream);
  close(capture.get(), call.driver.streams);
  call.demand(!capture->broken, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  call.demand(joined, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  *graph = call.driver.graphs.add(capture->graph);
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  return call("cuStreamBeginCapture", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(handle);
    call.demand(stream != call.context->legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    call.demand(!stream->capture, CUDA_ERROR_ILLEGAL_STATE);
    auto capture = std::make_shared<Capture>();
    capture->graph = std::make_shared<Graph>();
    capture->graph->context = call.context;
    capture->origin = stream->handle;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    stream->capture = capture;
    stream->frontier.clear();
    auto& captures = call.driver.captures;
    captures.erase(std::remove_if(captures.begin(), captures.end(), [](const auto& each) { return each.expired(); }),
                   captures.end());
    captures.push_back(capture);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamEndCapture(CUstream handle, CUgraph* graph) {
  return call("cuStreamEndCapture", kGivesBack, [&](Call& call) {
    call.demand(graph != nullptr);
    return end_capture(call, handle, graph);
  });
}

CUresult CUDAAPI cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus* status) {
  return call("cuStreamIsCapturing", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(handle);
    *status = CU_STREAM_CAPTURE_STATUS_NONE;
    if (stream->capture) *status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    if (stream->capture && stream->capture->broken) *status = CU_STREAM_CAPTURE_STATUS_INVALIDATED;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  return call("cuThreadExchangeStreamCaptureMode", kNoContext, [&](Call& call) {
    call.demand(mode != nullptr);
    std::swap(*mode, thread_capture_mode());
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphGetNodes(CUgraph handle, CUgraphNode* nodes, std::size_t* count) {
  return call("cuGraphGetNodes", kNoContext, [&](Call& call) {
    const std::shared_ptr<Graph> graph = call.driver.graphs.find(handle);
    if (!graph) call.misuse(CUDA_ERROR_INVALID_VALUE, "the graph was destroyed or never made");
    call.demand(nodes == nullptr, CUDA_ERROR_NOT_SUPPORTED);
    *count = graph->nodes.size();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphInstantiateWithFlags(CUgraphExec* executable, CUgraph graph, unsigned long long flags) {
  return call("cuGraphInstantiate", kUnsafe, [&](Call& call) {
    call.demand(flags == 0, CUDA_ERROR_NOT_SUPPORTED);
    return instantiate(call, executable, graph);
  });
}

CUresult CUDAAPI cuGraphUpload(CUgraphExec executable, CUstream handle) {
  return call("cuGraphUpload", kContext, [&](Call& call) {
    call.stream(handle);
    if (!call.driver.executables.find(executable)) {
      call.misuse(CUDA_ERROR_INVALID_VALUE, "the executable graph was destroyed or never made");
    }
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec handle, CUstream stream_handle) {
  return call("cuGraphLaunch", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(stream_handle);
    const std::shared_ptr<Executable> executable = call.driver.executables.find(handle);
    if (!executable) call.misuse(CUDA_ERROR_INVALID_VALUE, "the executable graph was destroyed or never made");
    if (executable->context != call.context) {
      call.misuse(CUDA_ERROR_INVALID_CONTEXT, "the executable graph is of another context");
    }
    // a graph inside of a graph
    call.demand(!stream->capture, CUDA_ERROR_NOT_SUPPORTED);
    const auto nodes = executable->nodes;
    executable->last = call.submit(
        stream, "graph", [nodes, last_first = call.driver.queue.eager] { return run_nodes(*nodes, last_first); },
        executable->last);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphDestroy(CUgraph handle) {
  return call("cuGraphDestroy", kContextGivesBack, [&](Call& call) {
    if (!call.driver.graphs.find(handle)) {
      call.misuse(CUDA_ERROR_INVALID_VALUE, "the graph was destroyed or never made");
    }
    call.driver.graphs.remove(handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec handle) {
  return call("cuGraphExecDestroy", kContextGivesBack, [&](Call& call) {
    if (!call.driver.executables.find(handle)) {
      call.misuse(CUDA_ERROR_INVALID_VALUE, "the executable graph was destroyed or never made");
    }
    call.driver.executables.remove(handle);
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
