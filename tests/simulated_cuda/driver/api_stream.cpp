// Entry points about streams and events.
#include <cuda.h>

#include "call.h"
#include "capture.h"

using namespace simulated;

namespace {

CUresult create_stream(Call& call, CUstream* stream, unsigned flags) {
  call.demand(stream != nullptr && (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) == 0);
  auto made = std::make_shared<Stream>();
  made->context = call.context;
  made->flags = flags;
  *stream = call.driver.streams.add(made);
  return CUDA_SUCCESS;
}

// A capturing stream waits: for an event of the same graph, or it refuses.
void wait_in_capture(Call& call, Stream* stream, const Event& event) {
  if (stream->capture && stream->capture->broken) call.fail(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  if (!event.capture) {
    stream->capture->broken = true;
    call.fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  call.demand(event.capture->open, CUDA_ERROR_CAPTURED_EVENT);
  if (event.capture->broken) call.fail(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  if (!stream->capture) {
    stream->capture = event.capture;
    stream->frontier = event.frontier;
  } else if (stream->capture == event.capture) {
    stream->frontier = merged(stream->frontier, event.frontier);
  } else {
    stream->capture->broken = event.capture->broken = true;
    call.fail(CUDA_ERROR_STREAM_CAPTURE_MERGE);
  }
}

// Whether an event was recorded by a stream that captures: then nobody can wait for it on the host.
void demand_not_captured(Call& call, const Event& event) {
  if (!event.capture) return;
  if (event.capture->open) event.capture->broken = true;
  call.fail(CUDA_ERROR_CAPTURED_EVENT);
}

CUresult elapsed(Call& call, float* milliseconds, CUevent start, CUevent end) {
  const std::shared_ptr<Event> first = call.event(start);
  const std::shared_ptr<Event> second = call.event(end);
  for (const auto& event : {first, second}) {
    demand_not_captured(call, *event);
    call.demand((event->flags & CU_EVENT_DISABLE_TIMING) == 0 && event->mark != nullptr, CUDA_ERROR_INVALID_HANDLE);
  }
  call.demand(first->mark->reached && second->mark->reached, CUDA_ERROR_NOT_READY);
  *milliseconds = std::chrono::duration<float, std::milli>(second->mark->at - first->mark->at).count();
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult CUDAAPI cuStreamCreate(CUstream* stream, unsigned int flags) {
  return call("cuStreamCreate", kContext, [&](Call& call) { return create_stream(call, stream, flags); });
}

CUresult CUDAAPI cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int) {
  return call("cuStreamCreateWithPriority", kContext, [&](Call& call) { return create_stream(call, stream, flags); });
}

CUresult CUDAAPI cuStreamDestroy(CUstream handle) {
  return call("cuStreamDestroy", kGivesBack, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(handle);
    call.demand(stream != call.context->legacy, CUDA_ERROR_INVALID_HANDLE);
    if (stream->capture) stream->capture->broken = true;
    // a real one runs to its end; nothing here would ever run it
    if (stream->last && !stream->last->done) call.problem("the stream has work that nobody waited for");
    call.driver.streams.remove(handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamSynchronize(CUstream handle) {
  return call("cuStreamSynchronize", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(handle);
    call.forbid_while_capturing(*stream);
    call.finish({stream->last});
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamQuery(CUstream handle) {
  return call("cuStreamQuery", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(handle);
    call.forbid_while_capturing(*stream);
    return stream->last && !stream->last->done ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamGetFlags(CUstream handle, unsigned int* flags) {
  return call("cuStreamGetFlags", kContext, [&](Call& call) {
    *flags = call.stream(handle)->flags;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamGetCtx(CUstream handle, CUcontext* context) {
  return call("cuStreamGetCtx", kContext, [&](Call& call) {
    *context = reinterpret_cast<CUcontext>(call.stream(handle)->context->handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuStreamWaitEvent(CUstream stream_handle, CUevent event_handle, unsigned int flags) {
  return call("cuStreamWaitEvent", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(stream_handle);
    const std::shared_ptr<Event> event = call.event(event_handle);
    call.demand(flags == CU_EVENT_WAIT_DEFAULT);
    if (stream->capture || event->capture) {
      wait_in_capture(call, stream.get(), *event);
    } else if (event->work) {
      call.submit(stream, "", nullptr, event->work);
    }
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventCreate(CUevent* event, unsigned int flags) {
  return call("cuEventCreate", kContext, [&](Call& call) {
    call.demand(event != nullptr);
    auto made = std::make_shared<Event>();
    made->context = call.context;
    made->flags = flags;
    *event = call.driver.events.add(made);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventDestroy(CUevent handle) {
  return call("cuEventDestroy", kGivesBack, [&](Call& call) {
    call.event(handle);
    call.driver.events.remove(handle);
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventRecord(CUevent event_handle, CUstream stream_handle) {
  return call("cuEventRecord", kContext, [&](Call& call) {
    const std::shared_ptr<Stream> stream = call.stream(stream_handle);
    const std::shared_ptr<Event> event = call.event(event_handle);
    if (stream->capture) {
      if (stream->capture->broken) call.fail(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
      event->capture = stream->capture;
      event->frontier = stream->frontier;
      event->work = nullptr;
      event->mark = nullptr;
      return CUDA_SUCCESS;
    }
    const auto mark = std::make_shared<Mark>();
    event->work = call.submit(stream, "", [mark] {
      mark->at = std::chrono::steady_clock::now();
      mark->reached = true;
      return CUDA_SUCCESS;
    });
    event->mark = mark;
    event->capture = nullptr;
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventQuery(CUevent handle) {
  return call("cuEventQuery", kContext, [&](Call& call) {
    const std::shared_ptr<Event> event = call.event(handle);
    demand_not_captured(call, *event);
    return event->work && !event->work->done ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventSynchronize(CUevent handle) {
  return call("cuEventSynchronize", kContext, [&](Call& call) {
    const std::shared_ptr<Event> event = call.event(handle);
    demand_not_captured(call, *event);
    call.finish({event->work});
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return call("cuEventElapsedTime", kContext, [&](Call& call) { return elapsed(call, milliseconds, start, end); });
}

}  // extern "C"
