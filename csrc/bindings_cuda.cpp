#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "bindings.h"
#include "cuda_driver.h"
#include "cuda_graph.h"
#include "dlpack.h"

namespace uperfuse {

namespace py = pybind11;

namespace {

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

void bind_graphs(py::module_& module) {
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

}  // namespace

void bind_cuda(py::module_& module) {
  bind_graphs(module);
  bind_dlpack(module);
}

}  // namespace uperfuse
