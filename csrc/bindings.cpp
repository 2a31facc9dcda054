// The only file that knows Python: checks what comes in, releases the GIL, calls.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "classify.h"
#include "cuda_driver.h"
#include "cuda_graph.h"
#include "date_layers.h"
#include "dlpack.h"
#include "levels.h"
#include "prepare.h"
#include "window_attention.h"

namespace py = pybind11;

namespace uperfuse {
namespace {

std::string type_name(const py::object& object) {
  return py::str(py::type::of(object).attr("__name__")).cast<std::string>();
}

py::array array_of(const py::object& object, const std::string& name) {
  if (py::isinstance<py::array>(object)) return py::reinterpret_borrow<py::array>(object);
  throw py::type_error(name + " is a " + type_name(object) + "; expected a numpy.ndarray");
}

std::string shape_text(const py::array& array) {
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
void require_shape(const py::array& array, const std::string& name, const std::vector<py::ssize_t>& lengths,
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

const Loops& loops_of(const std::optional<std::string>& level) {
  std::string usable;
  for (const Loops* loops : usable_levels()) {
    if (!level || *level == loops->name) return *loops;
    usable += (usable.empty() ? "" : ", ") + std::string(loops->name);
  }
  throw py::value_error("level is '" + *level + "'; expected one this processor runs: " + usable);
}

std::size_t thread_count(int threads) {
  if (threads >= 1) return static_cast<std::size_t>(threads);
  throw py::value_error("threads is " + std::to_string(threads) + "; expected at least 1");
}

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

// An array whose elements lie one after the other.
template <class T>
const T* dense(const py::array& array, const std::string& name, const std::string& dtype,
               const std::vector<py::ssize_t>& lengths, const std::string& expected) {
  require_dtype<T>(array, name, dtype);
  require_shape(array, name, lengths, expected);
  if (array.flags() & py::array::c_style) return static_cast<const T*>(array.data());
  throw py::value_error(name + " is not C-contiguous; pass numpy.ascontiguousarray of it");
}

const float* dense_floats(const py::array& array, const std::string& name, const std::vector<py::ssize_t>& lengths,
                          const std::string& expected) {
  return dense<float>(array, name, "float32", lengths, expected);
}

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
                            rows(array_of(values, "values"), "values"),
                            static_cast<std::uint16_t*>(out.mutable_data())};
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

// `CudaError` of Python: a RuntimeError with the driver's code and the name of the call.
void bind_cuda_error(py::module_& module) {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> type;
  type.call_once_and_store_result([&] {
    const std::string name = module.attr("__name__").cast<std::string>() + ".CudaError";
    return py::reinterpret_steal<py::object>(PyErr_NewException(name.c_str(), PyExc_RuntimeError, nullptr));
  });
  module.attr("CudaError") = type.get_stored();
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      std::rethrow_exception(thrown);
    } catch (const CudaError& error) {
      const py::object& raised = type.get_stored();
      const py::object made = raised(error.what());
      made.attr("code") = error.code();
      made.attr("call") = error.call();
      PyErr_SetObject(raised.ptr(), made.ptr());
    }
  });
}

// An array of another library, kept until this goes.
class BorrowedArray {
 public:
  explicit BorrowedArray(DlManaged* managed) : managed_(managed) {}
  BorrowedArray(const BorrowedArray&) = delete;
  BorrowedArray& operator=(const BorrowedArray&) = delete;
  ~BorrowedArray() { drop(managed_); }

  const DlTensor& tensor() const { return managed_->tensor; }

 private:
  DlManaged* managed_;
};

constexpr const char* kCapsule = "dltensor";
constexpr const char* kUsedCapsule = "used_dltensor";

