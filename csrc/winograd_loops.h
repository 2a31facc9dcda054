// The inner loops of 3 x 3 convolutions by Winograd's F(2 x 2, 3 x 3), compiled once per instruction set from
// winograd_loops.cpp.
//
// Four neighbouring outputs (2 x 2) of a convolution need 16 inputs (4 x 4). Both are transformed so that each of the
// 16 components is a product of its own: 16 multiplications per pair of channels instead of 36.
//
// Channels lie next to each other. Their number is padded to a multiple of `lanes` with zeros, which stay zeros.
//
// Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
#pragma once

#include <cstddef>

namespace uperfuse {

constexpr int kComponents = 16;    // of a transformed square
constexpr int kSquareInputs = 16;  // pixels that a square of outputs reads
constexpr int kSquareOutputs = 4;  // pixels of a square of outputs

struct WinogradLoops {
  std::ptrdiff_t lanes;         // floats of a vector
  std::ptrdiff_t block_floats;  // columns of a block of weights; the last block of a component may have fewer

  // out[component * component_stride + c] of the 4 x 4 pixels that a square reads, row by row.
  void (*transform_input)(const float* const* pixels, std::ptrdiff_t channels, float* out,
                          std::ptrdiff_t component_stride);

  // out [rows, columns] = in [rows, terms] * weights [terms, columns], the weights in blocks of `block_floats` columns,
  // one block after the other. Rows of `in` are `in_stride` floats apart, those of `out` as many as it has columns.
  void (*multiply)(const float* in, std::ptrdiff_t in_stride, std::ptrdiff_t rows, std::ptrdiff_t terms,
                   const float* weights, std::ptrdiff_t columns, float* out);

  // The 2 x 2 outputs of a square, row by row, each with the bias added.
  void (*transform_output)(const float* in, std::ptrdiff_t component_stride, std::ptrdiff_t channels, const float* bias,
                           float* const* pixels);

  // Per channel: sums[c] = sum over pixels of (pixel - mean)^power, power 1 or 2; mean is nullptr for power 1.
  void (*sum)(const float* pixels, std::ptrdiff_t count, std::ptrdiff_t channels, const float* mean, float* sums);

  // pixel = max(0, (pixel - mean) * scale + shift), in place, plus the same place of `added` where that is given.
  void (*normalise)(float* pixels, std::ptrdiff_t count, std::ptrdiff_t channels, const float* mean, const float* scale,
                    const float* shift, const float* added);
};

}  // namespace uperfuse
