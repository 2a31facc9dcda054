#include "bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "classify.h"
#include "levels.h"
#include "prepare.h"
#include "python_arrays.h"

namespace uperfuse {
namespace {

// The arrays of an AxisResize, held while the GIL is released.
struct AxisArrays {
  AxisArrays(const py::object& resize, const std::string& name, py::ssize_t source_px)
      : start(member(resize, name, "start")), weight(member(resize, name, "weight")) {
    require_dtype<std::int32_t>(start, name + ".start", "int32");
    require_dtype<float>(weight, name + ".weight", "float32");
    require_shape(start, name + ".start", {-1}, "[n_out]");
    require_shape(weight, name + ".weight", {start.shape(0), -1}, "[n_out, taps]");
    stride_of<std::int32_t>(start, name + ".start", 0);
    const py::ssize_t taps = weight.shape(1);
    if (taps > kMaxTaps) {
      throw py::value_error(name + ".weight has " + std::to_string(taps) + " taps; expected at most " +
                            std::to_string(kMaxTaps));
    }
    stride_of<float>(weight, name + ".weight", 1);
    if (start.shape(0) > 1 && stride_of<float>(weight, name + ".weight", 0) != taps) {
      throw py::value_error(name + ".weight is not C-contiguous; pass numpy.ascontiguousarray of it");
    }
    const auto* first = static_cast<const std::int32_t*>(start.data());
    for (py::ssize_t i = 0; i < start.shape(0); ++i) {
      if (first[i] < (i ? first[i - 1] : 0) || first[i] + taps > source_px) {
        throw py::value_error(name + ".start[" + std::to_string(i) + "] is " + std::to_string(first[i]) +
                              "; expected values that do not decrease, from 0 to " + std::to_string(source_px - taps) +
                              " for an axis of " + std::to_string(source_px) + " px and " + std::to_string(taps) +
                              " taps");
      }
    }
  }

  static py::array member(const py::object& resize, const std::string& name, const char* attribute) {
    if (!py::hasattr(resize, attribute) || !py::isinstance<py::array>(resize.attr(attribute))) {
      throw py::type_error(name + " is a " + type_name(resize) + "; expected an AxisResize");
    }
    return resize.attr(attribute);
  }

  Axis axis() const {
    return {static_cast<const std::int32_t*>(start.data()), static_cast<const float*>(weight.data()), start.shape(0),
            static_cast<int>(weight.shape(1))};
  }

