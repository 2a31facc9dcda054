#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "date_layers.h"
#include "python_arrays.h"
#include "window_attention.h"

namespace uperfuse {
namespace {

std::unique_ptr<DateLayers> make_date_layers(const std::optional<std::string>& level) {
  return std::make_unique<DateLayers>(loops_of(level));
}

void append_layer(DateLayers& layers, const py::object& weight_object, const py::object& bias_object,
                  const py::object& scale_object, const py::object& shift_object, py::ssize_t groups, float epsilon,
                  bool residual) {
  const py::array weight = array_of(weight_object, "weight");
  const py::ssize_t before = layers.size() ? layers.out_channels(layers.size() - 1) : -1;
  const float* weights = dense_floats(weight, "weight", {-1, before, 3, 3}, "[out, in, 3, 3]");
  const py::ssize_t channels = weight.shape(0);
  const py::array bias = array_of(bias_object, "bias");
  const py::array scale = array_of(scale_object, "scale");
  const py::array shift = array_of(shift_object, "shift");
  if (groups < 1 || channels % groups != 0) {
    throw py::value_error("groups is " + std::to_string(groups) + "; expected a divisor of " +
                          std::to_string(channels) + " channels");
  }
  if (!std::isfinite(epsilon) || epsilon <= 0.0F) {
    throw py::value_error("epsilon is " + std::to_string(epsilon) + "; expected a finite float32 above 0");
  }
  if (residual && weight.shape(1) != channels) {
    throw py::value_error("residual is True for " + std::to_string(weight.shape(1)) + " channels in and " +
                          std::to_string(channels) + " out; expected as many");
  }
  layers.append({weight.shape(1), channels, weights, dense_floats(bias, "bias", {channels}, "[out]"), groups, epsilon,
                 dense_floats(scale, "scale", {channels}, "[out]"), dense_floats(shift, "shift", {channels}, "[out]"),
                 residual});
}

void run_layers(const DateLayers& layers, const py::object& pixels_object, const py::object& mask_object,
                const std::map<std::size_t, py::object>& out, int threads) {
  const std::size_t thread_total = thread_count(threads);
  if (layers.size() == 0) throw py::value_error("there are no layers; append some first");
  const py::array pixels = array_of(pixels_object, "pixels");
  const py::array mask = array_of(mask_object, "mask");
  const float* first = dense_floats(pixels, "pixels", {-1, layers.in_channels(), -1, -1}, "[T, C, Y, X]");
  const float* kept = dense_floats(mask, "mask", {pixels.shape(0)}, "[T]");
  if (pixels.shape(2) < 2 || pixels.shape(3) < 2) {
    throw py::value_error("pixels has shape " + shape_text(pixels) + "; expected at least 2 x 2 px, for borders are " +
                          "reflected");
  }
  std::vector<LayerOutput> outputs;
  std::vector<py::array> held;
  for (const auto& [layer, object] : out) {
    const std::string name = "out[" + std::to_string(layer) + "]";
    if (layer >= layers.size()) {
      throw py::value_error(name + " is of no layer; expected 0 to " + std::to_string(layers.size() - 1));
    }
    py::array& array = held.emplace_back(array_of(object, name));
    require_dtype<float>(array, name, "float32");
    require_shape(array, name, {pixels.shape(0), layers.out_channels(layer), pixels.shape(2), pixels.shape(3)},
                  "[T, out, Y, X]");
    constexpr auto bytes = static_cast<py::ssize_t>(sizeof(float));
    if (array.strides(2) != array.shape(3) * array.strides(3) || array.strides(0) % bytes || array.strides(1) % bytes ||
        array.strides(3) % bytes) {
      throw py::value_error(name + " has rows that do not follow each other; expected pixels at one distance");
    }
    outputs.push_back({layer, writable<float>(array, name), array.strides(0) / bytes, array.strides(1) / bytes,
                       array.strides(3) / bytes});
  }
  const py::gil_scoped_release release;
  layers.run({first, kept, pixels.shape(0), pixels.shape(2), pixels.shape(3)}, outputs, thread_total);
}

void bind_date_layers(py::module_& module) {
  using py::arg;
  py::class_<DateLayers>(module, "DateLayers")
      .def(py::init(&make_date_layers), py::kw_only(), arg("level") = py::none())
      .def("append", &append_layer, py::kw_only(), arg("weight"), arg("bias"), arg("scale"), arg("shift"),
           arg("groups"), arg("epsilon"), arg("residual") = false)
      .def("run", &run_layers, arg("pixels"), py::kw_only(), arg("mask"), arg("out"), arg("threads") = 1);
}

// Attention in the windows of one image, for Python.
class WindowAttention {
 public:
  WindowAttention(py::ssize_t tokens, const py::object& padding_object, const py::object& bias_object,
                  const py::object& places_object, const py::object& regions_object, int threads, Cores cores)
      : threads_(thread_count(threads)), cores_(std::move(cores)) {
    if (!attends_in_windows())
      throw std::runtime_error(
          "this processor does not multiply bf16 in AVX-512, or has AMX; see attends_in_windows()");
    const py::array bias = array_of(bias_object, "bias");
    const py::array padding = array_of(padding_object, "padding");
    const py::array places = array_of(places_object, "places");
    const py::array regions = array_of(regions_object, "regions");
    const auto* place = dense<std::int32_t>(places, "places", "int32", {-1, -1}, "[windows, N]");
    const py::ssize_t N = places.shape(1);
    if (N > kMaxWindowTokens) {
      throw py::value_error("places has shape " + shape_text(places) + "; expected windows of at most 256 tokens");
    }
    const auto* biases = dense<float>(bias, "bias", "float32", {-1, N, padded_window(N)}, "[heads, N, padded N]");
    const py::ssize_t channels = bias.shape(0) * kHeadChannels;
    const float* paddings = dense_floats(padding, "padding", {2, channels}, "[2, 32 per head]");
    const auto* region = dense<std::int32_t>(regions, "regions", "int32", {places.shape(0), N}, "[windows, N]");
    windows_ = {tokens,
                bias.shape(0),
                places.shape(0),
                N,
                std::vector<std::uint16_t>(static_cast<std::size_t>(padding.size())),
                {biases, biases + bias.size()},
                {place, place + places.size()},
                {region, region + regions.size()}};
    std::transform(paddings, paddings + padding.size(), windows_.padding.begin(), rounded_to_bf16);
    for (const std::int32_t at : windows_.places) {
      if (at >= 0 && at <= tokens) continue;
      throw py::value_error("places holds " + std::to_string(at) + "; expected 0 to " + std::to_string(tokens - 1) +
                            ", or " + std::to_string(tokens) + " for none");
    }
  }

