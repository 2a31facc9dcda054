#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

namespace simulated {
namespace {

constexpr int kNew = 0xFF;
constexpr int kFreed = 0xDB;
constexpr std::size_t kQuarantineBytes = std::size_t{64} << 20;

std::size_t pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return (std::max<std::size_t>(bytes, 1) + page - 1) / page * page;
}

const char* name_of(Place place) { return place == Place::kDevice ? "device memory" : "pinned memory"; }

using Ranges = std::map<std::uintptr_t, Allocation>;

// The range that a host address lies in. One that ends there counts where none begins.
Ranges::const_iterator range_of(const Ranges& ranges, std::uintptr_t host) {
  auto after = ranges.upper_bound(host);
  if (after == ranges.begin()) return ranges.end();
  --after;
  return host - after->first <= after->second.bytes ? after : ranges.end();
}

bool holds(const Allocation& allocation, std::uintptr_t host, std::size_t bytes) {
  const std::size_t before = host - reinterpret_cast<std::uintptr_t>(allocation.host);
  return before <= allocation.bytes && bytes <= allocation.bytes - before;
}

}  // namespace

std::string hex(std::uint64_t number) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(number));
  return text;
}

const Allocation* Memory::allocate(std::size_t bytes, Place place, unsigned flags, std::uintptr_t context) {
  const std::size_t mapped = pages(bytes);
  void* const memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  std::memset(memory, kNew, mapped);
  const auto first = reinterpret_cast<std::uintptr_t>(memory);
  // the system gives addresses again once they are out of quarantine
  freed_.erase(freed_.lower_bound(first), freed_.lower_bound(first + mapped));
  if (place == Place::kDevice) used_ += bytes;
  const Allocation made{static_cast<char*>(memory), bytes, mapped, place, flags, context};
  return &live_.emplace(first, made).first->second;
}

const Allocation* Memory::enlist(void* host, std::size_t bytes, unsigned flags, std::uintptr_t context) {
  const auto first = reinterpret_cast<std::uintptr_t>(host);
  const auto next = live_.lower_bound(first);
  if (next != live_.end() && next->first < first + bytes) return nullptr;
  const auto around = range_of(live_, first);
  if (around != live_.end() && first < around->first + around->second.bytes) return nullptr;
  const Allocation made{static_cast<char*>(host), bytes, 0, Place::kRegistered, flags, context};
  return &live_.emplace(first, made).first->second;
}

void Memory::free(std::uintptr_t host, bool device, std::string* why) {
  const auto found = live_.find(host);
  if (found == live_.end()) {
    *why = freed_.count(host) != 0 ? "was freed already" : "is where no allocation begins: it " + where(host, 0);
  } else if ((found->second.place == Place::kDevice) != device) {
    *why = std::string("is ") + name_of(found->second.place);
  } else {
    const Allocation allocation = found->second;
    live_.erase(found);
    retire(allocation);
  }
}

void Memory::retire(const Allocation& allocation) {
  if (allocation.place == Place::kDevice) used_ -= allocation.bytes;
  if (allocation.place == Place::kRegistered) return;
  const auto first = reinterpret_cast<std::uintptr_t>(allocation.host);
  std::memset(allocation.host, kFreed, allocation.mapped);
  freed_.insert_or_assign(first, allocation);
  quarantine_.push_back(first);
  quarantined_ += allocation.mapped;
  while (quarantined_ > kQuarantineBytes && quarantine_.size() > 1) forget_oldest();
}

void Memory::forget_oldest() {
  const Allocation oldest = freed_.at(quarantine_.front());
  quarantine_.pop_front();
  quarantined_ -= oldest.mapped;
  look_at(oldest);
  munmap(oldest.host, oldest.mapped);
}

void Memory::look_at(const Allocation& freed) {
  const auto is_kept = [](char byte) { return static_cast<unsigned char>(byte) == kFreed; };
  char* const end = freed.host + freed.mapped;
  char* const changed = std::find_if_not(freed.host, end, is_kept);
  if (changed == end) return;
  broken_.push_back("byte " + std::to_string(changed - freed.host) + " of " + std::to_string(freed.bytes) +
                    " bytes of " + name_of(freed.place) + " at " + hex(freed.device()) +
                    " was written after it was freed");
  std::memset(freed.host, kFreed, freed.mapped);
}

std::vector<std::string> Memory::written_after_free() {
  for (const std::uintptr_t first : quarantine_) look_at(freed_.at(first));
  return std::exchange(broken_, {});
}

char* Memory::reach(CUdeviceptr pointer, std::size_t bytes, std::string* why) const {
  if (pointer < kDeviceBias) {
    *why = hex(pointer) + (pointer == 0 ? " is null" : " is no device address, but one of the host or a number");
    return nullptr;
  }
  const auto host = static_cast<std::uintptr_t>(pointer - kDeviceBias);
  const auto found = range_of(live_, host);
  if (found == live_.end() || !holds(found->second, host, bytes)) {
    *why = hex(pointer) + " " + where(host, bytes);
    return nullptr;
  }
  return reinterpret_cast<char*>(host);
}

std::string Memory::where(std::uintptr_t host, std::size_t bytes) const {
  const auto live = range_of(live_, host);
  if (live != live_.end()) {
    const Allocation& allocation = live->second;
    return "with " + std::to_string(bytes) + " bytes begins at byte " + std::to_string(host - live->first) +
           " of an allocation of " + std::to_string(allocation.bytes);
  }
  const auto freed = range_of(freed_, host);
  if (freed != freed_.end()) {
    return "lies in memory of " + std::to_string(freed->second.bytes) + " bytes that was freed";
  }
  return "lies in no allocation";
}

const Allocation* Memory::pinned(const void* host, std::size_t bytes) const {
  const auto first = reinterpret_cast<std::uintptr_t>(host);
  const auto found = range_of(live_, first);
  const bool is_pinned = found != live_.end() && found->second.place != Place::kDevice;
  return is_pinned && holds(found->second, first, bytes) ? &found->second : nullptr;
}

const Allocation* Memory::around(CUdeviceptr pointer) const {
  if (pointer < kDeviceBias) return nullptr;
  const auto host = static_cast<std::uintptr_t>(pointer - kDeviceBias);
  const auto found = range_of(live_, host);
  return found != live_.end() && holds(found->second, host, 1) ? &found->second : nullptr;
}

std::vector<Allocation> Memory::free_all(std::uintptr_t context) {
  std::vector<Allocation> freed;
  for (auto each = live_.begin(); each != live_.end();) {
    const bool gone = context == 0 || each->second.context == context;
    if (gone) freed.push_back(each->second);
    each = gone ? live_.erase(each) : std::next(each);
  }
  for (const Allocation& allocation : freed) retire(allocation);
  return freed;
}

std::vector<Allocation> Memory::live() const {
  std::vector<Allocation> all;
  for (const auto& [first, allocation] : live_) all.push_back(allocation);
  return all;
}

}  // namespace simulated
