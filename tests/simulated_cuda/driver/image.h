// What a compiled kernel says of itself: a cubin (ELF) or PTX (text).
#pragma once

#include <cuda.h>

#include <cstddef>
#include <string>
#include <vector>

namespace simulated {

struct Parameter {
  std::size_t offset;
  std::size_t bytes;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  std::size_t parameter_bytes = 0;
  unsigned threads[3] = {0, 0, 0};  // of a block; 0 where any will do
  std::size_t static_shared_bytes = 0;
  int registers = 0;
};

struct Image {
  std::string bytes;
  bool is_ptx = false;
  int capability = 0;
  bool exact = false;       // runs on no other architecture ("sm_90a")
  int toolkit_version = 0;  // 12090 for CUDA 12.9
  std::vector<Kernel> kernels;
};

// Reads what lies at an address, whose size it finds out by itself. CUDA_ERROR_INVALID_IMAGE where it is neither.
CUresult read_image(const void* bytes, Image* image);

// Whether a device's driver takes an image.
CUresult fits(const Image& image, int capability, int driver_version, bool takes_ptx);

}  // namespace simulated
