// What every entry point of the driver does: one at a time, written down, refused where the context, an error that
// stays or a capture forbids it.
#pragma once

#include <cuda.h>

#include <memory>
#include <mutex>
#include <string>

#include "driver.h"

namespace simulated {

// What a call needs. A call that gives something back does so even where it then reports an error from before.
struct Rules {
  bool initialised = true;
  bool context = true;
  bool unsafe_in_capture = false;
  bool gives_back = false;
};

constexpr Rules kAnytime{false, false, false, false};
constexpr Rules kNoContext{true, false, false, false};
constexpr Rules kContext{true, true, false, false};
constexpr Rules kUnsafe{true, true, true, false};
constexpr Rules kGivesBack{true, true, false, true};
constexpr Rules kUnsafeGivesBack{true, true, true, true};
constexpr Rules kContextGivesBack{true, false, false, true};

// Ends a call with an error.
struct Failure {
  CUresult code;
};

class Call {
 public:
  Call(const char* name, Rules rules);
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call();

  Driver& driver;
  std::shared_ptr<Context> context;  // the current one, where the rules ask for one
  std::unique_lock<std::mutex> lock;

  // Before the body; what it returns ends the call unless it is CUDA_SUCCESS.
  CUresult begin();
  // After the body: the result of the call.
  CUresult end(CUresult result);

  [[noreturn]] static void fail(CUresult code) { throw Failure{code}; }
  // A mistake of the caller that a real driver might not notice: written down, and fails.
  [[noreturn]] void misuse(CUresult code, const std::string& what);
  void problem(const std::string& what);
  void demand(bool holds, CUresult code = CUDA_ERROR_INVALID_VALUE) const {
    if (!holds) fail(code);
  }

  // The objects behind handles, of the current context.
  std::shared_ptr<Stream> stream(CUstream handle);
  std::shared_ptr<Event> event(CUevent handle);
  std::shared_ptr<Module> module(CUmodule handle);
  std::shared_ptr<Function> function(CUfunction handle);

  // Memory that the device may reach; a mistake of the caller where it may not.
  char* device(CUdeviceptr pointer, std::size_t bytes);
  void note_bytes(std::size_t bytes);

  // Puts work on a stream, or a node in the graph that it captures. Comes after `extra`, too. Without a name it is not
  // written down among what was carried out.
  std::shared_ptr<Work> submit(const std::shared_ptr<Stream>& stream, const std::string& what, Action action,
                               const std::shared_ptr<Work>& extra = nullptr);
  // Waits; fails with what the work ran into.
  void finish(const WorkList& wanted);

  // Ends captures that a call got in the way of: that of a stream, or all of the current context.
  void forbid_while_capturing(const Stream& stream);
  void forbid_while_anything_captures();

 private:
  template <class Handle, class Object>
  std::shared_ptr<Object> owned(const Handles<Handle, Object>& handles, Handle handle, const char* what);
  bool a_capture_forbids();

  std::string name_;
  Rules rules_;
  std::shared_ptr<Entry> entry_;
  CUresult reported_ = CUDA_SUCCESS;  // by a call that gives something back
};

template <class Body>
CUresult call(const char* name, Rules rules, const Body& body) {
  Call call(name, rules);
  CUresult result = call.begin();
  if (result != CUDA_SUCCESS) return call.end(result);
  try {
    result = body(call);
  } catch (const Failure& failure) {
    result = failure.code;
  }
  return call.end(result);
}

}  // namespace simulated
