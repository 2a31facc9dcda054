// What is to be done on the device: pieces of work that wait for others, carried out when somebody waits for them.
//
// Nothing runs by itself. `finish` runs, one at a time and on the thread that waits, what the wanted work depends on.
// Two schedules are as far apart as the dependencies allow: the lazy one runs what is wanted and nothing else, in
// order; the eager one runs everything else that may run first, the latest first. A program that is right under both
// has not forgotten to wait.
#pragma once

#include <cuda.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace simulated {

struct Context;

// Carried out without the driver's lock.
using Action = std::function<CUresult()>;

struct Work {
  std::uint64_t number = 0;
  std::string what;
  std::shared_ptr<Context> context;
  std::vector<std::shared_ptr<Work>> after;
  Action action;
  bool done = false;
};

using WorkList = std::vector<std::shared_ptr<Work>>;

class Queue {
 public:
  bool eager = false;

  // `after` may hold nothing and what is done.
  std::shared_ptr<Work> add(std::shared_ptr<Context> context, std::string what, const WorkList& after, Action action);

  // Returns when all of `wanted` is done; the lock is open while an action runs. `ended` is told of each with its
  // result, under the lock.
  void finish(std::unique_lock<std::mutex>& lock, const WorkList& wanted,
              const std::function<void(const Work&, CUresult)>& ended);

  // Work of a context that is not done, in the order in which it came.
  WorkList pending(const Context& context) const;
  // Work of a context (of all contexts if nullptr) will not be carried out.
  void drop(const Context* context);
  std::size_t size() const { return pending_.size(); }

 private:
  std::shared_ptr<Work> choose(const WorkList& wanted) const;
  void collect(const std::shared_ptr<Work>& work, std::set<std::uint64_t>* numbers) const;
  void close(const std::shared_ptr<Work>& work);

  std::map<std::uint64_t, std::shared_ptr<Work>> pending_;
  std::uint64_t last_number_ = 0;
  bool running_ = false;
  std::condition_variable ended_;
};

// Whether this thread is inside of an action, where no call of the driver is allowed.
bool inside_action();

}  // namespace simulated
