#include "call.h"

#include <utility>

#include "capture.h"

namespace simulated {

Call::Call(const char* name, Rules rules)
    : driver(simulated::driver()),
      lock(driver.mutex),
      name_(name),
      rules_(rules),
      entry_(std::make_shared<Entry>(Entry{name, CUDA_SUCCESS, 0, 0})) {}

Call::~Call() {
  const std::vector<std::uint64_t> released = std::exchange(driver.released, {});
  const auto drop = driver.drop_function;
  lock.unlock();
  // what a function held may call the driver when it goes
  for (const std::uint64_t number : released) {
    if (drop != nullptr) drop(number);
  }
}

CUresult Call::begin() {
  driver.journal.calls.push_back(entry_);
  if (inside_action()) {
    problem("called by what runs on a stream, where no call is allowed");
    return CUDA_ERROR_NOT_PERMITTED;
  }
  auto& stack = current_contexts();
  const std::shared_ptr<Context> top = stack.empty() ? nullptr : stack.back();
  const CUresult fault = driver.journal.fault(name_);
  if (loses_device(fault)) {
    driver.lost = fault;
    for (const auto& [handle, each] : driver.contexts.all()) driver.break_context(each, fault);
  } else if (breaks_context(fault)) {
    driver.break_context(top && top->alive ? top : driver.primary, fault);
  }
  CUresult code = fault;
  if (code == CUDA_SUCCESS && rules_.initialised) code = driver.lost;
  if (rules_.initialised && !driver.initialised) {
    problem("called before cuInit");
    return CUDA_ERROR_NOT_INITIALIZED;
  }
  if (rules_.context) {
    if (!top) {
      problem("called without a current context");
      return CUDA_ERROR_INVALID_CONTEXT;
    }
    if (!top->alive) {
      problem("called on a context that was destroyed");
      return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    }
    context = top;
    if (code == CUDA_SUCCESS) code = context->broken;
  }
  if (code == CUDA_SUCCESS && rules_.unsafe_in_capture && a_capture_forbids()) {
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  if (!rules_.gives_back) return code;
  reported_ = code;
  return CUDA_SUCCESS;
}

CUresult Call::end(CUresult result) {
  if (result == CUDA_SUCCESS) result = reported_;
  entry_->result = result;
  return result;
}

void Call::problem(const std::string& what) { driver.journal.problems.push_back(name_ + ": " + what); }

void Call::misuse(CUresult code, const std::string& what) {
  problem(what);
  fail(code);
}

template <class Handle, class Object>
std::shared_ptr<Object> Call::owned(const Handles<Handle, Object>& handles, Handle handle, const char* what) {
  const std::string text = std::string(what) + " " + hex(reinterpret_cast<std::uintptr_t>(handle));
  const std::shared_ptr<Object> object = handles.find(handle);
  if (!object) misuse(CUDA_ERROR_INVALID_HANDLE, text + " was destroyed or never made");
  if (context && object->context != context) misuse(CUDA_ERROR_INVALID_CONTEXT, text + " is of another context");
  return object;
}

std::shared_ptr<Stream> Call::stream(CUstream handle) {
  entry_->stream = reinterpret_cast<std::uintptr_t>(handle);
  if (handle == nullptr || handle == CU_STREAM_LEGACY) return context->legacy;
  if (handle == CU_STREAM_PER_THREAD) misuse(CUDA_ERROR_NOT_SUPPORTED, "per-thread default streams are not simulated");
  return owned(driver.streams, handle, "stream");
}

std::shared_ptr<Event> Call::event(CUevent handle) { return owned(driver.events, handle, "event"); }

std::shared_ptr<Module> Call::module(CUmodule handle) { return owned(driver.modules, handle, "module"); }

std::shared_ptr<Function> Call::function(CUfunction handle) {
  const std::shared_ptr<Function> function = driver.functions.find(handle);
  const std::string text = "function " + hex(reinterpret_cast<std::uintptr_t>(handle));
  if (!function) misuse(CUDA_ERROR_INVALID_HANDLE, text + " went with its module or never was");
  if (function->module->context != context) misuse(CUDA_ERROR_INVALID_CONTEXT, text + " is of another context");
  return function;
}

char* Call::device(CUdeviceptr pointer, std::size_t bytes) {
  std::string why;
  char* const host = driver.memory.reach(pointer, bytes, &why);
  if (host == nullptr) misuse(CUDA_ERROR_INVALID_VALUE, why);
  return host;
}

void Call::note_bytes(std::size_t bytes) { entry_->bytes = bytes; }

std::shared_ptr<Work> Call::submit(const std::shared_ptr<Stream>& stream, const std::string& what, Action action,
                                   const std::shared_ptr<Work>& extra) {
  if (stream->capture) {
    if (stream->capture->broken) fail(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    add_node(stream.get(), what, std::move(action));
    return nullptr;
  }
  WorkList after{stream->last, extra};
  if (stream == context->legacy) {
    for (const auto& [handle, each] : driver.streams.all()) {
      if (each->context != context || !each->blocking()) continue;
      if (each->capture) {
        each->capture->broken = true;
        fail(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
      }
      after.push_back(each->last);
    }
  } else if (stream->blocking()) {
    after.push_back(context->legacy->last);
  }
  stream->last = driver.queue.add(context, what, after, std::move(action));
  return stream->last;
}

void Call::finish(const WorkList& wanted) {
  driver.queue.finish(lock, wanted, [this](const Work& work, CUresult result) {
    if (!work.what.empty()) driver.journal.executed.push_back(work.what);
    if (result != CUDA_SUCCESS) driver.break_context(work.context, result);
  });
  if (driver.lost != CUDA_SUCCESS) fail(driver.lost);
  if (!context->alive) misuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "the context was destroyed while a thread waited");
  if (context->broken != CUDA_SUCCESS) fail(context->broken);
}

void Call::forbid_while_capturing(const Stream& stream) {
  if (!stream.capture) return;
  stream.capture->broken = true;
  fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

void Call::forbid_while_anything_captures() {
  bool any = false;
  for (const auto& [handle, stream] : driver.streams.all()) {
    if (stream->context != context || !stream->capture) continue;
    stream->capture->broken = true;
    any = true;
  }
  if (any) fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

bool Call::a_capture_forbids() {
  if (thread_capture_mode() == CU_STREAM_CAPTURE_MODE_RELAXED) return false;
  bool forbidden = false;
  for (const auto& weak : driver.captures) {
    const std::shared_ptr<Capture> capture = weak.lock();
    if (!capture || !capture->open || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    const bool ours = capture->thread == std::this_thread::get_id();
    const bool watches_all =
        capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_capture_mode() == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!ours && !watches_all) continue;
    capture->broken = true;
    forbidden = true;
  }
  return forbidden;
}

}  // namespace simulated
