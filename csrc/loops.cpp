// Compiled once per instruction set with UPERFUSE_LEVEL set to its name.
#include "loops.h"

#include "vectors.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace uperfuse::UPERFUSE_LEVEL {
namespace {

using Ints = std::int32_t __attribute__((vector_size(kLanes * 4)));
using Words = std::uint32_t __attribute__((vector_size(kLanes * 4)));
using Bytes = std::uint8_t __attribute__((vector_size(kLanes)));

// a > b ? a : b; the compilers keep a comparison and a blend for that, in case of NaN.
Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return _mm512_maskz_max_ps(__mmask16{0xffff}, a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#elif defined(__SSE2__)
  return _mm_max_ps(a, b);
#else
  return a > b ? a : b;
#endif
}

// Horizontal stretching -----------------------------------------------------------------------------------------

// Fetches source[start[lane] + t] for kLanes neighbouring pixels, where one register holds all they read.
#if defined(__AVX512F__)
class Window {
 public:
  void place(const std::int32_t* start, std::int32_t width) {
    base_ = start[0];
    readable_ = width - base_ >= kLanes ? __mmask16{0xffff} : static_cast<__mmask16>((1U << (width - base_)) - 1U);
    offset_ = _mm512_sub_epi32(_mm512_loadu_si512(start), _mm512_set1_epi32(base_));
  }
  void read(const float* source) { source_ = _mm512_maskz_loadu_ps(readable_, source + base_); }
  Floats tap(int t) const {
    // With a mask of all lanes, because GCC 12 warns inside its header of the one without.
    return _mm512_maskz_permutexvar_ps(__mmask16{0xffff}, _mm512_add_epi32(offset_, _mm512_set1_epi32(t)), source_);
  }

 private:
  std::int32_t base_;
  __mmask16 readable_;
  __m512i offset_;
  __m512 source_;
};
#elif defined(__AVX2__)
class Window {
 public:
  void place(const std::int32_t* start, std::int32_t width) {
    base_ = start[0];
    readable_ = _mm256_cmpgt_epi32(_mm256_set1_epi32(width - base_), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    offset_ = _mm256_sub_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(start)), _mm256_set1_epi32(base_));
  }
  void read(const float* source) { source_ = _mm256_maskload_ps(source + base_, readable_); }
  Floats tap(int t) const { return _mm256_permutevar8x32_ps(source_, _mm256_add_epi32(offset_, _mm256_set1_epi32(t))); }

 private:
  std::int32_t base_;
  __m256i readable_;
  __m256i offset_;
  __m256 source_;
};
#endif

// The same one by one: at any distance from each other, and where there are no permutations.
class Gather {
 public:
  void place(const std::int32_t* start, std::int32_t) { start_ = start; }
  void read(const float* source) { source_ = source; }
  Floats tap(int t) const {
    Floats lanes;
    for (int i = 0; i < kLanes; ++i) lanes[i] = source_[start_[i] + t];
    return lanes;
  }

 private:
  const std::int32_t* start_;
  const float* source_;
};

// Class by class, not group by group: the classes of a pixel lie so far apart that they evict each other from the
// cache.
template <int kTaps, class Reader>
void expand_with(const LogitRow& row, const StripColumns& columns, int classes, Strip* out) {
  constexpr int kGroups = kStripPx / kLanes;
  Reader readers[kGroups];
  for (int g = 0; g < kGroups; ++g) readers[g].place(columns.start + g * kLanes, row.width);
  const float* source = row.first;
  for (int k = 0; k < classes; ++k, source += row.class_stride) {
    for (int g = 0; g < kGroups; ++g) {
      Reader reader = readers[g];
      reader.read(source);
      Floats sum = load(columns.weight[0] + g * kLanes) * reader.tap(0);
      for (int t = 1; t < kTaps; ++t) sum += load(columns.weight[t] + g * kLanes) * reader.tap(t);
      store(out[k].value + g * kLanes, sum);
    }
  }
}

template <int kTaps>
void expand_taps(const LogitRow& row, const StripColumns& columns, int classes, Strip* out) {
#if defined(__AVX2__)
  bool fits = true;
  for (int x = 0; x < kStripPx; x += kLanes) {
    fits = fits && columns.start[x + kLanes - 1] + kTaps - columns.start[x] <= kLanes;
  }
  if (fits) return expand_with<kTaps, Window>(row, columns, classes, out);
#endif
  expand_with<kTaps, Gather>(row, columns, classes, out);
}

void expand(const LogitRow& row, const StripColumns& columns, int taps, int classes, Strip* out) {
  switch (taps) {
    case 1:
      return expand_taps<1>(row, columns, classes, out);
    case 2:
      return expand_taps<2>(row, columns, classes, out);
    case 3:
      return expand_taps<3>(row, columns, classes, out);
    default:
      return expand_taps<kMaxTaps>(row, columns, classes, out);
  }
}

// Vertical sum, argmax, softmax ---------------------------------------------------------------------------------

