// The inner loops, compiled once per instruction set from loops.cpp and winograd_loops.cpp, and chosen at
// run time by levels.cpp.
//
// Everything here works on strips of kStripPx pixels, so that no loop has a remainder and a pixel's result does not
// depend on the width of the tile or on the thread that computes it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "winograd_loops.h"

namespace uperfuse {

constexpr int kStripPx = 64;
constexpr int kMaxTaps = 4;
constexpr int kMaxClasses = 255;

// One value per pixel of a strip.
struct alignas(64) Strip {
  float value[kStripPx];
};

// How the pixels of a strip read a row of logits: value(x) = sum over t of weight[t][x] * source[start[x] + t].
// start does not decrease, and start[x] + taps never passes the end of the row.
struct alignas(64) StripColumns {
  std::int32_t start[kStripPx];
  float weight[kMaxTaps][kStripPx];
};

// One row of logits of all classes.
struct LogitRow {
  const float* first;           // class 0, column 0
  std::ptrdiff_t class_stride;  // in floats
  std::int32_t width;           // floats that may be read
};

// One row of an output channel of `prepare`; all pointers step by one element per pixel.
struct ChannelRow {
  const void* band;
  const void* minus;            // nullptr: nothing is subtracted
  const std::uint8_t* is_void;  // nullptr: no pixel is void
  std::ptrdiff_t pixels;
  float mean;
  float std;
  float* out;
};

enum class Sample { kUint8 = 0, kUint16 = 1, kInt16 = 2, kFloat32 = 3 };
constexpr int kSampleKinds = 4;

struct Loops {
  const char* name;

  // Stretches `row` horizontally: out[k] for every class k.
  void (*expand)(const LogitRow& row, const StripColumns& columns, int taps, int classes, Strip* out);

  // Adds `taps` stretched rows with their weights, then writes per pixel the class with the largest sum (the first
  // of equals) and its softmax probability in percent. `sums` is scratch of `classes` strips.
  void (*classify)(const Strip* const* rows, const float* weight, int taps, int classes, Strip* sums,
                   std::uint8_t* labels, std::uint8_t* percent);

  // ((band - minus) - mean) / std, exactly 0 where void. One function per kind of sample.
  void (*prepare[kSampleKinds])(const ChannelRow& row);

  // Number of NaN and infinite values; those of void pixels do not count (is_void may be nullptr).
  std::int64_t (*count_nonfinite)(const float* value, const std::uint8_t* is_void, std::ptrdiff_t count);

  const WinogradLoops* winograd;
};

}  // namespace uperfuse
