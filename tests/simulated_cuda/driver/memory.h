// Device memory and pinned host memory, on the host.
//
// A device address is a host address plus kDeviceBias, which no process can touch: a device pointer that the host reads
// ends the process, and a host pointer that is given to the device is no address there. Memory begins as NaN (0xFF
// bytes). What was freed is filled with another byte and kept for a while, and that it still holds it is looked at
// before it goes.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

namespace simulated {

// Beyond the addresses of user space, below the byte that Arm processors may ignore.
constexpr CUdeviceptr kDeviceBias = 0x00A0000000000000ULL;

enum class Place { kDevice, kPinned, kRegistered };

struct Allocation {
  char* host;
  std::size_t bytes;
  std::size_t mapped;
  Place place;
  unsigned flags;
  std::uintptr_t context;

  CUdeviceptr device() const { return reinterpret_cast<std::uintptr_t>(host) + kDeviceBias; }
};

class Memory {
 public:
  // Bytes of live device memory.
  std::size_t used() const { return used_; }

  // nullptr where the host has no more.
  const Allocation* allocate(std::size_t bytes, Place place, unsigned flags, std::uintptr_t context);
  // Takes memory that the host has anyway. nullptr where some of it is pinned already.
  const Allocation* enlist(void* host, std::size_t bytes, unsigned flags, std::uintptr_t context);

  // Frees what begins at a host address; `why` says what else is there, and is empty where it was freed.
  void free(std::uintptr_t host, bool device, std::string* why);

  // Host address of memory that the device may reach, nullptr with the reason in `why` where it may not.
  char* reach(CUdeviceptr pointer, std::size_t bytes, std::string* why) const;

  // The pinned memory that holds all of a host's range, or nullptr.
  const Allocation* pinned(const void* host, std::size_t bytes) const;
  // The live allocation around a device address, or nullptr.
  const Allocation* around(CUdeviceptr pointer) const;

  // Everything that is live and of a context (of all contexts if 0), freed; the list says what it was.
  std::vector<Allocation> free_all(std::uintptr_t context);
  std::vector<Allocation> live() const;

  // What was written after it was freed, since the last time this was asked.
  std::vector<std::string> written_after_free();

 private:
  void retire(const Allocation& allocation);
  void forget_oldest();
  void look_at(const Allocation& freed);
  std::string where(std::uintptr_t host, std::size_t bytes) const;

  std::map<std::uintptr_t, Allocation> live_;
  std::map<std::uintptr_t, Allocation> freed_;
  std::deque<std::uintptr_t> quarantine_;
  std::size_t quarantined_ = 0;
  std::size_t used_ = 0;
  std::vector<std::string> broken_;
};

// A number as it stands in messages.
std::string hex(std::uint64_t number);

}  // namespace simulated
