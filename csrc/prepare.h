// Digital numbers of one tile to what an encoder reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "loops.h"

namespace uperfuse {

// Samples [C, Y, X] at any distance from each other; strides in bytes.
struct Tile {
  const char* first;
  Sample sample;
  std::ptrdiff_t height;
  std::ptrdiff_t width;
  std::ptrdiff_t band_stride;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t column_stride;
};

// Bytes [Y, X], not 0 where a pixel is void; strides in bytes. `first` is nullptr when no pixel is.
struct VoidMap {
  const char* first;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t column_stride;
};

// How an output channel is made: (tile[band] - tile[minus] - mean) / std. minus < 0 subtracts nothing.
struct Channel {
  std::ptrdiff_t band;
  std::ptrdiff_t minus;
  float mean;
  float std;
};

// Float32 [C, Y, X], columns next to each other; strides in floats.
struct PreparedTile {
  float* first;
  std::ptrdiff_t channel_stride;
  std::ptrdiff_t row_stride;
};

// Fills `out`, exactly 0 where void. Returns the number of NaN and infinite samples that are not void, each sample of
// the bands in use counted once.
std::int64_t prepare(const Tile& tile, const VoidMap& voids, const Channel* channels, std::size_t channel_count,
                     const PreparedTile& out, const Loops& loops, std::size_t threads);

}  // namespace uperfuse
