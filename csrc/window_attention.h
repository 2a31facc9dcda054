// Attention within windows of an image's tokens, as in Swin, in bf16.
//
// Queries, keys and values are read where their products wrote them, token by token; which of them lie in a window is a
// table. Scores never leave the registers, and results go back to the token that asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "cores.h"
#include "window_attention_loops.h"

namespace uperfuse {

// What an attention knows beforehand. N is the number of tokens of a window.
struct Windows {
  std::ptrdiff_t tokens;  // T, of the image
  std::ptrdiff_t heads;
  std::ptrdiff_t count;
  std::ptrdiff_t window_tokens;        // N, at most kMaxWindowTokens
  std::vector<std::uint16_t> padding;  // [2, C], bf16: key and value of every place without a token
  std::vector<float> bias;           // [heads, N, padded N]: log2(e) times what scores take; very negative where padded
  std::vector<std::int32_t> places;  // [windows, N]: a window's tokens; T where there is none
  std::vector<std::int32_t> regions;  // [windows, N]: tokens of one region meet, others do not
};

// bf16 [T, C], dense, C = heads * kHeadChannels.
struct AttentionRows {
  const std::uint16_t* queries;  // scaled
  const std::uint16_t* keys;
  const std::uint16_t* values;
  std::uint16_t* out;
};

// Bits of the nearest bf16, of two the even one; of finite numbers.
inline std::uint16_t rounded_to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

// Whether this processor should: it multiplies bf16 in AVX-512, and has no AMX, with which OpenVINO multiplies.
bool attends_in_windows();

// Every window of every head is the work of one thread, so that no result depends on their number. Those beside the
// caller run on `cores`, for the caller may be kept on one. Only where `attends_in_windows()`.
void attend_in_windows(const Windows& windows, const AttentionRows& rows, std::size_t threads, const Cores& cores);

}  // namespace uperfuse
