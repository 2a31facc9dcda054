// What the bindings ask of arrays and numbers that come from Python: TypeError or ValueError with what was got, what
// was expected and what to do.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "levels.h"

namespace uperfuse {

namespace py = pybind11;

inline std::string type_name(const py::object& object) {
  return py::str(py::type::of(object).attr("__name__")).cast<std::string>();
}

inline py::array array_of(const py::object& object, const std::string& name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  throw py::type_error(name + " is a " + type_name(object) + "; expected a numpy.ndarray");
}

inline std::string shape_text(const py::array& array) {
  std::string text = "[";
  for (py::ssize_t axis = 0; axis < array.ndim(); ++axis) {
    text += (axis ? ", " : "") + std::to_string(array.shape(axis));
  }
  return text + "]";
}

template <class T>
void require_dtype(const py::array& array, const std::string& name, const std::string& expected) {
  if (py::isinstance<py::array_t<T>>(array)) return;
  throw py::type_error(name + " has dtype " + py::str(array.dtype()).cast<std::string>() + "; expected " + expected);
}

// `expected` describes all axes; a negative length there fits any.
inline void require_shape(const py::array& array, const std::string& name, const std::vector<py::ssize_t>& lengths,
                          const std::string& expected) {
  bool fits = array.ndim() == static_cast<py::ssize_t>(lengths.size());
  for (std::size_t axis = 0; fits && axis < lengths.size(); ++axis) {
    const py::ssize_t length = array.shape(static_cast<py::ssize_t>(axis));
    fits = lengths[axis] < 0 ? length > 0 : length == lengths[axis];
  }
  if (fits) return;
  std::string wanted;
  for (const py::ssize_t length : lengths) {
    wanted += (wanted.empty() ? "" : ", ") + (length < 0 ? std::string("any") : std::to_string(length));
  }
  throw py::value_error(name + " has shape " + shape_text(array) + "; expected " + expected + " = [" + wanted +
                        "], no axis empty");
}

// Stride of an axis in elements of T: any whole number, and 1 along the last axis.
template <class T>
std::ptrdiff_t stride_of(const py::array& array, const std::string& name, py::ssize_t axis) {
  constexpr auto bytes = static_cast<py::ssize_t>(sizeof(T));
  const bool last = axis == array.ndim() - 1;
  const bool aligned = array.strides(axis) % bytes == 0 && reinterpret_cast<std::uintptr_t>(array.data()) % bytes == 0;
  if (!aligned || (last && array.shape(axis) > 1 && array.strides(axis) != bytes)) {
    throw py::value_error(name + " has a stride of " + std::to_string(array.strides(axis)) + " bytes along axis " +
                          std::to_string(axis) + (aligned ? "" : " or is not aligned") + "; expected " +
                          (last ? "" : "a multiple of ") + std::to_string(bytes) +
                          "; pass numpy.ascontiguousarray of it");
  }
  return array.strides(axis) / bytes;
}

template <class T>
T* writable(py::array& array, const std::string& name) {
  if (!array.writeable()) throw py::value_error(name + " is read-only; expected an array that can be written");
  return static_cast<T*>(array.mutable_data());
}

inline const Loops& loops_of(const std::optional<std::string>& level) {
  std::string usable;
  for (const Loops* loops : usable_levels()) {
    if (!level || *level == loops->name) return *loops;
    usable += (usable.empty() ? "" : ", ") + std::string(loops->name);
  }
  throw py::value_error("level is '" + *level + "'; expected one this processor runs: " + usable);
}

inline std::size_t thread_count(int threads) {
  if (threads >= 1) return static_cast<std::size_t>(threads);
  throw py::value_error("threads is " + std::to_string(threads) + "; expected at least 1");
}

// An array whose elements lie one after the other.
template <class T>
const T* dense(const py::array& array, const std::string& name, const std::string& dtype,
               const std::vector<py::ssize_t>& lengths, const std::string& expected) {
  require_dtype<T>(array, name, dtype);
  require_shape(array, name, lengths, expected);
  if (array.flags() & py::array::c_style) return static_cast<const T*>(array.data());
  throw py::value_error(name + " is not C-contiguous; pass numpy.ascontiguousarray of it");
}

inline const float* dense_floats(const py::array& array, const std::string& name,
                                 const std::vector<py::ssize_t>& lengths, const std::string& expected) {
  return dense<float>(array, name, "float32", lengths, expected);
}

}  // namespace uperfuse
