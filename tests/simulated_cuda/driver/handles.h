// Handles that are never given twice, so that one used after its object is gone is told from all others.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

namespace simulated {

// Neither an address of this process nor of its device memory.
std::uintptr_t next_handle();

// Objects by their handle. `Object` has a member `handle`, which `add` sets.
template <class Handle, class Object>
class Handles {
 public:
  Handle add(std::shared_ptr<Object> object) {
    object->handle = next_handle();
    const auto handle = reinterpret_cast<Handle>(object->handle);
    objects_.emplace(object->handle, std::move(object));
    return handle;
  }

  // nullptr where the handle was never given, or its object is gone.
  std::shared_ptr<Object> find(Handle handle) const {
    const auto found = objects_.find(reinterpret_cast<std::uintptr_t>(handle));
    return found == objects_.end() ? nullptr : found->second;
  }

  void remove(Handle handle) { objects_.erase(reinterpret_cast<std::uintptr_t>(handle)); }

  template <class Unwanted>
  std::size_t remove_if(const Unwanted& unwanted) {
    std::size_t removed = 0;
    for (auto each = objects_.begin(); each != objects_.end();) {
      const bool gone = unwanted(*each->second);
      removed += gone ? 1 : 0;
      each = gone ? objects_.erase(each) : std::next(each);
    }
    return removed;
  }

  const std::map<std::uintptr_t, std::shared_ptr<Object>>& all() const { return objects_; }

 private:
  std::map<std::uintptr_t, std::shared_ptr<Object>> objects_;
};

}  // namespace simulated
