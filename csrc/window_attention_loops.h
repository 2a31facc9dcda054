// One head in one window, compiled for AVX-512 with bf16; see window_attention.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace uperfuse {

constexpr std::ptrdiff_t kHeadChannels = 32;
constexpr std::ptrdiff_t kMaxWindowTokens = 256;

// N as rows of the bias are long: whole vectors.
constexpr std::ptrdiff_t padded_window(std::ptrdiff_t window_tokens) { return (window_tokens + 15) / 16 * 16; }

// What `Windows` and `AttentionRows` hold; see there.
struct HeadInWindow {
  const std::uint16_t* queries;
  const std::uint16_t* keys;
  const std::uint16_t* values;
  const std::uint16_t* padding;
  std::uint16_t* out;
  std::ptrdiff_t tokens;
  std::ptrdiff_t channels;  // of all heads
  std::ptrdiff_t window_tokens;
  std::ptrdiff_t first_channel;  // of the head
  const float* bias;             // of the head
  const std::int32_t* places;    // of the window
  const std::int32_t* regions;   // of the window
};

using AttendInWindow = void (*)(const HeadInWindow& task);

// The function for windows of 1 to kMaxWindowTokens tokens.
AttendInWindow attend_in_window_for(std::ptrdiff_t window_tokens);

}  // namespace uperfuse
