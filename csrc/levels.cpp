#include "levels.h"

namespace uperfuse {

namespace baseline {
extern const Loops loops;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Loops loops;
}
namespace avx512 {
extern const Loops loops;
}
#endif

const std::vector<const Loops*>& usable_levels() {
  static const std::vector<const Loops*> levels = [] {
    std::vector<const Loops*> usable;
#if defined(__x86_64__)
    // The features named here are those that CMakeLists.txt compiles each copy with.
    __builtin_cpu_init();
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (has_avx512) usable.push_back(&avx512::loops);
    if (has_avx2) usable.push_back(&avx2::loops);
#endif
    usable.push_back(&baseline::loops);
    return usable;
  }();
  return levels;
}

}  // namespace uperfuse