  py::array start;
  py::array weight;
};

ByteMap byte_map(const py::object& object, const std::string& name, const Axis& rows, const Axis& columns) {
  py::array array = array_of(object, name);
  require_dtype<std::uint8_t>(array, name, "uint8");
  require_shape(array, name, {rows.px, columns.px}, "[Y, X]");
  stride_of<std::uint8_t>(array, name, 1);
  return {writable<std::uint8_t>(array, name), array.strides(0)};
}

using LabelsAndConfidence = std::pair<py::object, py::object>;

LabelsAndConfidence classify_arrays(const py::object& logits_object, const py::object& rows, const py::object& columns,
                                    std::optional<LabelsAndConfidence> out, int threads,
                                    const std::optional<std::string>& level) {
  const Loops& loops = loops_of(level);
  const std::size_t thread_total = thread_count(threads);
  const py::array logits = array_of(logits_object, "logits");
  require_dtype<float>(logits, "logits", "float32");
  require_shape(logits, "logits", {-1, -1, -1}, "[K, Y, X]");
  if (logits.shape(0) > kMaxClasses || logits.shape(2) > std::numeric_limits<std::int32_t>::max()) {
    throw py::value_error("logits has shape " + shape_text(logits) + "; expected at most 255 classes");
  }
  stride_of<float>(logits, "logits", 2);
  const Logits from{
      static_cast<const float*>(logits.data()), static_cast<int>(logits.shape(0)),    logits.shape(1), logits.shape(2),
      stride_of<float>(logits, "logits", 0),    stride_of<float>(logits, "logits", 1)};
  const AxisArrays row_arrays(rows, "rows", from.height);
  const AxisArrays column_arrays(columns, "columns", from.width);
  const Axis y = row_arrays.axis();
  const Axis x = column_arrays.axis();
  if (!out) {
    const std::vector<py::ssize_t> shape{y.px, x.px};
    out.emplace(py::array_t<std::uint8_t>(shape), py::array_t<std::uint8_t>(shape));
  }
  const ByteMap labels = byte_map(out->first, "out[0] (labels)", y, x);
  const ByteMap confidence = byte_map(out->second, "out[1] (confidence)", y, x);
  std::int64_t nonfinite = 0;
  {
    const py::gil_scoped_release release;
    nonfinite = classify(from, y, x, labels, confidence, loops, thread_total);
  }
  if (nonfinite > 0) {
    throw py::value_error("logits hold " + std::to_string(nonfinite) + " NaN or infinite values of " +
                          std::to_string(logits.size()) + "; expected none");
  }
  return *out;
}

Sample sample_of(const py::array& tile) {
  if (py::isinstance<py::array_t<std::uint8_t>>(tile)) return Sample::kUint8;
  if (py::isinstance<py::array_t<std::uint16_t>>(tile)) return Sample::kUint16;
  if (py::isinstance<py::array_t<std::int16_t>>(tile)) return Sample::kInt16;
  require_dtype<float>(tile, "tile", "uint8, uint16, int16 or float32 in this machine's byte order");
  return Sample::kFloat32;
}

// The values of a list with one entry per output channel.
template <class T>
std::vector<T> per_channel(const py::sequence& list, const std::string& name, py::ssize_t channels) {
  if (static_cast<py::ssize_t>(list.size()) != channels) {
    throw py::value_error(name + " has " + std::to_string(list.size()) + " entries; expected " +
                          std::to_string(channels) + ", one per channel of out");
  }
  std::vector<T> values;
  for (const py::handle entry : list) {
    try {
      values.push_back(entry.cast<T>());
    } catch (const py::cast_error&) {
      throw py::type_error(name + " holds " + py::repr(entry).cast<std::string>() + "; expected numbers");
    }
  }
  return values;
}

std::vector<Channel> channels_of(const py::sequence& band, const py::sequence& minus, const py::sequence& mean,
                                 const py::sequence& std, py::ssize_t channels, py::ssize_t bands) {
  const auto band_of = per_channel<py::ssize_t>(band, "band", channels);
  const auto minus_of = per_channel<py::ssize_t>(minus, "minus", channels);
  const auto mean_of = per_channel<float>(mean, "mean", channels);
  const auto std_of = per_channel<float>(std, "std", channels);
  std::vector<Channel> made;
  for (std::size_t c = 0; c < band_of.size(); ++c) {
    const std::string entry = "[" + std::to_string(c) + "] is ";
    if (band_of[c] < 0 || band_of[c] >= bands || minus_of[c] < -1 || minus_of[c] >= bands) {
      const bool is_band = band_of[c] < 0 || band_of[c] >= bands;
      throw py::value_error((is_band ? "band" + entry + std::to_string(band_of[c]) + "; expected 0"
                                     : "minus" + entry + std::to_string(minus_of[c]) + "; expected -1 (none)") +
                            " to " + std::to_string(bands - 1) + " for a tile of " + std::to_string(bands) + " bands");
    }
    if (!std::isfinite(mean_of[c])) {
      throw py::value_error("mean" + entry + std::to_string(mean_of[c]) + "; expected a finite float32");
    }
    if (!std::isfinite(std_of[c]) || std_of[c] <= 0.0F) {
      throw py::value_error("std" + entry + std::to_string(std_of[c]) + "; expected a finite float32 above 0");
    }
    made.push_back({band_of[c], minus_of[c], mean_of[c], std_of[c]});
  }
  return made;
}

std::int64_t prepare_arrays(const py::object& tile_object, const py::object& out_object, const py::sequence& band,
                            const py::sequence& minus, const py::sequence& mean, const py::sequence& std,
                            const py::object& void_object, int threads, const std::optional<std::string>& level) {
  const Loops& loops = loops_of(level);
  const std::size_t thread_total = thread_count(threads);
  const py::array tile = array_of(tile_object, "tile");
  py::array out = array_of(out_object, "out");
  const Sample sample = sample_of(tile);
  require_shape(tile, "tile", {-1, -1, -1}, "[C, Y, X]");
  require_dtype<float>(out, "out", "float32");
  require_shape(out, "out", {-1, tile.shape(1), tile.shape(2)}, "[C, Y, X]");
  stride_of<float>(out, "out", 2);
  const std::vector<Channel> channels = channels_of(band, minus, mean, std, out.shape(0), tile.shape(0));
  const Tile from{static_cast<const char*>(tile.data()),
                  sample,
                  tile.shape(1),
                  tile.shape(2),
                  tile.strides(0),
                  tile.strides(1),
                  tile.strides(2)};
  VoidMap voids{nullptr, 0, 0};
  if (!void_object.is_none()) {
    const py::array is_void = array_of(void_object, "void");
    require_dtype<bool>(is_void, "void", "bool");
    require_shape(is_void, "void", {tile.shape(1), tile.shape(2)}, "[Y, X]");
    voids = {static_cast<const char*>(is_void.data()), is_void.strides(0), is_void.strides(1)};
  }
  const PreparedTile to{writable<float>(out, "out"), stride_of<float>(out, "out", 0), stride_of<float>(out, "out", 1)};
  const py::gil_scoped_release release;
  return prepare(from, voids, channels.data(), channels.size(), to, loops, thread_total);
}

py::tuple level_names() {
  py::list names;
  for (const Loops* loops : usable_levels()) names.append(loops->name);
  return py::tuple(names);
}

}  // namespace
}  // namespace uperfuse

PYBIND11_MODULE(_native, module) {
  namespace py = pybind11;
  using py::arg;
  module.doc() = "CPU hot loops and CUDA graphs of uperfuse.engine; _native.pyi describes each name.";
  module.def("classify", &uperfuse::classify_arrays, arg("logits"), py::kw_only(), arg("rows"), arg("columns"),
             arg("out") = py::none(), arg("threads") = 1, arg("level") = py::none());
  module.def("prepare", &uperfuse::prepare_arrays, arg("tile"), py::kw_only(), arg("out"), arg("band"), arg("minus"),
             arg("mean"), arg("std"), arg("void") = py::none(), arg("threads") = 1, arg("level") = py::none());
  module.def("levels", &uperfuse::level_names);
  uperfuse::bind_layers(module);
  uperfuse::bind_cuda(module);
}
