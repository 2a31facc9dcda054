#include "date_layers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "parallel.h"

namespace uperfuse {
namespace {

// Squares whose products are made at once: few enough that their components stay in the second-level cache with the
// weights, many enough that each weight that is fetched is used many times.
constexpr std::ptrdiff_t kSquaresAtOnce = 30;

// Memory for vectors: lines of a cache, so that no vector lies across two.
class Lines {
 public:
  explicit Lines(std::ptrdiff_t floats) : lines_(static_cast<std::size_t>((floats + kFloats - 1) / kFloats)) {}

  float* data() { return lines_.front().value; }

 private:
  static constexpr std::ptrdiff_t kFloats = 16;
  struct alignas(64) Line {
    float value[kFloats];
  };
  std::vector<Line> lines_;
};

// G g G^T of one 3 x 3 filter, for F(2 x 2, 3 x 3).
std::array<double, kComponents> transformed(const float* filter) {
  constexpr double kG[4][3] = {{1.0, 0.0, 0.0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0.0, 0.0, 1.0}};
  std::array<double, kComponents> components{};
  for (std::size_t y = 0; y < 4; ++y) {
    for (std::size_t x = 0; x < 4; ++x) {
      for (std::size_t i = 0; i < 3; ++i) {
        for (std::size_t j = 0; j < 3; ++j) {
          components[y * 4 + x] += kG[y][i] * kG[x][j] * static_cast<double>(filter[i * 3 + j]);
        }
      }
    }
  }
  return components;
}

std::vector<float> with_zeros(const float* values, std::ptrdiff_t count, std::ptrdiff_t padded) {
  std::vector<float> longer(values, values + count);
  longer.resize(static_cast<std::size_t>(padded), 0.0F);
  return longer;
}

// Row or column next to an axis of `px`, reflected at both ends; what lies farther out is only read for outputs that
// nobody wants.
std::ptrdiff_t reflected(std::ptrdiff_t at, std::ptrdiff_t px) {
  if (at < 0) return -at;
  return std::min(at < px ? at : 2 * px - 2 - at, px - 1);
}

void clear(const LayerOutput& output, std::ptrdiff_t date, std::ptrdiff_t channels, std::ptrdiff_t pixels) {
  for (std::ptrdiff_t c = 0; c < channels; ++c) {
    float* to = output.first + date * output.date_stride + c * output.channel_stride;
    for (std::ptrdiff_t i = 0; i < pixels; ++i) to[i * output.pixel_stride] = 0.0F;
  }
}

}  // namespace

std::ptrdiff_t DateLayers::padded(std::ptrdiff_t channels) const {
  return (channels + loops_.lanes - 1) / loops_.lanes * loops_.lanes;
}

void DateLayers::append(const DateLayer& layer) {
  const std::ptrdiff_t columns = padded(layer.out_channels);
  const std::ptrdiff_t component_floats = layer.in_channels * columns;
  std::vector<float> weight(static_cast<std::size_t>(kComponents * component_floats), 0.0F);
  for (std::ptrdiff_t o = 0; o < layer.out_channels; ++o) {
    const std::ptrdiff_t block_first = o / loops_.block_floats * loops_.block_floats;
    const std::ptrdiff_t block_columns = std::min(loops_.block_floats, columns - block_first);
    for (std::ptrdiff_t c = 0; c < layer.in_channels; ++c) {
      const std::array<double, kComponents> components = transformed(layer.weight + (o * layer.in_channels + c) * 9);
      const std::ptrdiff_t place = block_first * layer.in_channels + c * block_columns + (o - block_first);
      for (std::ptrdiff_t component = 0; component < kComponents; ++component) {
        weight[static_cast<std::size_t>(component * component_floats + place)] =
            static_cast<float>(components[static_cast<std::size_t>(component)]);
      }
    }
  }
  layers_.push_back({layer.in_channels, layer.out_channels, layer.groups, layer.epsilon, layer.residual,
                     std::move(weight), with_zeros(layer.bias, layer.out_channels, columns),
                     with_zeros(layer.scale, layer.out_channels, columns),
                     with_zeros(layer.shift, layer.out_channels, columns)});
}

// One thread's memory, and what it does with a few dates: all layers in turn, while they are in its caches.
class DateLayers::Worker {
 public:
  Worker(const DateLayers& layers, const Dates& in, std::ptrdiff_t most_dates)
      : layers_(layers),
        loops_(layers.loops_),
        in_(in),
        pixels_(in.height * in.width),
        squares_across_((in.width + 1) / 2),
        squares_((in.height + 1) / 2 * squares_across_),
        widest_(widest(layers)),
        here_(most_dates * pixels_ * widest_),
        there_(most_dates * pixels_ * widest_),
        transformed_(kComponents * kSquaresAtOnce * widest_),
        products_(kComponents * kSquaresAtOnce * widest_),
        nowhere_(widest_),
        sums_(widest_),
        mean_(widest_),
        scale_(widest_) {}

