// All that the simulated driver knows, and the objects behind its handles.
#pragma once

#include <cuda.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "handles.h"
#include "image.h"
#include "journal.h"
#include "memory.h"
#include "work.h"

namespace simulated {

struct Settings {
  std::string name = "Simulated GPU";
  int capability = 87;
  std::size_t memory_bytes = std::size_t{4} << 30;
  bool integrated = false;
  int driver_version = 13000;
  int block_shared_bytes = 163 * 1024;
  int multiprocessors = 16;
  bool takes_ptx = true;
};

struct Capture;
struct Stream;

struct Context {
  std::uintptr_t handle = 0;
  unsigned long long id = 0;
  bool alive = true;
  bool primary = false;
  CUresult broken = CUDA_SUCCESS;
  std::shared_ptr<Stream> legacy;
};

struct Stream {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  unsigned flags = 0;
  std::shared_ptr<Work> last;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> frontier;  // nodes that the next captured one comes after

  // Whether it waits for the legacy stream and is waited for by it.
  bool blocking() const { return (flags & CU_STREAM_NON_BLOCKING) == 0; }
};

// When an event was reached; one per time that it is recorded.
struct Mark {
  bool reached = false;
  std::chrono::steady_clock::time_point at;
};

struct Event {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  unsigned flags = 0;
  std::shared_ptr<Work> work;
  std::shared_ptr<Mark> mark;
  std::shared_ptr<Capture> capture;
  std::vector<std::size_t> frontier;
};

struct Module {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  Image image;
  bool loaded = true;
};

struct Function {
  std::uintptr_t handle = 0;
  std::shared_ptr<Module> module;
  Kernel kernel;
  int dynamic_shared_bytes = 0;  // that a launch may ask for
};

struct Node {
  std::string what;
  std::vector<std::size_t> after;
  Action action;
};

struct Graph {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  std::vector<Node> nodes;
};

// A graph that can be launched; its launches come one after another.
struct Executable {
  std::uintptr_t handle = 0;
  std::shared_ptr<Context> context;
  std::shared_ptr<const std::vector<Node>> nodes;
  std::shared_ptr<Work> last;
};

struct Capture {
  std::shared_ptr<Graph> graph;
  std::uintptr_t origin = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id thread;
  bool open = true;
  bool broken = false;
};

// A kernel's launch, as it is handed to whoever carries it out.
struct Launch {
  std::uint64_t module;
  const void* image;
  std::size_t image_bytes;
  const char* kernel;
  const void* parameters;
  std::size_t parameter_bytes;
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
};

struct Driver {
  std::mutex mutex;
  bool initialised = false;
  CUresult lost = CUDA_SUCCESS;  // the device, until all is reset
  Settings settings;
  Journal journal;
  Memory memory;
  Queue queue;
  Handles<CUcontext, Context> contexts;
  Handles<CUstream, Stream> streams;
  Handles<CUevent, Event> events;
  Handles<CUmodule, Module> modules;
  Handles<CUfunction, Function> functions;
  Handles<CUgraph, Graph> graphs;
  Handles<CUgraphExec, Executable> executables;
  std::vector<std::weak_ptr<Capture>> captures;
  std::shared_ptr<Context> primary;
  unsigned primary_flags = 0;
  int retained = 0;
  unsigned long long last_context_id = 0;
  std::vector<std::uint64_t> released;  // functions of control that no work will call again
  int (*run_kernel)(const Launch*) = nullptr;
  int (*run_function)(std::uint64_t) = nullptr;
  void (*drop_function)(std::uint64_t) = nullptr;

  // Both take the lock: for use from within actions.
  void problem(const std::string& text);
  void executed(const std::string& what);

  std::shared_ptr<Context> make_context(bool primary);
  // Takes all that is left in it along, and says so.
  void destroy(const std::shared_ptr<Context>& context);
  // An error that stays: what a context's work ran into.
  void break_context(const std::shared_ptr<Context>& context, CUresult code);
};

// The one there is; it lives as long as the process.
Driver& driver();

// Contexts that are current on this thread, the last on top.
std::vector<std::shared_ptr<Context>>& current_contexts();

// Errors that all later calls on a context meet, and those that all later calls on a device meet.
bool breaks_context(CUresult code);
bool loses_device(CUresult code);

}  // namespace simulated
