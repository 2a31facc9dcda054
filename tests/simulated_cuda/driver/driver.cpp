#include "driver.h"

#include <algorithm>
#include <utility>

namespace simulated {
namespace {

std::string count(std::size_t number, const std::string& what) {
  return std::to_string(number) + " " + what + (number == 1 ? "" : "s");
}

void append(std::string* list, std::size_t number, const std::string& what) {
  if (number != 0) *list += (list->empty() ? "" : ", ") + count(number, what);
}

}  // namespace

std::uintptr_t next_handle() {
  static std::uintptr_t last = 0x00B0000000000000ULL;
  return last += 16;
}

Driver& driver() {
  static auto* const one = new Driver;
  return *one;
}

std::vector<std::shared_ptr<Context>>& current_contexts() {
  thread_local std::vector<std::shared_ptr<Context>> stack;
  return stack;
}

bool breaks_context(CUresult code) {
  return code == CUDA_ERROR_ILLEGAL_ADDRESS || code == CUDA_ERROR_LAUNCH_TIMEOUT || code == CUDA_ERROR_ASSERT ||
         (code >= CUDA_ERROR_HARDWARE_STACK_ERROR && code <= CUDA_ERROR_LAUNCH_FAILED);
}

bool loses_device(CUresult code) {
  return code == CUDA_ERROR_DEVICE_UNAVAILABLE || code == CUDA_ERROR_ECC_UNCORRECTABLE || code == CUDA_ERROR_UNKNOWN;
}

void Driver::problem(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mutex);
  journal.problems.push_back(text);
}

void Driver::executed(const std::string& what) {
  const std::lock_guard<std::mutex> lock(mutex);
  journal.executed.push_back(what);
}

std::shared_ptr<Context> Driver::make_context(bool is_primary) {
  auto context = std::make_shared<Context>();
  context->primary = is_primary;
  context->id = ++last_context_id;
  context->legacy = std::make_shared<Stream>();
  context->legacy->context = context;
  contexts.add(context);
  return context;
}

void Driver::destroy(const std::shared_ptr<Context>& context) {
  const auto inside = [&](const auto& object) { return object.context == context; };
  std::string left;
  append(&left, queue.pending(*context).size(), "queued operation");
  queue.drop(context.get());
  append(&left, memory.free_all(context->handle).size(), "allocation");
  for (const auto& [handle, stream] : streams.all()) {
    if (inside(*stream) && stream->capture) stream->capture->broken = true;
  }
  append(&left, streams.remove_if(inside), "stream");
  append(&left, events.remove_if(inside), "event");
  functions.remove_if([&](const Function& function) { return inside(*function.module); });
  append(&left, modules.remove_if(inside), "module");
  append(&left, graphs.remove_if(inside), "graph");
  append(&left, executables.remove_if(inside), "executable graph");
  // what met an error that stays could give nothing back
  if (!left.empty() && context->broken == CUDA_SUCCESS && lost == CUDA_SUCCESS) {
    journal.problems.push_back("a context was destroyed with " + left + " left in it");
  }
  context->alive = false;
  context->legacy->context = nullptr;
  contexts.remove(reinterpret_cast<CUcontext>(context->handle));
  if (primary == context) primary = nullptr;
}

void Driver::break_context(const std::shared_ptr<Context>& context, CUresult code) {
  if (context && context->broken == CUDA_SUCCESS) context->broken = code;
  if (context) queue.drop(context.get());
}

}  // namespace simulated
