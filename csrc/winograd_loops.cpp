#include "winograd_loops.h"

#include "vectors.h"

namespace uperfuse::UPERFUSE_LEVEL {
namespace {

// Rows and vectors of a product that are kept in registers.
constexpr int kRows = 6;
#if defined(__AVX512F__) || defined(__aarch64__)  // 32 registers
constexpr int kVectors = 4;
#else
constexpr int kVectors = 2;
#endif

// B^T d B, with one row of B^T per result.
void transform_input(const float* const* pixels, std::ptrdiff_t channels, float* out, std::ptrdiff_t component_stride) {
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    Floats half[4][4];  // rows transformed, columns not yet
    for (int x = 0; x < 4; ++x) {
      const Floats d0 = load(pixels[x] + c);
      const Floats d1 = load(pixels[4 + x] + c);
      const Floats d2 = load(pixels[8 + x] + c);
      const Floats d3 = load(pixels[12 + x] + c);
      half[0][x] = d0 - d2;
      half[1][x] = d1 + d2;
      half[2][x] = d2 - d1;
      half[3][x] = d1 - d3;
    }
    float* to = out + c;
    for (int y = 0; y < 4; ++y, to += 4 * component_stride) {
      store(to, half[y][0] - half[y][2]);
      store(to + component_stride, half[y][1] + half[y][2]);
      store(to + 2 * component_stride, half[y][2] - half[y][1]);
      store(to + 3 * component_stride, half[y][1] - half[y][3]);
    }
  }
}

template <int kRowCount, int kVectorCount>
void multiply_block(const float* in, std::ptrdiff_t in_stride, std::ptrdiff_t terms, const float* weights, float* out,
                    std::ptrdiff_t out_stride) {
  Floats sums[kRowCount][kVectorCount] = {};
  for (std::ptrdiff_t k = 0; k < terms; ++k, weights += kVectorCount * kLanes) {
    Floats weight[kVectorCount];
    for (int v = 0; v < kVectorCount; ++v) weight[v] = load(weights + v * kLanes);
    for (int r = 0; r < kRowCount; ++r) {
      const Floats value = in_all_lanes(in[r * in_stride + k]);
      for (int v = 0; v < kVectorCount; ++v) sums[r][v] += value * weight[v];
    }
  }
  for (int r = 0; r < kRowCount; ++r) {
    for (int v = 0; v < kVectorCount; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
  }
}

// Calls the block of `rows` rows, at most kRows.
template <int kVectorCount, int kRowCount = kRows>
void multiply_rows(std::ptrdiff_t rows, const float* in, std::ptrdiff_t in_stride, std::ptrdiff_t terms,
                   const float* weights, float* out, std::ptrdiff_t out_stride) {
  if (rows == kRowCount) {
    multiply_block<kRowCount, kVectorCount>(in, in_stride, terms, weights, out, out_stride);
  } else if constexpr (kRowCount > 1) {
    multiply_rows<kVectorCount, kRowCount - 1>(rows, in, in_stride, terms, weights, out, out_stride);
  }
}

// All rows by one block of weights, in pieces that differ by one row at most: a piece of few rows waits for its
// weights.
template <int kVectorCount>
void multiply_columns(const float* in, std::ptrdiff_t in_stride, std::ptrdiff_t rows, std::ptrdiff_t terms,
                      const float* weights, float* out, std::ptrdiff_t out_stride) {
  for (std::ptrdiff_t pieces = (rows + kRows - 1) / kRows; pieces > 0; --pieces) {
    const std::ptrdiff_t piece = (rows + pieces - 1) / pieces;
    multiply_rows<kVectorCount>(piece, in, in_stride, terms, weights, out, out_stride);
    in += piece * in_stride;
    out += piece * out_stride;
    rows -= piece;
  }
}

void multiply(const float* in, std::ptrdiff_t in_stride, std::ptrdiff_t rows, std::ptrdiff_t terms,
              const float* weights, std::ptrdiff_t columns, float* out) {
  for (std::ptrdiff_t first = 0; first < columns; first += kVectors * kLanes, weights += terms * kVectors * kLanes) {
    switch (columns - first >= kVectors * kLanes ? kVectors : (columns - first) / kLanes) {
#if defined(__AVX512F__) || defined(__aarch64__)  // 32 registers
      case 4:
        multiply_columns<4>(in, in_stride, rows, terms, weights, out + first, columns);
        break;
      case 3:
        multiply_columns<3>(in, in_stride, rows, terms, weights, out + first, columns);
        break;
#endif
      case 2:
        multiply_columns<2>(in, in_stride, rows, terms, weights, out + first, columns);
        break;
      default:
        multiply_columns<1>(in, in_stride, rows, terms, weights, out + first, columns);
        break;
    }
  }
}

// A^T m A, with one row of A^T per result.
void transform_output(const float* in, std::ptrdiff_t component_stride, std::ptrdiff_t channels, const float* bias,
                      float* const* pixels) {
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    Floats half[2][4];
    for (int x = 0; x < 4; ++x) {
      const float* from = in + x * component_stride + c;
      const Floats m0 = load(from);
      const Floats m1 = load(from + 4 * component_stride);
      const Floats m2 = load(from + 8 * component_stride);
      const Floats m3 = load(from + 12 * component_stride);
      half[0][x] = m0 + m1 + m2;
      half[1][x] = m1 - m2 - m3;
    }
    const Floats added = load(bias + c);
    for (int y = 0; y < 2; ++y) {
      store(pixels[2 * y] + c, half[y][0] + half[y][1] + half[y][2] + added);
      store(pixels[2 * y + 1] + c, half[y][1] - half[y][2] - half[y][3] + added);
    }
  }
}

void sum(const float* pixels, std::ptrdiff_t count, std::ptrdiff_t channels, const float* mean, float* sums) {
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    Floats total[2] = {};  // two, so that an addition need not wait for the one before
    const Floats off = mean == nullptr ? Floats{} : load(mean + c);
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      const Floats value = load(pixels + i * channels + c) - off;
      total[i % 2] += mean == nullptr ? value : value * value;
    }
    store(sums + c, total[0] + total[1]);
  }
}

void normalise(float* pixels, std::ptrdiff_t count, std::ptrdiff_t channels, const float* mean, const float* scale,
               const float* shift, const float* added) {
  for (std::ptrdiff_t c = 0; c < channels; c += kLanes) {
    const Floats off = load(mean + c);
    const Floats factor = load(scale + c);
    const Floats plus = load(shift + c);
    for (std::ptrdiff_t i = c; i < count * channels; i += channels) {
      const Floats value = (load(pixels + i) - off) * factor + plus;
      const Floats rectified = value < 0.0F ? Floats{} : value;  // NaN stays
      store(pixels + i, added == nullptr ? rectified : rectified + load(added + i));
    }
  }
}

}  // namespace

extern const WinogradLoops winograd_loops;
const WinogradLoops winograd_loops{
    kLanes, kVectors * kLanes, transform_input, multiply, transform_output, sum, normalise,
};

}  // namespace uperfuse::UPERFUSE_LEVEL