// exp(x) for x <= 0 as 2^n * 2^f with n whole and f in [-1/2, 1/2]. Relative error up to 1.1e-4, which is 0.01 percent
// point of confidence; exactly 1 for 0.
Floats exp_of_nonpositive(Floats x) {
  constexpr float kLog2E = 1.44269504F;
  constexpr float kToWhole = 12582912.0F;  // 1.5 * 2^23: the sum's lowest mantissa bits are n
  constexpr float kSmallest = -87.0F;      // below, 2^n is not a normal number
  x = larger(x, in_all_lanes(kSmallest));
  const Floats shifted = x * kLog2E + kToWhole;
  const Floats f = x * kLog2E - (shifted - kToWhole);
  Floats power = f * 0.05500892967F + 0.242210972F;  // least largest relative error of a cubic that is 1 at 0
  power = power * f + 0.6932829288F;
  power = power * f + 1.0F;
  return reinterpret_cast<Floats>(reinterpret_cast<Words>(power) + (reinterpret_cast<Words>(shifted) << 23));
}

template <int kTaps>
void classify_taps(const Strip* const* rows, const float* weights, int classes, Strip* sums, std::uint8_t* labels,
                   std::uint8_t* percent) {
  Floats weight[kTaps];
  for (int t = 0; t < kTaps; ++t) weight[t] = in_all_lanes(weights[t]);
  for (int x = 0; x < kStripPx; x += kLanes) {
    const float* row[kTaps];
    for (int t = 0; t < kTaps; ++t) row[t] = rows[t]->value + x;
    float* const sum_of_first = sums->value + x;
    const auto weighted_sum = [&](std::ptrdiff_t k) {
      Floats sum = weight[0] * load(row[0] + k * kStripPx);
      for (int t = 1; t < kTaps; ++t) sum += weight[t] * load(row[t] + k * kStripPx);
      store(sum_of_first + k * kStripPx, sum);
      return sum;
    };
    Floats best = weighted_sum(0);
    Ints label{};
    for (std::int32_t k = 1; k < classes; ++k) {
      const Floats sum = weighted_sum(k);
      label = sum > best ? k - Ints{} : label;
      best = larger(sum, best);
    }
    Floats total{};
    for (std::ptrdiff_t k = 0; k < classes; ++k) {
      total += exp_of_nonpositive(load(sum_of_first + k * kStripPx) - best);
    }
    const Floats rounded = 100.0F / total + 0.5F;
    store(labels + x, __builtin_convertvector(label, Bytes));
    store(percent + x, __builtin_convertvector(__builtin_convertvector(rounded, Ints), Bytes));
  }
}

void classify(const Strip* const* rows, const float* weight, int taps, int classes, Strip* sums, std::uint8_t* labels,
              std::uint8_t* percent) {
  switch (taps) {
    case 1:
      return classify_taps<1>(rows, weight, classes, sums, labels, percent);
    case 2:
      return classify_taps<2>(rows, weight, classes, sums, labels, percent);
    case 3:
      return classify_taps<3>(rows, weight, classes, sums, labels, percent);
    default:
      return classify_taps<kMaxTaps>(rows, weight, classes, sums, labels, percent);
  }
}

// Preparation of digital numbers --------------------------------------------------------------------------------

template <class T>
void prepare(const ChannelRow& row) {
  const T* __restrict band = static_cast<const T*>(row.band);
  const T* __restrict minus = static_cast<const T*>(row.minus);
  const std::uint8_t* __restrict is_void = row.is_void;
  float* __restrict out = row.out;
  const float mean = row.mean;
  const float std = row.std;
  const std::ptrdiff_t pixels = row.pixels;
  if (minus == nullptr) {
    for (std::ptrdiff_t i = 0; i < pixels; ++i) out[i] = (static_cast<float>(band[i]) - mean) / std;
  } else {
    for (std::ptrdiff_t i = 0; i < pixels; ++i) {
      out[i] = (static_cast<float>(band[i]) - static_cast<float>(minus[i]) - mean) / std;
    }
  }
  if (is_void == nullptr) return;
  for (std::ptrdiff_t i = 0; i < pixels; ++i) out[i] = is_void[i] != 0 ? 0.0F : out[i];
}

std::int64_t count_nonfinite(const float* __restrict value, const std::uint8_t* __restrict is_void,
                             std::ptrdiff_t count) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t found = 0;
  const auto nonfinite = [&](std::ptrdiff_t i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, value + i, sizeof bits);
    return (bits & kExponent) == kExponent ? 1U : 0U;
  };
  if (is_void == nullptr) {
    for (std::ptrdiff_t i = 0; i < count; ++i) found += nonfinite(i);
  } else {
    for (std::ptrdiff_t i = 0; i < count; ++i) found += is_void[i] != 0 ? 0U : nonfinite(i);
  }
  return found;
}

}  // namespace

#define UPERFUSE_TEXT(name) #name
#define UPERFUSE_NAME(name) UPERFUSE_TEXT(name)

extern const WinogradLoops winograd_loops;
extern const Loops loops;
const Loops loops{
    UPERFUSE_NAME(UPERFUSE_LEVEL),
    expand,
    classify,
    {prepare<std::uint8_t>, prepare<std::uint16_t>, prepare<std::int16_t>, prepare<float>},
    count_nonfinite,
    &winograd_loops,
};

}  // namespace uperfuse::UPERFUSE_LEVEL
