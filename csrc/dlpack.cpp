#include "dlpack.h"

#include <memory>
#include <utility>

namespace uperfuse {
namespace {

// What a managed array points into, and what becomes of it.
struct Kept {
  DlManaged managed;
  std::vector<std::int64_t> shape;
  std::function<void()> release;
};

void release_kept(DlManaged* managed) {
  const std::unique_ptr<Kept> kept(static_cast<Kept*>(managed->owner));
  kept->release();
}

}  // namespace

DlManaged* make_managed(std::uint64_t address, const std::vector<std::int64_t>& shape, DlType type, DlDevice device,
                        std::function<void()> release) {
  auto kept = std::make_unique<Kept>();
  kept->shape = shape;
  kept->release = std::move(release);
  void* data = reinterpret_cast<void*>(static_cast<std::uintptr_t>(address));
  const auto axes = static_cast<std::int32_t>(shape.size());
  kept->managed.tensor = DlTensor{data, device, axes, type, kept->shape.data(), nullptr, 0};
  kept->managed.owner = kept.get();
  kept->managed.deleter = release_kept;
  return &kept.release()->managed;
}

void drop(DlManaged* managed) {
  if (managed != nullptr && managed->deleter != nullptr) managed->deleter(managed);
}

bool is_dense(const DlTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  std::int64_t step = 1;
  for (std::int32_t axis = tensor.axes - 1; axis >= 0; --axis) {
    // along an axis of one entry no step is taken
    if (tensor.shape[axis] != 1 && tensor.strides[axis] != step) return false;
    step *= tensor.shape[axis];
  }
  return true;
}

}  // namespace uperfuse
