#include "cores.h"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace uperfuse {

#if defined(__linux__)

Cores cores_beside(const Cores& allowed) {
  cpu_set_t own;
  if (sched_getaffinity(0, sizeof own, &own) != 0) return {};
  const int taken = sched_getcpu();
  Cores beside;
  if (allowed.empty()) {
    for (int core = 0; core < CPU_SETSIZE; ++core) {
      if (core != taken && CPU_ISSET(core, &own)) beside.push_back(core);
    }
  } else {
    for (const int core : allowed) {
      if (core != taken && core >= 0 && core < CPU_SETSIZE) beside.push_back(core);
    }
  }
  return beside;
}

void keep_on(std::thread& thread, const Cores& cores) {
  if (cores.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  pthread_setaffinity_np(thread.native_handle(), sizeof set, &set);  // it works where it is, too
}

#else

Cores cores_beside(const Cores&) { return {}; }
void keep_on(std::thread&, const Cores&) {}

#endif

}  // namespace uperfuse
