// What was called, what was carried out, what was done wrong, and which calls are to fail.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

namespace simulated {

// One call of the driver.
struct Entry {
  std::string call;
  CUresult result;
  std::uintptr_t stream;
  std::size_t bytes;
};

// A fault to come: the call after the next `after` calls of that name.
struct Injection {
  std::uint64_t number;
  std::string call;
  CUresult code;
  int after;
};

struct Journal {
  std::vector<std::shared_ptr<Entry>> calls;
  std::vector<std::string> executed;
  std::vector<std::string> problems;
  std::list<Injection> injections;

  // The code with which a call is to fail, CUDA_SUCCESS if it is not.
  CUresult fault(const std::string& call) {
    for (auto each = injections.begin(); each != injections.end(); ++each) {
      if (each->call != call || each->after-- > 0) continue;
      const CUresult code = each->code;
      injections.erase(each);
      return code;
    }
    return CUDA_SUCCESS;
  }
};

}  // namespace simulated
