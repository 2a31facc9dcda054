#include "window_attention.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "parallel.h"
#include "window_attention_loops.h"

namespace uperfuse {

#if defined(UPERFUSE_COMPILES_BF16)

namespace {

// Heads that take turns in every window: their channels lie side by side, and the bias of few stays in a core's cache.
constexpr std::ptrdiff_t kHeadsAtOnce = 4;

}  // namespace

bool attends_in_windows() {
  static const bool able = [] {
    __builtin_cpu_init();
    // The features that CMakeLists.txt compiles window_attention_loops.cpp with.
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_supports("amx-tile");
  }();
  return able;
}

void attend_in_windows(const Windows& windows, const AttentionRows& rows, std::size_t threads, const Cores& cores) {
  const auto attend = attend_in_window_for(windows.window_tokens);
  const std::ptrdiff_t channels = windows.heads * kHeadChannels;
  const std::ptrdiff_t bias_floats = windows.window_tokens * padded_window(windows.window_tokens);
  const std::ptrdiff_t groups = (windows.heads + kHeadsAtOnce - 1) / kHeadsAtOnce;
  const auto attend_piece = [&](std::ptrdiff_t piece) {
    const std::ptrdiff_t first = piece / windows.count * kHeadsAtOnce;
    const std::ptrdiff_t end = std::min(first + kHeadsAtOnce, windows.heads);
    const std::ptrdiff_t place = piece % windows.count * windows.window_tokens;
    for (std::ptrdiff_t head = first; head < end; ++head) {
      attend({rows.queries, rows.keys, rows.values, windows.padding.data(), rows.out, windows.tokens, channels,
              windows.window_tokens, head * kHeadChannels, windows.bias.data() + head * bias_floats,
              windows.places.data() + place, windows.regions.data() + place});
    }
  };
  // Every thread begins with its own share of pieces, which follow each other and have most of their bias in common,
  // and then helps the others.
  struct Share {
    std::atomic<std::ptrdiff_t> next;
    std::ptrdiff_t end;
  };
  const std::ptrdiff_t pieces = groups * windows.count;
  const std::size_t workers = workers_for(static_cast<std::size_t>(pieces), threads);
  std::vector<Share> shares(workers);
  for (std::size_t worker = 0; worker < workers; ++worker) {
    const auto at = [&](std::size_t share) {
      return pieces * static_cast<std::ptrdiff_t>(share) / static_cast<std::ptrdiff_t>(workers);
    };
    shares[worker].next = at(worker);
    shares[worker].end = at(worker + 1);
  }
  const auto work = [&](std::size_t own, std::size_t) {
    for (std::size_t turn = 0; turn < workers; ++turn) {
      Share& share = shares[(own + turn) % workers];
      for (std::ptrdiff_t piece = share.next++; piece < share.end; piece = share.next++) attend_piece(piece);
    }
  };
  parallel_for(workers, workers, work, cores);
}

#else

bool attends_in_windows() { return false; }
void attend_in_windows(const Windows&, const AttentionRows&, std::size_t, const Cores&) {}

#endif

}  // namespace uperfuse