  void run(const std::ptrdiff_t* dates, std::ptrdiff_t count, const std::vector<LayerOutput>& outputs) {
    float* from = here_.data();
    float* to = there_.data();
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      read(dates[i], from + i * pixels_ * layers_.padded(layers_.in_channels()));
    }
    for (std::size_t index = 0; index < layers_.layers_.size(); ++index) {
      const Layer& layer = layers_.layers_[index];
      const std::ptrdiff_t in_floats = pixels_ * layers_.padded(layer.in_channels);
      const std::ptrdiff_t out_floats = pixels_ * layers_.padded(layer.out_channels);
      for (std::ptrdiff_t first = 0; first < count * squares_; first += kSquaresAtOnce) {
        convolve(layer, from, to, first, std::min(first + kSquaresAtOnce, count * squares_));
      }
      for (std::ptrdiff_t i = 0; i < count; ++i) {
        normalise(layer, to + i * out_floats, layer.residual ? from + i * in_floats : nullptr);
      }
      for (const LayerOutput& output : outputs) {
        if (output.layer != index) continue;
        for (std::ptrdiff_t i = 0; i < count; ++i) write(layer, to + i * out_floats, output, dates[i]);
      }
      std::swap(from, to);
    }
  }

 private:
  static std::ptrdiff_t widest(const DateLayers& layers) {
    std::ptrdiff_t channels = layers.padded(layers.in_channels());
    for (const Layer& layer : layers.layers_) channels = std::max(channels, layers.padded(layer.out_channels));
    return channels;
  }

  // [C, Y, X] to [Y, X, C].
  void read(std::ptrdiff_t date, float* to) const {
    const std::ptrdiff_t channels = layers_.in_channels();
    const std::ptrdiff_t columns = layers_.padded(channels);
    const float* from = in_.first + date * channels * pixels_;
    std::fill(to, to + pixels_ * columns, 0.0F);
    for (std::ptrdiff_t c = 0; c < channels; ++c, from += pixels_) {
      for (std::ptrdiff_t i = 0; i < pixels_; ++i) to[i * columns + c] = from[i];
    }
  }

  // [Y, X, C] to where the output wants it.
  void write(const Layer& layer, const float* from, const LayerOutput& output, std::ptrdiff_t date) const {
    const std::ptrdiff_t columns = layers_.padded(layer.out_channels);
    float* to = output.first + date * output.date_stride;
    if (output.channel_stride == 1) {
      for (std::ptrdiff_t i = 0; i < pixels_; ++i) {
        std::copy_n(from + i * columns, layer.out_channels, to + i * output.pixel_stride);
      }
      return;
    }
    for (std::ptrdiff_t c = 0; c < layer.out_channels; ++c, to += output.channel_stride) {
      for (std::ptrdiff_t i = 0; i < pixels_; ++i) to[i * output.pixel_stride] = from[i * columns + c];
    }
  }

  // Squares `first` to `last` - 1 of all dates, counted through.
  void convolve(const Layer& layer, const float* from, float* to, std::ptrdiff_t first, std::ptrdiff_t last) {
    const std::ptrdiff_t in_columns = layers_.padded(layer.in_channels);
    const std::ptrdiff_t out_columns = layers_.padded(layer.out_channels);
    const std::ptrdiff_t rows = last - first;
    for (std::ptrdiff_t square = first; square < last; ++square) {
      const Place at = place(square);
      const float* date = from + at.date * pixels_ * in_columns;
      std::array<const float*, kSquareInputs> inputs;
      for (std::ptrdiff_t i = 0; i < kSquareInputs; ++i) {
        const std::ptrdiff_t y = reflected(at.y - 1 + i / 4, in_.height);
        const std::ptrdiff_t x = reflected(at.x - 1 + i % 4, in_.width);
        inputs[static_cast<std::size_t>(i)] = date + (y * in_.width + x) * in_columns;
      }
      loops_.transform_input(inputs.data(), in_columns, transformed_.data() + (square - first) * in_columns,
                             rows * in_columns);
    }
    for (std::ptrdiff_t component = 0; component < kComponents; ++component) {
      loops_.multiply(transformed_.data() + component * rows * in_columns, in_columns, rows, layer.in_channels,
                      layer.weight.data() + component * layer.in_channels * out_columns, out_columns,
                      products_.data() + component * rows * out_columns);
    }
    for (std::ptrdiff_t square = first; square < last; ++square) {
      const Place at = place(square);
      float* date = to + at.date * pixels_ * out_columns;
      std::array<float*, kSquareOutputs> outputs;
      for (std::ptrdiff_t i = 0; i < kSquareOutputs; ++i) {
        const std::ptrdiff_t y = at.y + i / 2;
        const std::ptrdiff_t x = at.x + i % 2;
        const bool inside = y < in_.height && x < in_.width;
        outputs[static_cast<std::size_t>(i)] = inside ? date + (y * in_.width + x) * out_columns : nowhere_.data();
      }
      loops_.transform_output(products_.data() + (square - first) * out_columns, rows * out_columns, out_columns,
                              layer.bias.data(), outputs.data());
    }
  }

