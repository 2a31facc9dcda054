#include "work.h"

#include <algorithm>
#include <utility>

namespace simulated {
namespace {

thread_local bool inside = false;

bool all_done(const WorkList& list) {
  return std::all_of(list.begin(), list.end(), [](const auto& work) { return !work || work->done; });
}

}  // namespace

bool inside_action() { return inside; }

std::shared_ptr<Work> Queue::add(std::shared_ptr<Context> context, std::string what, const WorkList& after,
                                 Action action) {
  auto work = std::make_shared<Work>();
  work->number = ++last_number_;
  work->what = std::move(what);
  work->context = std::move(context);
  work->action = std::move(action);
  for (const auto& each : after) {
    if (each && !each->done) work->after.push_back(each);
  }
  pending_.emplace(work->number, work);
  return work;
}

void Queue::finish(std::unique_lock<std::mutex>& lock, const WorkList& wanted,
                   const std::function<void(const Work&, CUresult)>& ended) {
  while (!all_done(wanted)) {
    if (running_) {
      ended_.wait(lock);
      continue;
    }
    const std::shared_ptr<Work> work = choose(wanted);
    Action action = std::move(work->action);
    running_ = true;
    lock.unlock();
    inside = true;
    const CUresult result = action ? action() : CUDA_SUCCESS;
    inside = false;
    lock.lock();
    action = nullptr;
    running_ = false;
    close(work);
    ended(*work, result);
    ended_.notify_all();
  }
}

void Queue::close(const std::shared_ptr<Work>& work) {
  work->done = true;
  work->after.clear();
  work->action = nullptr;
  pending_.erase(work->number);
}

void Queue::collect(const std::shared_ptr<Work>& work, std::set<std::uint64_t>* numbers) const {
  if (!work || work->done || !numbers->insert(work->number).second) return;
  for (const auto& each : work->after) collect(each, numbers);
}

std::shared_ptr<Work> Queue::choose(const WorkList& wanted) const {
  std::set<std::uint64_t> needed;
  for (const auto& each : wanted) collect(each, &needed);
  std::shared_ptr<Work> chosen;
  if (!eager) {
    for (const std::uint64_t number : needed) {
      if (all_done(pending_.at(number)->after)) return pending_.at(number);
    }
  }
  bool chosen_is_needed = true;
  for (const auto& [number, work] : pending_) {
    const bool is_needed = needed.count(number) != 0;
    if (!all_done(work->after) || (is_needed && !chosen_is_needed)) continue;
    chosen = work;
    chosen_is_needed = is_needed;
  }
  return chosen;
}

WorkList Queue::pending(const Context& context) const {
  WorkList list;
  for (const auto& [number, work] : pending_) {
    if (work->context.get() == &context) list.push_back(work);
  }
  return list;
}

void Queue::drop(const Context* context) {
  for (auto each = pending_.begin(); each != pending_.end();) {
    const std::shared_ptr<Work> work = each->second;
    const bool gone = context == nullptr || work->context.get() == context;
    if (!gone) {
      ++each;
      continue;
    }
    each = pending_.erase(each);
    work->done = true;
    work->after.clear();
    work->action = nullptr;
  }
  ended_.notify_all();
}

}  // namespace simulated
