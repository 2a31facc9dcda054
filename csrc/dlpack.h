// DLPack's structures, as far as they are used: dense arrays that libraries hand to each other where they lie.
// The layout is that of dlpack.h, version 0.8, which every library speaks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace uperfuse {

struct DlDevice {
  std::int32_t type;
  std::int32_t ordinal;
};

struct DlType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct DlTensor {
  void* data;
  DlDevice device;
  std::int32_t axes;
  DlType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null where the array is dense
  std::uint64_t byte_offset;
};

struct DlManaged {
  DlTensor tensor;
  void* owner;
  void (*deleter)(DlManaged*);
};

// A dense array that somebody else may keep: `release` runs once, when its last user is done.
DlManaged* make_managed(std::uint64_t address, const std::vector<std::int64_t>& shape, DlType type, DlDevice device,
                        std::function<void()> release);

// Calls the deleter, if there is one.
void drop(DlManaged* managed);

// Whether elements lie one after the other, the last axis fastest.
bool is_dense(const DlTensor& tensor);

}  // namespace uperfuse
