// What tests ask of the simulation, from Python through ctypes (control.py): no part of CUDA.
#include <cuda.h>

#include <cstring>
#include <string>

#include "call.h"

using namespace simulated;

namespace {

constexpr char kField = '\x1F';
constexpr char kEnd = '\x1E';

std::string joined(const std::vector<std::string>& texts) {
  std::string all;
  for (const std::string& text : texts) all += text + kEnd;
  return all;
}

std::string calls_text(const Journal& journal) {
  std::string all;
  for (const auto& entry : journal.calls) {
    all += entry->call + kField + std::to_string(static_cast<int>(entry->result)) + kField +
           std::to_string(entry->stream) + kField + std::to_string(entry->bytes) + kEnd;
  }
  return all;
}

template <class Objects>
void list(const Objects& objects, const std::string& what, std::vector<std::string>* out) {
  for (const auto& [handle, object] : objects.all()) out->push_back(what + " " + hex(handle) + " is left");
}

std::vector<std::string> left_over(const Driver& driver) {
  std::vector<std::string> all;
  for (const Allocation& each : driver.memory.live()) {
    const char* const what = each.place == Place::kDevice ? " bytes of device memory" : " bytes of pinned memory";
    all.push_back(std::to_string(each.bytes) + what + " at " + hex(each.device()) + " are left");
  }
  list(driver.streams, "stream", &all);
  list(driver.events, "event", &all);
  list(driver.modules, "module", &all);
  list(driver.graphs, "graph", &all);
  list(driver.executables, "executable graph", &all);
  if (driver.queue.size() != 0) all.push_back(std::to_string(driver.queue.size()) + " operations wait on streams");
  for (const auto& context : current_contexts()) {
    if (context->alive) all.push_back("a context is current on this thread");
  }
  return all;
}

// A Python function on a stream, which goes when nothing will call it any more.
struct HostFunction {
  explicit HostFunction(std::uint64_t id) : number(id) {}
  HostFunction(const HostFunction&) = delete;
  HostFunction& operator=(const HostFunction&) = delete;
  ~HostFunction() { driver().released.push_back(number); }  // work ends under the lock

  std::uint64_t number;
};

}  // namespace

extern "C" {

struct SimulatedSettings {
  const char* name;
  int capability;
  std::uint64_t memory_bytes;
  int integrated;
  int driver_version;
  int block_shared_bytes;
  int multiprocessors;
  int takes_ptx;
  int eager;
};

void sim_configure(const SimulatedSettings* settings) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.settings = {
      settings->name,           settings->capability,         settings->memory_bytes,    settings->integrated != 0,
      settings->driver_version, settings->block_shared_bytes, settings->multiprocessors, settings->takes_ptx != 0};
  all.queue.eager = settings->eager != 0;
}

// Null where there is nobody any more.
void sim_callbacks(int (*run_kernel)(const Launch*), int (*run_function)(std::uint64_t),
                   void (*drop_function)(std::uint64_t)) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.run_kernel = run_kernel;
  all.run_function = run_function;
  all.drop_function = drop_function;
}

// As if the process had just begun; handles from before stay invalid.
void sim_reset() {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.lost = CUDA_SUCCESS;
  while (!all.contexts.all().empty()) all.destroy(all.contexts.all().begin()->second);
  all.memory.free_all(0);
  all.memory.written_after_free();
  all.retained = 0;
  all.journal = {};
  current_contexts().clear();
}

int sim_enqueue(CUstream stream, std::uint64_t number, const char* what) {
  return call("enqueue", kContext, [&](Call& call) {
    const auto function = std::make_shared<HostFunction>(number);
    call.submit(call.stream(stream), what,
                [function] { return static_cast<CUresult>(driver().run_function(function->number)); });
    return CUDA_SUCCESS;
  });
}

// The host's address of device memory; null, with a reason, where the device may not reach it.
void* sim_reach(CUdeviceptr pointer, std::size_t bytes, char* why, std::size_t room) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::string reason;
  char* const host = all.memory.reach(pointer, bytes, &reason);
  std::strncpy(why, reason.c_str(), room - 1);
  return host;
}

void sim_inject(const char* name, int code, int after, std::uint64_t number) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  all.journal.injections.push_back({number, name, static_cast<CUresult>(code), after});
}

int sim_is_injected(std::uint64_t number) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (const Injection& each : all.journal.injections) {
    if (each.number == number) return 1;
  }
  return 0;
}

void sim_problem(const char* text) { driver().problem(text); }

// "calls", "executed", "problems" or "left": bytes of the text, of which `room` are written.
std::size_t sim_text(const char* which, char* out, std::size_t room) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  for (const std::string& each : all.memory.written_after_free()) all.journal.problems.push_back(each);
  const std::string asked = which;
  std::string text;
  if (asked == "calls") text = calls_text(all.journal);
  if (asked == "executed") text = joined(all.journal.executed);
  if (asked == "problems") text = joined(all.journal.problems);
  if (asked == "left") text = joined(left_over(all));
  if (text.size() <= room) std::memcpy(out, text.data(), text.size());
  return text.size();
}

// Forgets "calls" (what was carried out, too) or "problems".
void sim_forget(const char* which) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (std::string(which) == "problems") {
    all.journal.problems.clear();
  } else {
    all.journal.calls.clear();
    all.journal.executed.clear();
  }
}

}  // extern "C"
