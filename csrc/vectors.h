// Vectors as wide as the instruction set that a file is compiled for; see CMakeLists.txt.
//
// Included by files that are compiled once per instruction set, and by no others. Neither they nor this use a standard
// header with inline functions: the linker could keep the copy built for the newest processor and call it on the
// oldest.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uperfuse::UPERFUSE_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

using Floats = float __attribute__((vector_size(kLanes * 4)));

inline Floats load(const float* from) {
  Floats lanes;
  __builtin_memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

template <class Vector>
inline void store(void* to, Vector lanes) {
  __builtin_memcpy(to, &lanes, sizeof lanes);
}

inline Floats in_all_lanes(float value) { return value - Floats{}; }

}  // namespace
}  // namespace uperfuse::UPERFUSE_LEVEL
