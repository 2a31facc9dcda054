// Includes no standard header with inline functions: the linker could keep the copy built for the newest processor and
// call it on the oldest.
#include "window_attention_loops.h"

#include <immintrin.h>

namespace uperfuse {
namespace {

constexpr int kLanes = 16;        // of 32 bits: a float, or a pair of bf16
constexpr int kHeadPairs = 16;    // of channels
constexpr int kGroup = 12;        // queries whose results are made at once
constexpr float kApart = -1e30F;  // score of tokens that do not meet
constexpr float kLog2E = 1.44269504F;

alignas(64) constexpr std::uint16_t kNothing[kHeadChannels + 1] = {};

// Numbers of two rows in turns, the second's counted from 32.
alignas(64) constexpr std::uint16_t kInterleaved[2][32] = {
    {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
     8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
    {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55,
     24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};

using Lanes = std::uint32_t[kLanes];

// Queries whose scores fill the 32 registers, beside a vector of keys and one per query.
template <int kBlocks>
constexpr int kRows = kBlocks <= 2    ? 12
                      : kBlocks <= 4  ? 6
                      : kBlocks <= 6  ? 4
                      : kBlocks <= 9  ? 3
                      : kBlocks <= 14 ? 2
                                      : 1;

template <int kBlocks>
struct alignas(64) Scratch {
  Lanes keys[kHeadPairs][kBlocks];           // [pair of channels, token]
  Lanes values[kBlocks * 8][2];              // [pair of tokens, channel]
  Lanes weights[kGroup][(kBlocks + 1) / 2];  // [query, pair of tokens]
  float totals[kGroup][kLanes];              // parts of the sum of a query's weights
};

inline __m512i load(const void* from) { return _mm512_loadu_si512(from); }
inline __m512bh as_pairs(__m512i lanes) { return reinterpret_cast<__m512bh>(lanes); }
inline __m512bh in_all_lanes(std::uint32_t pair) { return as_pairs(_mm512_set1_epi32(static_cast<int>(pair))); }

// Columns of 16 x 16 lanes from its rows.
inline void transpose(__m512i (&rows)[kLanes], Lanes* to, std::ptrdiff_t stride) {
  __m512i pairs[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; i += 4) {
    rows[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    rows[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    rows[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    rows[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  // rows[4 i + j] holds, in its quarter q, column 4 q + j of rows 4 i to 4 i + 3
#pragma GCC unroll 16
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xdd);
    _mm512_store_si512(to[j * stride], _mm512_shuffle_i32x4(even_low, even_high, 0x88));
    _mm512_store_si512(to[(4 + j) * stride], _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
    _mm512_store_si512(to[(8 + j) * stride], _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
    _mm512_store_si512(to[(12 + j) * stride], _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
  }
}

// 2^x to 1e-4 of itself, for x <= 0: more than the bf16 that it is rounded to can hold.
inline __m512 power_of_2(__m512 x) {
  const __m512 part = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
  __m512 power = _mm512_fmadd_ps(_mm512_set1_ps(0.07826797F), part, _mm512_set1_ps(0.22630768F));
  power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(0.69542435F));
  power = _mm512_fmadd_ps(power, part, _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(power, x);
}

// One head in one window.
template <int kBlocks>
class Window {
 public:
  explicit Window(const HeadInWindow& task) : task_(task), count_(static_cast<int>(task.window_tokens)) {
    for (int place = 1; place < count_; ++place) whole_ = whole_ && task.regions[place] == task.regions[0];
  }

  void run() {
    fetch_queries();
    pack_keys();
    pack_values();
    int queries[kGroup];
    int filled = 0;
    for (int place = 0; place < count_; ++place) {
      if (task_.places[place] >= task_.tokens) continue;
      queries[filled++] = place;
      if (filled == kGroup) {
        attend<kGroup>(queries, kGroup);
        filled = 0;
      }
    }
    // what is left is filled up with its last query
    for (int from = 0; from < filled; from += kRows<kBlocks>) {
      int rest[kRows<kBlocks>];
      for (int row = 0; row < kRows<kBlocks>; ++row) rest[row] = queries[from + row < filled ? from + row : filled - 1];
      attend<kRows<kBlocks>>(rest, filled - from < kRows<kBlocks> ? filled - from : kRows<kBlocks>);
    }
  }

 private:
  void fetch_queries() const {
    for (int place = 0; place < count_; ++place) {
      const std::ptrdiff_t token = task_.places[place];
      if (token < task_.tokens) _mm_prefetch(task_.queries + token * task_.channels + task_.first_channel, _MM_HINT_T0);
    }
  }

  // Where the rows of keys (part 0) or values (part 1) lie, in the order of the window.
  void find_rows(const std::uint16_t* of, std::ptrdiff_t part) {
    const std::uint16_t* const padding = task_.padding + part * task_.channels + task_.first_channel;
    for (int place = 0; place < count_; ++place) {
      const std::ptrdiff_t token = task_.places[place];
      rows_[place] = token < task_.tokens ? of + token * task_.channels + task_.first_channel : padding;
    }
    for (int place = count_; place < kBlocks * kLanes; ++place) rows_[place] = kNothing;
  }

  __m512i row(int place) const {
    _mm_prefetch(rows_[place] + kHeadChannels, _MM_HINT_T0);  // the next head will want it
    return load(rows_[place]);
  }

  void pack_keys() {
    find_rows(task_.keys, 0);
    for (int block = 0; block < kBlocks; ++block) {
      __m512i rows[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) rows[i] = row(block * kLanes + i);
      transpose(rows, &scratch_.keys[0][block], kBlocks);
    }
  }

  void pack_values() {
    find_rows(task_.values, 1);
    const __m512i low = load(kInterleaved[0]);
    const __m512i high = load(kInterleaved[1]);
    for (int pair = 0; pair < kBlocks * 8; ++pair) {
      const __m512i even = row(2 * pair);
      const __m512i odd = row(2 * pair + 1);
      _mm512_store_si512(scratch_.values[pair][0], _mm512_permutex2var_epi16(even, low, odd));
      _mm512_store_si512(scratch_.values[pair][1], _mm512_permutex2var_epi16(even, high, odd));
    }
  }

  // What kQueries queries get, of which the first `real` are written.
  template <int kQueries>
  void attend(const int* queries, int real) {
    for (int from = 0; from < kQueries; from += kRows<kBlocks>) weigh(queries + from, from);
    __m512 mixed[kQueries][2] = {};
    for (int pair = 0; pair < kBlocks * 8; ++pair) {
      const __m512bh low = as_pairs(load(scratch_.values[pair][0]));
      const __m512bh high = as_pairs(load(scratch_.values[pair][1]));
#pragma GCC unroll 12
      for (int query = 0; query < kQueries; ++query) {
        const __m512bh weight = in_all_lanes(scratch_.weights[query][pair / kLanes][pair % kLanes]);
        mixed[query][0] = _mm512_dpbf16_ps(mixed[query][0], low, weight);
        mixed[query][1] = _mm512_dpbf16_ps(mixed[query][1], high, weight);
      }
    }
    for (int query = 0; query < real; ++query) {
      const __m512 share = _mm512_set1_ps(1.0F / _mm512_reduce_add_ps(_mm512_load_ps(scratch_.totals[query])));
      const __m512bh rounded =
          _mm512_cvtne2ps_pbh(_mm512_mul_ps(mixed[query][1], share), _mm512_mul_ps(mixed[query][0], share));
      _mm512_storeu_si512(task_.out + task_.places[queries[query]] * task_.channels + task_.first_channel,
                          reinterpret_cast<__m512i>(rounded));
    }
  }

  // Weights of all tokens for kRows queries, before they are divided by their sum.
  void weigh(const int* queries, int first) {
    constexpr int kCount = kRows<kBlocks>;
    const std::uint16_t* from[kCount];
    for (int r = 0; r < kCount; ++r)
      from[r] = task_.queries + task_.places[queries[r]] * task_.channels + task_.first_channel;
    __m512 scores[kCount][kBlocks] = {};
    for (int pair = 0; pair < kHeadPairs; ++pair) {
      __m512bh query[kCount];
#pragma GCC unroll 12
      for (int r = 0; r < kCount; ++r) {
        std::uint32_t value;
        __builtin_memcpy(&value, from[r] + 2 * pair, sizeof value);
        query[r] = in_all_lanes(value);
      }
#pragma GCC unroll 16
      for (int block = 0; block < kBlocks; ++block) {
        const __m512bh keys = as_pairs(load(scratch_.keys[pair][block]));
#pragma GCC unroll 12
        for (int r = 0; r < kCount; ++r) scores[r][block] = _mm512_dpbf16_ps(scores[r][block], keys, query[r]);
      }
    }
    // Row by row in steps, so that one row's long chains of instructions do not keep the others waiting.
    __m512 most[kCount];
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) {
      const float* bias = task_.bias + queries[r] * kBlocks * kLanes;
#pragma GCC unroll 16
      for (int block = 0; block < kBlocks; ++block) {
        scores[r][block] =
            _mm512_fmadd_ps(scores[r][block], _mm512_set1_ps(kLog2E), _mm512_loadu_ps(bias + block * kLanes));
      }
      if (!whole_) keep_apart(scores[r], task_.regions[queries[r]]);
      most[r] = scores[r][0];
#pragma GCC unroll 16
      for (int block = 1; block < kBlocks; ++block) most[r] = _mm512_max_ps(most[r], scores[r][block]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) most[r] = _mm512_set1_ps(_mm512_reduce_max_ps(most[r]));
#pragma GCC unroll 12
    for (int r = 0; r < kCount; ++r) {
      __m512 total = _mm512_setzero_ps();
#pragma GCC unroll 16
      for (int block = 0; block < kBlocks; ++block) {
        scores[r][block] = power_of_2(_mm512_sub_ps(scores[r][block], most[r]));
        total = _mm512_add_ps(total, scores[r][block]);
      }
      _mm512_store_ps(scratch_.totals[first + r], total);
#pragma GCC unroll 8
      for (int block = 0; block < kBlocks; block += 2) {
        const __m512 next = block + 1 < kBlocks ? scores[r][block + 1 < kBlocks ? block + 1 : 0] : _mm512_setzero_ps();
        _mm512_store_si512(scratch_.weights[first + r][block / 2],
                           reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(next, scores[r][block])));
      }
    }
  }

  void keep_apart(__m512 (&scores)[kBlocks], std::int32_t region) const {
    const __m512i own = _mm512_set1_epi32(region);
#pragma GCC unroll 16
    for (int block = 0; block < kBlocks; ++block) {
      const int left = count_ - block * kLanes;
      const __mmask16 there = static_cast<__mmask16>(left < kLanes ? (1U << left) - 1U : 0xffffU);
      const __m512i regions = _mm512_maskz_loadu_epi32(there, task_.regions + block * kLanes);
      scores[block] =
          _mm512_mask_blend_ps(_mm512_cmpneq_epi32_mask(regions, own), scores[block], _mm512_set1_ps(kApart));
    }
  }

  const HeadInWindow task_;
  const int count_;
  bool whole_ = true;  // all tokens meet
  const std::uint16_t* rows_[kBlocks * kLanes];
  Scratch<kBlocks> scratch_;
};

template <int kBlocks>
void attend_in_window(const HeadInWindow& task) {
  Window<kBlocks>(task).run();
}

}  // namespace

AttendInWindow attend_in_window_for(std::ptrdiff_t window_tokens) {
  static constexpr AttendInWindow kFunctions[] = {
      attend_in_window<1>,  attend_in_window<2>,  attend_in_window<3>,  attend_in_window<4>,
      attend_in_window<5>,  attend_in_window<6>,  attend_in_window<7>,  attend_in_window<8>,
      attend_in_window<9>,  attend_in_window<10>, attend_in_window<11>, attend_in_window<12>,
      attend_in_window<13>, attend_in_window<14>, attend_in_window<15>, attend_in_window<16>};
  return kFunctions[padded_window(window_tokens) / kLanes - 1];
}

}  // namespace uperfuse