py::object lend_array(std::uint64_t address, const std::vector<std::int64_t>& shape, std::uint8_t code,
                      std::uint8_t bits, std::int32_t device_type, std::int32_t ordinal, const py::object& owner) {
  PyObject* const kept = owner.ptr();
  Py_INCREF(kept);
  // the last user may be a thread that knows nothing of Python
  const auto release = [kept] {
    const py::gil_scoped_acquire locked;
    Py_DECREF(kept);
  };
  DlManaged* const managed = make_managed(address, shape, {code, bits, 1}, {device_type, ordinal}, release);
  const auto unused = [](PyObject* capsule) {
    if (PyCapsule_IsValid(capsule, kCapsule)) drop(static_cast<DlManaged*>(PyCapsule_GetPointer(capsule, kCapsule)));
  };
  return py::reinterpret_steal<py::object>(PyCapsule_New(managed, kCapsule, unused));
}

std::unique_ptr<BorrowedArray> borrow_array(const py::object& capsule) {
  if (!PyCapsule_IsValid(capsule.ptr(), kCapsule)) {
    throw py::value_error("got something that is no unused DLPack capsule, expected what __dlpack__ gives");
  }
  auto* const managed = static_cast<DlManaged*>(PyCapsule_GetPointer(capsule.ptr(), kCapsule));
  PyCapsule_SetName(capsule.ptr(), kUsedCapsule);
  return std::make_unique<BorrowedArray>(managed);
}

void bind_dlpack(py::module_& module) {
  using py::arg;
  py::class_<BorrowedArray>(module, "BorrowedArray").def("describe", [](const BorrowedArray& array) {
    const DlTensor& tensor = array.tensor();
    const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(tensor.data) + tensor.byte_offset;
    const std::vector<std::int64_t> shape(tensor.shape, tensor.shape + tensor.axes);
    return py::make_tuple(address, py::tuple(py::cast(shape)),
                          py::make_tuple(tensor.type.code, tensor.type.bits, tensor.type.lanes),
                          py::make_tuple(tensor.device.type, tensor.device.ordinal), is_dense(tensor));
  });
  module.def("lend_array", &lend_array, arg("address"), py::kw_only(), arg("shape"), arg("code"), arg("bits"),
             arg("device_type"), arg("ordinal"), arg("owner"));
  module.def("borrow_array", &borrow_array, arg("capsule"));
}

void bind_cuda(py::module_& module) {
  using py::arg;
  using Released = py::call_guard<py::gil_scoped_release>;
  bind_cuda_error(module);
  module.def("cuda_driver_version", &cuda_driver_version);
  module.def("cuda_pop_context", &cuda_pop_context);
  module.def("cuda_release_primary_context", &cuda_release_primary_context, arg("device"));
  py::class_<CudaGraph>(module, "CudaGraph")
      .def_static("capture_begin", &CudaGraph::capture_begin, arg("stream"), Released())
      .def_static("capture_end", &CudaGraph::capture_end, arg("stream"), Released())
      .def_static("capture_abort", &CudaGraph::capture_abort, arg("stream"), Released())
      .def("launch", &CudaGraph::launch, arg("stream"), Released())
      .def("close", &CudaGraph::close, Released());
}

py::tuple level_names() {
  py::list names;
  for (const Loops* loops : usable_levels()) names.append(loops->name);
  return py::tuple(names);
}

}  // namespace
}  // namespace uperfuse

PYBIND11_MODULE(_native, module) {
  using py::arg;
  module.doc() = "CPU hot loops and CUDA graphs of uperfuse.engine; _native.pyi describes each name.";
  module.def("classify", &uperfuse::classify_arrays, arg("logits"), py::kw_only(), arg("rows"), arg("columns"),
             arg("out") = py::none(), arg("threads") = 1, arg("level") = py::none());
  module.def("prepare", &uperfuse::prepare_arrays, arg("tile"), py::kw_only(), arg("out"), arg("band"), arg("minus"),
             arg("mean"), arg("std"), arg("void") = py::none(), arg("threads") = 1, arg("level") = py::none());
  module.def("levels", &uperfuse::level_names);
  uperfuse::bind_date_layers(module);
  uperfuse::bind_window_attention(module);
  uperfuse::bind_cuda(module);
  uperfuse::bind_dlpack(module);
}
