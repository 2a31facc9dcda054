#include "prepare.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace uperfuse {
namespace {

constexpr std::ptrdiff_t kRowsPerItem = 64;

std::size_t bytes_of(Sample sample) {
  switch (sample) {
    case Sample::kUint8:
      return 1;
    case Sample::kUint16:
    case Sample::kInt16:
      return 2;
    default:
      return 4;
  }
}

template <std::size_t kBytes>
void pack(const char* from, std::ptrdiff_t stride, std::size_t count, char* to) {
  for (std::size_t i = 0; i < count; ++i, from += stride) std::memcpy(to + i * kBytes, from, kBytes);
}

// Elements next to each other and aligned: in place where they lie so already, else copied to `room`.
const void* packed(const char* from, std::ptrdiff_t stride, std::size_t bytes, std::size_t count, void* room) {
  const bool aligned = reinterpret_cast<std::uintptr_t>(from) % bytes == 0;
  if (stride == static_cast<std::ptrdiff_t>(bytes) && aligned) return from;
  char* to = static_cast<char*>(room);
  switch (bytes) {
    case 1:
      pack<1>(from, stride, count, to);
      break;
    case 2:
      pack<2>(from, stride, count, to);
      break;
    default:
      pack<4>(from, stride, count, to);
      break;
  }
  return room;
}

// The bands that any channel reads, each once.
std::vector<std::size_t> bands_in_use(const Channel* channels, std::size_t channel_count) {
  std::vector<std::size_t> bands;
  for (std::size_t c = 0; c < channel_count; ++c) {
    bands.push_back(static_cast<std::size_t>(channels[c].band));
    if (channels[c].minus >= 0) bands.push_back(static_cast<std::size_t>(channels[c].minus));
  }
  std::sort(bands.begin(), bands.end());
  bands.erase(std::unique(bands.begin(), bands.end()), bands.end());
  return bands;
}

// One row of the tile, made readable by the inner loops.
class Row {
 public:
  Row(const Tile& tile, const VoidMap& voids, const std::vector<std::size_t>& bands)
      : tile_(tile),
        voids_(voids),
        bands_(bands),
        width_(static_cast<std::size_t>(tile.width)),
        sample_room_(bands.size() * width_),
        void_room_(width_),
        samples_(bands.back() + 1) {}

  void move_to(std::ptrdiff_t y) {
    const std::size_t bytes = bytes_of(tile_.sample);
    float* room = sample_room_.data();
    for (const std::size_t band : bands_) {
      const char* from = tile_.first + static_cast<std::ptrdiff_t>(band) * tile_.band_stride + y * tile_.row_stride;
      samples_[band] = packed(from, tile_.column_stride, bytes, width_, room);
      room += width_;
    }
    if (voids_.first == nullptr) return;
    const char* from = voids_.first + y * voids_.row_stride;
    is_void_ = static_cast<const std::uint8_t*>(packed(from, voids_.column_stride, 1, width_, void_room_.data()));
  }

  const void* samples(std::ptrdiff_t band) const {
    return band < 0 ? nullptr : samples_[static_cast<std::size_t>(band)];
  }
  const std::uint8_t* is_void() const { return is_void_; }

  std::int64_t count_nonfinite(const Loops& loops) const {
    std::int64_t found = 0;
    if (tile_.sample != Sample::kFloat32) return found;
    for (const std::size_t band : bands_) {
      found += loops.count_nonfinite(static_cast<const float*>(samples_[band]), is_void_, tile_.width);
    }
    return found;
  }

 private:
  const Tile& tile_;
  const VoidMap& voids_;
  const std::vector<std::size_t>& bands_;
  std::size_t width_;
  std::vector<float> sample_room_;  // float is aligned for every kind of sample
  std::vector<std::uint8_t> void_room_;
  std::vector<const void*> samples_;
  const std::uint8_t* is_void_ = nullptr;
};

}  // namespace

std::int64_t prepare(const Tile& tile, const VoidMap& voids, const Channel* channels, std::size_t channel_count,
                     const PreparedTile& out, const Loops& loops, std::size_t threads) {
  const std::vector<std::size_t> bands = bands_in_use(channels, channel_count);
  const auto prepare_channel = loops.prepare[static_cast<std::size_t>(tile.sample)];
  const auto items = static_cast<std::size_t>((tile.height + kRowsPerItem - 1) / kRowsPerItem);
  const std::size_t workers = workers_for(items, threads);
  std::atomic<std::int64_t> nonfinite{0};

  parallel_for(items, workers, [&](std::size_t item, std::size_t) {
    Row row(tile, voids, bands);
    const auto first_y = static_cast<std::ptrdiff_t>(item) * kRowsPerItem;
    for (std::ptrdiff_t y = first_y; y < std::min(first_y + kRowsPerItem, tile.height); ++y) {
      row.move_to(y);
      nonfinite += row.count_nonfinite(loops);
      for (std::size_t c = 0; c < channel_count; ++c) {
        const Channel& channel = channels[c];
        float* to = out.first + static_cast<std::ptrdiff_t>(c) * out.channel_stride + y * out.row_stride;
        prepare_channel({row.samples(channel.band), row.samples(channel.minus), row.is_void(), tile.width, channel.mean,
                         channel.std, to});
      }
    }
  });
  return nonfinite;
}

}  // namespace uperfuse
