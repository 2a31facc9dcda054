// Logits of one tile to labels and confidence, resized on the way; the full-size logits never exist.
#pragma once

#include <cstddef>
#include <cstdint>

#include "loops.h"

namespace uperfuse {

// Logits [K, h, w] float32, columns next to each other; strides in floats.
struct Logits {
  const float* first;
  int classes;
  std::ptrdiff_t height;
  std::ptrdiff_t width;
  std::ptrdiff_t class_stride;
  std::ptrdiff_t row_stride;
};

// out[i] = sum over t < taps of weight[i * taps + t] * in[start[i] + t], along one axis.
// start does not decrease, 0 <= start, and start + taps stays within the axis.
struct Axis {
  const std::int32_t* start;
  const float* weight;
  std::ptrdiff_t px;
  int taps;
};

// Bytes [Y, X], columns next to each other.
struct ByteMap {
  std::uint8_t* first;
  std::ptrdiff_t row_stride;
};

// Writes the label and the confidence in percent of every pixel; returns the number of NaN and infinite logits. When
// that is not 0 the maps are meaningless.
std::int64_t classify(const Logits& logits, const Axis& rows, const Axis& columns, const ByteMap& labels,
                      const ByteMap& confidence, const Loops& loops, std::size_t threads);

}  // namespace uperfuse