  void run(const py::object& queries, const py::object& keys, const py::object& values, const py::object& out_object) {
    py::array out = array_of(out_object, "out");
    rows(out, "out");
    const AttentionRows all{rows(array_of(queries, "queries"), "queries"), rows(array_of(keys, "keys"), "keys"),
                            rows(array_of(values, "values"), "values"), writable<std::uint16_t>(out, "out")};
    const py::gil_scoped_release release;
    attend_in_windows(windows_, all, threads_, cores_);
  }

 private:
  // NumPy has no bf16; what holds its bits has another type of two bytes.
  static const std::uint16_t* bf16_bits(const py::array& array, const std::string& name,
                                        const std::vector<py::ssize_t>& lengths, const std::string& expected) {
    if (array.itemsize() != 2) {
      throw py::type_error(name + " has dtype " + py::str(array.dtype()).cast<std::string>() + "; expected bf16");
    }
    require_shape(array, name, lengths, expected);
    if (array.flags() & py::array::c_style) return static_cast<const std::uint16_t*>(array.data());
    throw py::value_error(name + " is not C-contiguous; pass numpy.ascontiguousarray of it");
  }

  const std::uint16_t* rows(const py::array& array, const std::string& name) const {
    return bf16_bits(array, name, {1, windows_.tokens, windows_.heads * kHeadChannels}, "[1, T, C]");
  }

  Windows windows_;
  std::size_t threads_;
  Cores cores_;
};

void bind_window_attention(py::module_& module) {
  using py::arg;
  module.def("attends_in_windows", &attends_in_windows);
  py::class_<WindowAttention>(module, "WindowAttention")
      .def(py::init<py::ssize_t, const py::object&, const py::object&, const py::object&, const py::object&, int,
                    Cores>(),
           py::kw_only(), arg("tokens"), arg("padding"), arg("bias"), arg("places"), arg("regions"), arg("threads") = 1,
           arg("cores") = py::tuple())
      .def("run", &WindowAttention::run, arg("queries"), arg("keys"), arg("values"), arg("out"));
}

}  // namespace

void bind_layers(py::module_& module) {
  bind_date_layers(module);
  bind_window_attention(module);
}

}  // namespace uperfuse
