// Parts of the module that `bindings.cpp` makes.
//
// Files named bindings and python_arrays.h are the only ones that know Python: they check what comes in, release the
// GIL, and call.
#pragma once

#include <pybind11/pybind11.h>

namespace uperfuse {

void bind_layers(pybind11::module_& module);  // layers of networks
void bind_cuda(pybind11::module_& module);    // CUDA graphs, and arrays shared with other libraries

}  // namespace uperfuse
