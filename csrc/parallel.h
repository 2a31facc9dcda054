// Work shared among threads that live for one call.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "cores.h"

namespace uperfuse {

// Threads worth starting: never more than there are pieces of work.
inline std::size_t workers_for(std::size_t items, std::size_t threads) { return items < threads ? items : threads; }

// Calls body(item, worker) once for every item in 0 .. items - 1, from `workers` threads of which the caller is one.
// An exception in any of them, or in starting one, is rethrown here after all have ended. The others run on `cores`,
// where those are given, but not on the caller's.
template <class Body>
void parallel_for(std::size_t items, std::size_t workers, const Body& body, const Cores& cores = {}) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  std::mutex failing;
  const auto fail = [&] {
    const std::lock_guard<std::mutex> lock(failing);
    if (!failure) failure = std::current_exception();
    next = items;
  };
  const auto work = [&](std::size_t worker) noexcept {
    try {
      for (std::size_t item = next++; item < items; item = next++) body(item, worker);
    } catch (...) {
      fail();
    }
  };
  // What is asked of a thread that has ended is done to the caller, so none ends before it has its cores.
  std::atomic<bool> placed{false};
  const auto help = [&](std::size_t worker) noexcept {
    work(worker);
    while (!placed) std::this_thread::yield();
  };
  std::vector<std::thread> others;
  try {
    others.reserve(workers);
    const Cores beside = workers > 1 ? cores_beside(cores) : Cores{};
    for (std::size_t worker = 1; worker < workers; ++worker) {
      others.emplace_back(help, worker);
      keep_on(others.back(), beside);
    }
  } catch (...) {
    fail();
  }
  placed = true;
  work(0);
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace uperfuse
