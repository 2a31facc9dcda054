// Copies between memory of the host and of the device, as work on a stream.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <string>

#include "call.h"

namespace simulated {

// One end of a copy: rows of bytes at a distance from each other.
struct End {
  bool on_device;
  CUdeviceptr device;
  char* host;
  std::size_t pitch;        // from row to row
  std::size_t slice_pitch;  // from slice to slice
};

struct Extent {
  std::size_t width;  // bytes of a row
  std::size_t height = 1;
  std::size_t depth = 1;

  std::size_t bytes() const { return width * height * depth; }
};

End on_device(CUdeviceptr first);
End on_host(const void* first);

enum class Waits {
  kNever,        // the caller goes on, whatever the memory
  kForPageable,  // as copies on a stream do
  kAlways,       // as copies without a stream do
};

// What a device reads from pageable memory of the host is read at once; from pinned memory, when its turn comes. What
// it writes to pageable memory is waited for.
void copy(Call& call, CUstream stream, const End& to, const End& from, const Extent& extent, Waits waits);

// Fills device memory with a value of `size` bytes.
void fill(Call& call, CUstream stream, const End& to, const Extent& extent, unsigned value, std::size_t size);

}  // namespace simulated
