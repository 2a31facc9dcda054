// The layers of a series' encoder that see every date by itself: 3 x 3 convolutions with reflected borders, each
// normalised over groups of channels and rectified.
#pragma once

#include <cstddef>
#include <vector>

#include "loops.h"

namespace uperfuse {

// One layer as it is trained. Arrays are read when the layer is appended, not later.
struct DateLayer {
  std::ptrdiff_t in_channels;
  std::ptrdiff_t out_channels;
  const float* weight;  // [out, in, 3, 3]
  const float* bias;    // [out]
  std::ptrdiff_t groups;
  float epsilon;
  const float* scale;  // [out]
  const float* shift;  // [out]
  bool residual;       // adds its input to what it gives
};

// Dates [T, C, Y, X], dense. Those with kept[t] == 0 are not computed.
struct Dates {
  const float* first;
  const float* kept;  // [T]
  std::ptrdiff_t dates;
  std::ptrdiff_t height;  // at least 2, as reflection asks for
  std::ptrdiff_t width;   // at least 2
};

// Where what a layer gives is written, [T, C, Y, X]: 0 on dates that are not kept. Strides in floats; pixels are dense
// in themselves, whatever lies between them.
struct LayerOutput {
  std::size_t layer;
  float* first;
  std::ptrdiff_t date_stride;
  std::ptrdiff_t channel_stride;
  std::ptrdiff_t pixel_stride;
};

class DateLayers {
 public:
  explicit DateLayers(const Loops& loops) : loops_(*loops.winograd) {}

  // `layer.in_channels` is what the layer before gives.
  void append(const DateLayer& layer);

  // Every date is the work of one thread, so that no result depends on their number.
  void run(const Dates& in, const std::vector<LayerOutput>& outputs, std::size_t threads) const;

  std::size_t size() const { return layers_.size(); }
  std::ptrdiff_t in_channels() const { return layers_.front().in_channels; }
  std::ptrdiff_t out_channels(std::size_t layer) const { return layers_[layer].out_channels; }

 private:
  struct Layer {
    std::ptrdiff_t in_channels;
    std::ptrdiff_t out_channels;
    std::ptrdiff_t groups;
    float epsilon;
    bool residual;
    std::vector<float> weight;  // of every component in turn, in blocks of columns; see `WinogradLoops::multiply`
    std::vector<float> bias;    // this and the next two padded with zeros
    std::vector<float> scale;
    std::vector<float> shift;
  };
  class Worker;

  std::ptrdiff_t padded(std::ptrdiff_t channels) const;

  const WinogradLoops& loops_;
  std::vector<Layer> layers_;
};

}  // namespace uperfuse
