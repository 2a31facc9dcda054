#include "copy.h"

#include <cstring>
#include <utility>
#include <vector>

namespace simulated {
namespace {

// Bytes from the first to the last that an end spans.
std::size_t span(const End& end, const Extent& extent) {
  if (extent.bytes() == 0) return 0;
  return (extent.depth - 1) * end.slice_pitch + (extent.height - 1) * end.pitch + extent.width;
}

template <class Row>
void for_rows(const Extent& extent, const Row& row) {
  for (std::size_t z = 0; z < extent.depth; ++z) {
    for (std::size_t y = 0; y < extent.height; ++y) row(z, y);
  }
}

char* at(char* first, const End& end, std::size_t z, std::size_t y) {
  return first + z * end.slice_pitch + y * end.pitch;
}

// The host's address of an end when its turn has come; nullptr, with a problem noted, where it is not there any more.
char* reach_later(const End& end, std::size_t bytes, bool pinned, const std::string& what) {
  Driver& all = driver();
  const std::lock_guard<std::mutex> lock(all.mutex);
  std::string why;
  char* const host = end.on_device ? all.memory.reach(end.device, bytes, &why) : end.host;
  if (!end.on_device && pinned && all.memory.pinned(end.host, bytes) == nullptr) {
    why = "pinned memory at " + hex(reinterpret_cast<std::uintptr_t>(end.host)) + " was freed";
  }
  if (why.empty()) return host;
  all.journal.problems.push_back(what + ": " + why + " before its turn came");
  return nullptr;
}

// Whether a host's memory is pinned; half of it is a mistake.
bool is_pinned(Call& call, const End& end, std::size_t bytes) {
  if (end.on_device) return false;
  const bool first = call.driver.memory.pinned(end.host, 1) != nullptr;
  if (first && call.driver.memory.pinned(end.host, bytes) == nullptr) {
    call.misuse(CUDA_ERROR_INVALID_VALUE, std::to_string(bytes) + " bytes of the host pass the end of pinned memory");
  }
  return first;
}

void check(Call& call, const End& end, const Extent& extent) {
  const std::size_t bytes = span(end, extent);
  if (end.on_device) {
    call.device(end.device, bytes);
  } else if (reinterpret_cast<std::uintptr_t>(end.host) >= kDeviceBias) {
    call.misuse(CUDA_ERROR_INVALID_VALUE, hex(reinterpret_cast<std::uintptr_t>(end.host)) + " is no host address");
  }
  call.demand(end.on_device || end.host != nullptr);
  call.demand(extent.height == 1 || end.pitch >= extent.width);
}

std::string describe(const End& to, const End& from, const Extent& extent) {
  const std::string of[] = {"host", "device"};
  return "copy " + of[from.on_device ? 1 : 0] + " to " + of[to.on_device ? 1 : 0] + " " +
         std::to_string(extent.bytes());
}

}  // namespace

End on_device(CUdeviceptr first) { return {true, first, nullptr, 0, 0}; }

End on_host(const void* first) { return {false, 0, const_cast<char*>(static_cast<const char*>(first)), 0, 0}; }

void copy(Call& call, CUstream stream_handle, const End& to, const End& from, const Extent& extent, Waits waits) {
  const std::shared_ptr<Stream> stream = call.stream(stream_handle);
  call.note_bytes(extent.bytes());
  if (extent.bytes() == 0) return;
  check(call, to, extent);
  check(call, from, extent);
  const bool to_pinned = is_pinned(call, to, span(to, extent));
  const bool from_pinned = is_pinned(call, from, span(from, extent));
  const bool to_pageable = !to.on_device && !to_pinned;
  const bool from_pageable = !from.on_device && !from_pinned;
  if (to_pageable || from_pageable) call.forbid_while_capturing(*stream);

  std::vector<char> staged;
  if (from_pageable) staged.assign(from.host, from.host + span(from, extent));
  const std::string what = describe(to, from, extent);
  const std::shared_ptr<Work> work = call.submit(
      stream, what, [to, from, extent, what, to_pinned, from_pinned, from_pageable, staged = std::move(staged)] {
        char* const target = reach_later(to, span(to, extent), to_pinned, what);
        const char* const source =
            from_pageable ? staged.data() : reach_later(from, span(from, extent), from_pinned, what);
        if (target == nullptr || source == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
        for_rows(extent, [&](std::size_t z, std::size_t y) {
          std::memmove(at(target, to, z, y), at(const_cast<char*>(source), from, z, y), extent.width);
        });
        return CUDA_SUCCESS;
      });
  if (waits == Waits::kAlways || (waits == Waits::kForPageable && to_pageable)) call.finish({work});
}

void fill(Call& call, CUstream stream_handle, const End& to, const Extent& extent, unsigned value, std::size_t size) {
  const std::shared_ptr<Stream> stream = call.stream(stream_handle);
  call.note_bytes(extent.bytes());
  if (extent.bytes() == 0) return;
  check(call, to, extent);
  call.demand(to.device % size == 0 && (extent.height == 1 || to.pitch % size == 0));
  const std::string what = "fill " + std::to_string(extent.bytes());
  call.submit(stream, what, [to, extent, value, size, what] {
    char* const target = reach_later(to, span(to, extent), false, what);
    if (target == nullptr) return CUDA_ERROR_ILLEGAL_ADDRESS;
    for_rows(extent, [&](std::size_t z, std::size_t y) {
      char* const row = at(target, to, z, y);
      for (std::size_t x = 0; x < extent.width; x += size) std::memcpy(row + x, &value, size);
    });
    return CUDA_SUCCESS;
  });
}

}  // namespace simulated
