#include <pybind11/pybind11.h>

PYBIND11_MODULE(_native, module) { module.doc() = "CPU hot loops of uperfuse.engine"; }
