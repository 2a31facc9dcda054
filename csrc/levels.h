// Which compiled copies of the inner loops this processor can run.
#pragma once

#include <vector>

#include "loops.h"

namespace uperfuse {

// Fastest first; the last one runs anywhere.
const std::vector<const Loops*>& usable_levels();

}  // namespace uperfuse
