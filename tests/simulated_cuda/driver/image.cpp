#include "image.h"

#include <elf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <regex>

namespace simulated {
namespace {

constexpr Elf64_Half kMachineCuda = 190;
constexpr unsigned char kNewLayout = 8;  // of the ELF header, since sm_100

// Attributes of a kernel in its section .nv.info.<kernel>.
constexpr unsigned char kHasTwoBytes = 3;
constexpr unsigned char kHasLength = 4;
constexpr unsigned char kThreads = 0x10;
constexpr unsigned char kParameter = 0x17;
constexpr unsigned char kParameterBytes = 0x19;
constexpr unsigned char kRegisters = 0x2F;
constexpr unsigned char kToolkit = 0x37;
// Shared memory that CUDA keeps of every block from compute capability 9.0 on stands in the kernel's section, too.
constexpr std::size_t kReservedShared = 1024;

template <class T>
T read(const std::string& bytes, std::size_t at) {
  T value{};
  if (at + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

// The size of an ELF file, from its tables' ends.
std::size_t size_of(const void* bytes) {
  Elf64_Ehdr header;
  std::memcpy(&header, bytes, sizeof header);
  std::size_t end = std::max(header.e_shoff + std::size_t{header.e_shnum} * header.e_shentsize,
                             header.e_phoff + std::size_t{header.e_phnum} * header.e_phentsize);
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, static_cast<const char*>(bytes) + header.e_shoff + i * header.e_shentsize, sizeof section);
    if (section.sh_type != SHT_NOBITS) end = std::max<std::size_t>(end, section.sh_offset + section.sh_size);
  }
  return end;
}

void read_attributes(const std::string& bytes, const Elf64_Shdr& section, Kernel* kernel, Image* image) {
  const std::size_t end = section.sh_offset + section.sh_size;
  for (std::size_t at = section.sh_offset; at + 4 <= end;) {
    const auto form = static_cast<unsigned char>(bytes[at]);
    const auto attribute = static_cast<unsigned char>(bytes[at + 1]);
    const auto two_bytes = read<std::uint16_t>(bytes, at + 2);
    const std::size_t value = at + 4;
    at = value + (form == kHasLength ? two_bytes : 0);
    if (form == kHasTwoBytes && attribute == kParameterBytes) kernel->parameter_bytes = two_bytes;
    if (form != kHasLength) continue;
    if (attribute == kToolkit) {
      const auto release = read<std::uint32_t>(bytes, value);  // 129 for CUDA 12.9
      image->toolkit_version = static_cast<int>(release / 10 * 1000 + release % 10 * 10);
    } else if (attribute == kThreads) {
      for (std::size_t i = 0; i < 3; ++i) kernel->threads[i] = read<std::uint32_t>(bytes, value + 4 * i);
    } else if (attribute == kParameter) {
      const std::size_t size = read<std::uint32_t>(bytes, value + 8) >> 18;
      kernel->parameters.push_back({read<std::uint16_t>(bytes, value + 6), size});
    } else if (attribute == kRegisters) {
      kernel->registers = static_cast<int>(read<std::uint32_t>(bytes, value + 4));
    }
  }
}

CUresult read_cubin(Image* image) {
  const std::string& bytes = image->bytes;
  const auto header = read<Elf64_Ehdr>(bytes, 0);
  if (header.e_machine != kMachineCuda) return CUDA_ERROR_INVALID_IMAGE;
  if (header.e_ident[EI_ABIVERSION] >= kNewLayout) {
    image->capability = static_cast<int>(header.e_flags >> 8 & 0xFFFF);
    image->exact = (header.e_flags & 0x02) != 0;
  } else {
    image->capability = static_cast<int>(header.e_flags & 0xFF);
    image->exact = (header.e_flags & 0x800) != 0;
  }
  std::vector<Elf64_Shdr> sections;
  for (std::size_t i = 0; i < header.e_shnum; ++i) {
    sections.push_back(read<Elf64_Shdr>(bytes, header.e_shoff + i * header.e_shentsize));
  }
  if (header.e_shstrndx >= sections.size()) return CUDA_ERROR_INVALID_IMAGE;
  const std::size_t names = sections[header.e_shstrndx].sh_offset;
  std::map<std::string, const Elf64_Shdr*> by_name;
  for (const Elf64_Shdr& section : sections) by_name[bytes.c_str() + names + section.sh_name] = &section;
  const std::string code = ".text.";
  for (const auto& [name, section] : by_name) {
    if (name.rfind(code, 0) != 0) continue;
    Kernel kernel;
    kernel.name = name.substr(code.size());
    for (const std::string& place : {std::string(".nv.info"), ".nv.info." + kernel.name}) {
      if (by_name.count(place) != 0) read_attributes(bytes, *by_name[place], &kernel, image);
    }
    std::sort(kernel.parameters.begin(), kernel.parameters.end(),
              [](const Parameter& left, const Parameter& right) { return left.offset < right.offset; });
    const auto shared = by_name.find(".nv.shared." + kernel.name);
    if (shared != by_name.end()) kernel.static_shared_bytes = shared->second->sh_size;
    if (image->capability >= 90 && kernel.static_shared_bytes >= kReservedShared) {
      kernel.static_shared_bytes -= kReservedShared;
    }
    image->kernels.push_back(kernel);
  }
  return image->kernels.empty() ? CUDA_ERROR_INVALID_IMAGE : CUDA_SUCCESS;
}

// The CUDA version that brought a version of PTX: 8.8 came with 12.9, 9.0 with 13.0.
int toolkit_of_ptx(int major, int minor) {
  if (major >= 9) return (major + 4) * 1000 + minor * 10;
  return 12000 + (minor > 5 ? minor + 1 : minor) * 10;
}

CUresult read_ptx(Image* image) {
  const std::string& text = image->bytes;
  std::smatch found;
  if (!std::regex_search(text, found, std::regex(R"((^|\n)\.version (\d+)\.(\d+))"))) return CUDA_ERROR_INVALID_PTX;
  image->toolkit_version = toolkit_of_ptx(std::stoi(found[2]), std::stoi(found[3]));
  if (!std::regex_search(text, found, std::regex(R"(\n\.target sm_(\d+)(a?))"))) return CUDA_ERROR_INVALID_PTX;
  image->capability = std::stoi(found[1]);
  image->exact = found[2].length() != 0;
  const std::regex entry(R"(\.visible \.entry (\w+)\(([^)]*)\)\s*(\.reqntid (\d+))?)");
  const std::regex parameter(R"(\.param \.[a-z](\d+))");
  for (auto each = std::sregex_iterator(text.begin(), text.end(), entry); each != std::sregex_iterator(); ++each) {
    Kernel kernel;
    kernel.name = (*each)[1];
    const std::string list = (*each)[2];
    for (auto at = std::sregex_iterator(list.begin(), list.end(), parameter); at != std::sregex_iterator(); ++at) {
      const std::size_t bytes = std::stoul((*at)[1]) / 8;
      const std::size_t offset = (kernel.parameter_bytes + bytes - 1) / bytes * bytes;
      kernel.parameters.push_back({offset, bytes});
      kernel.parameter_bytes = offset + bytes;
    }
    if ((*each)[4].matched) {
      kernel.threads[0] = static_cast<unsigned>(std::stoul((*each)[4]));
      kernel.threads[1] = kernel.threads[2] = 1;
    }
    image->kernels.push_back(kernel);
  }
  return image->kernels.empty() ? CUDA_ERROR_INVALID_PTX : CUDA_SUCCESS;
}

// Boards on which nothing but what was compiled for them runs.
bool is_embedded(int capability) { return capability == 72 || capability == 87 || capability == 110; }

}  // namespace

CUresult read_image(const void* bytes, Image* image) {
  const auto* text = static_cast<const char*>(bytes);
  if (std::strncmp(text, ELFMAG, SELFMAG) == 0) {
    image->bytes.assign(text, size_of(bytes));
    return read_cubin(image);
  }
  image->is_ptx = true;
  image->bytes.assign(text);
  return image->bytes.find(".version") == std::string::npos ? CUDA_ERROR_INVALID_IMAGE : read_ptx(image);
}

CUresult fits(const Image& image, int capability, int driver_version, bool takes_ptx) {
  if (image.is_ptx) {
    if (!takes_ptx) return CUDA_ERROR_JIT_COMPILATION_DISABLED;
    if (image.toolkit_version > driver_version) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
    const bool runs = image.exact ? image.capability == capability : image.capability <= capability;
    return runs ? CUDA_SUCCESS : CUDA_ERROR_NO_BINARY_FOR_GPU;
  }
  const bool same = image.capability == capability;
  const bool later = image.capability / 10 == capability / 10 && image.capability < capability;
  const bool portable = !image.exact && !is_embedded(image.capability) && !is_embedded(capability);
  if (!same && !(later && portable)) return CUDA_ERROR_NO_BINARY_FOR_GPU;
  // a driver knows the cubins of its own major version and of those before
  return image.toolkit_version / 1000 > driver_version / 1000 ? CUDA_ERROR_INVALID_IMAGE : CUDA_SUCCESS;
}

}  // namespace simulated
