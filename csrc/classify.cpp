#include "classify.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace uperfuse {
namespace {

constexpr std::ptrdiff_t kRowsPerItem = 128;

std::size_t pieces(std::ptrdiff_t length, std::ptrdiff_t piece) {
  return static_cast<std::size_t>((length + piece - 1) / piece);
}

std::vector<StripColumns> split_into_strips(const Axis& columns) {
  std::vector<StripColumns> strips(pieces(columns.px, kStripPx));
  for (std::size_t s = 0; s < strips.size(); ++s) {
    for (std::size_t i = 0; i < kStripPx; ++i) {
      // Lanes past the last column repeat it; what they give is not copied out.
      const auto x = std::min(static_cast<std::ptrdiff_t>(s * kStripPx + i), columns.px - 1);
      strips[s].start[i] = columns.start[x];
      for (int t = 0; t < columns.taps; ++t) strips[s].weight[t][i] = columns.weight[x * columns.taps + t];
    }
  }
  return strips;
}

// The stretched rows of logits that a worker needs at once, kept from one output row to the next.
class Scratch {
 public:
  Scratch(int classes, int taps)
      : classes_(static_cast<std::size_t>(classes)),
        taps_(taps),
        strips_((static_cast<std::size_t>(taps) + 1) * classes_),
        held_(static_cast<std::size_t>(taps)) {}

  void forget() { std::fill(held_.begin(), held_.end(), std::ptrdiff_t{-1}); }

  // Room for a low-resolution row; `fill` is called when it holds another one.
  template <class Fill>
  const Strip* row(std::ptrdiff_t y, const Fill& fill) {
    const auto slot = static_cast<std::size_t>(y % taps_);
    Strip* strips = strips_.data() + slot * classes_;
    if (held_[slot] != y) {
      fill(strips);
      held_[slot] = y;
    }
    return strips;
  }

  Strip* sums() { return strips_.data() + static_cast<std::size_t>(taps_) * classes_; }

 private:
  std::size_t classes_;
  std::ptrdiff_t taps_;
  std::vector<Strip> strips_;
  std::vector<std::ptrdiff_t> held_;
};

std::int64_t nonfinite_of_class(const Logits& logits, std::size_t k, const Loops& loops) {
  const float* plane = logits.first + static_cast<std::ptrdiff_t>(k) * logits.class_stride;
  std::int64_t found = 0;
  for (std::ptrdiff_t y = 0; y < logits.height; ++y) {
    found += loops.count_nonfinite(plane + y * logits.row_stride, nullptr, logits.width);
  }
  return found;
}

}  // namespace

std::int64_t classify(const Logits& logits, const Axis& rows, const Axis& columns, const ByteMap& labels,
                      const ByteMap& confidence, const Loops& loops, std::size_t threads) {
  const std::vector<StripColumns> strips = split_into_strips(columns);
  const std::size_t bands = pieces(rows.px, kRowsPerItem);
  const auto classes = static_cast<std::size_t>(logits.classes);
  const std::size_t blocks = strips.size() * bands;
  const std::size_t workers = workers_for(blocks, threads);
  std::vector<Scratch> scratches(workers, Scratch(logits.classes, rows.taps));
  std::atomic<std::int64_t> nonfinite{0};

  // One strip of columns over up to kRowsPerItem rows: what it reads and keeps fits the first-level cache.
  const auto classify_block = [&](std::size_t block, Scratch& scratch) {
    const std::size_t strip = block % strips.size();
    const auto first_x = static_cast<std::ptrdiff_t>(strip) * kStripPx;
    const auto valid = static_cast<std::size_t>(std::min<std::ptrdiff_t>(kStripPx, columns.px - first_x));
    const std::ptrdiff_t first_y = static_cast<std::ptrdiff_t>(block / strips.size()) * kRowsPerItem;
    const std::ptrdiff_t last_y = std::min(first_y + kRowsPerItem, rows.px);
    scratch.forget();
    for (std::ptrdiff_t y = first_y; y < last_y; ++y) {
      std::array<const Strip*, kMaxTaps> stretched{};
      for (int t = 0; t < rows.taps; ++t) {
        const std::ptrdiff_t low_y = rows.start[y] + t;
        stretched[static_cast<std::size_t>(t)] = scratch.row(low_y, [&](Strip* out) {
          const LogitRow row{logits.first + low_y * logits.row_stride, logits.class_stride,
                             static_cast<std::int32_t>(logits.width)};
          loops.expand(row, strips[strip], columns.taps, logits.classes, out);
        });
      }
      std::array<std::uint8_t, kStripPx> label;
      std::array<std::uint8_t, kStripPx> percent;
      loops.classify(stretched.data(), rows.weight + y * rows.taps, rows.taps, logits.classes, scratch.sums(),
                     label.data(), percent.data());
      std::memcpy(labels.first + y * labels.row_stride + first_x, label.data(), valid);
      std::memcpy(confidence.first + y * confidence.row_stride + first_x, percent.data(), valid);
    }
  };

  parallel_for(classes + blocks, workers, [&](std::size_t item, std::size_t worker) {
    if (item < classes) {
      nonfinite += nonfinite_of_class(logits, item, loops);
    } else {
      classify_block(item - classes, scratches[worker]);
    }
  });
  return nonfinite;
}

}  // namespace uperfuse