  // Mean and variance of each group over one date's pixels, one after the other: squares of large numbers would swallow
  // their difference.
  void normalise(const Layer& layer, float* pixels, const float* added) {
    const std::ptrdiff_t columns = layers_.padded(layer.out_channels);
    const std::ptrdiff_t channels = layer.out_channels / layer.groups;
    const auto mean_of_group = [&](std::ptrdiff_t first) {
      const double total = std::accumulate(sums_.data() + first, sums_.data() + first + channels, 0.0);
      return total / static_cast<double>(channels * pixels_);
    };
    std::fill(mean_.data(), mean_.data() + columns, 0.0F);
    std::fill(scale_.data(), scale_.data() + columns, 0.0F);
    loops_.sum(pixels, pixels_, columns, nullptr, sums_.data());
    for (std::ptrdiff_t first = 0; first < layer.out_channels; first += channels) {
      std::fill_n(mean_.data() + first, channels, static_cast<float>(mean_of_group(first)));
    }
    loops_.sum(pixels, pixels_, columns, mean_.data(), sums_.data());
    for (std::ptrdiff_t first = 0; first < layer.out_channels; first += channels) {
      const auto deviation = static_cast<float>(std::sqrt(mean_of_group(first) + static_cast<double>(layer.epsilon)));
      for (std::ptrdiff_t c = first; c < first + channels; ++c) scale_.data()[c] = layer.scale.data()[c] / deviation;
    }
    loops_.normalise(pixels, pixels_, columns, mean_.data(), scale_.data(), layer.shift.data(), added);
  }

  struct Place {
    std::ptrdiff_t date;
    std::ptrdiff_t y;
    std::ptrdiff_t x;
  };

  Place place(std::ptrdiff_t square) const {
    const std::ptrdiff_t of_date = square % squares_;
    return {square / squares_, of_date / squares_across_ * 2, of_date % squares_across_ * 2};
  }

  const DateLayers& layers_;
  const WinogradLoops& loops_;
  const Dates& in_;
  std::ptrdiff_t pixels_;
  std::ptrdiff_t squares_across_;
  std::ptrdiff_t squares_;
  std::ptrdiff_t widest_;
  Lines here_;
  Lines there_;
  Lines transformed_;
  Lines products_;
  Lines nowhere_;
  Lines sums_;
  Lines mean_;
  Lines scale_;
};

void DateLayers::run(const Dates& in, const std::vector<LayerOutput>& outputs, std::size_t threads) const {
  std::vector<std::ptrdiff_t> kept;
  for (std::ptrdiff_t date = 0; date < in.dates; ++date) {
    if (in.kept[date] != 0.0F) {
      kept.push_back(date);
      continue;
    }
    for (const LayerOutput& output : outputs) clear(output, date, out_channels(output.layer), in.height * in.width);
  }
  const std::ptrdiff_t squares = (in.height + 1) / 2 * ((in.width + 1) / 2);
  const auto at_once = static_cast<std::size_t>(std::max<std::ptrdiff_t>(kSquaresAtOnce / squares, 1));
  const std::size_t items = (kept.size() + at_once - 1) / at_once;
  const std::size_t workers_count = workers_for(items, threads);
  std::vector<Worker> workers;
  workers.reserve(workers_count);
  for (std::size_t i = 0; i < workers_count; ++i) workers.emplace_back(*this, in, static_cast<std::ptrdiff_t>(at_once));
  parallel_for(items, workers_count, [&](std::size_t item, std::size_t worker) {
    const std::size_t first = item * at_once;
    workers[worker].run(kept.data() + first, static_cast<std::ptrdiff_t>(std::min(at_once, kept.size() - first)),
                        outputs);
  });
}

}  // namespace uperfuse
