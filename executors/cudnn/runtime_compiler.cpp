#include "executors/cudnn/runtime_compiler.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <iterator>
#include <string_view>
#include <type_traits>

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include "executors/cudnn/entry_cache.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {
namespace {

namespace fs = std::filesystem;

/// NVRTC's functions; the toolkit's packages need not bring its header.
struct Compiler {
  using Program = void*;
  int (*version)(int* major, int* minor) = nullptr;
  int (*arch_count)(int* count) = nullptr;
  int (*archs)(int* archs) = nullptr;
  int (*create)(Program*, const char* source, const char* name, int, const char* const*, const char* const*) = nullptr;
  int (*destroy)(Program*) = nullptr;
  int (*compile)(Program, int count, const char* const* options) = nullptr;
  int (*log_size)(Program, std::size_t*) = nullptr;
  int (*log)(Program, char*) = nullptr;
  int (*cubin_size)(Program, std::size_t*) = nullptr;
  int (*cubin)(Program, char*) = nullptr;
  int (*ptx_size)(Program, std::size_t*) = nullptr;
  int (*ptx)(Program, char*) = nullptr;
  const char* (*error_string)(int) = nullptr;

  int major = 0, minor = 0;
  std::vector<int> capabilities;  ///< ascending
  std::string refusal;
};

void* open_library() {
  for (const std::string& name : {fmt::format("libnvrtc.so.{}", CUDART_VERSION / 1000), std::string("libnvrtc.so")})
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  return nullptr;
}

Compiler find_compiler() {
  Compiler c;
  void* library = open_library();
  if (!library) {
    c.refusal = fmt::format(
        "kernels are not generated: libnvrtc.so.{} was not found (install the CUDA toolkit's NVRTC, or "
        "nvidia-cuda-nvrtc from PyPI and put its folder into LD_LIBRARY_PATH)",
        CUDART_VERSION / 1000);
    return c;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function) c.refusal = fmt::format("kernels are not generated: libnvrtc has no {}", name);
  };
  find(c.version, "nvrtcVersion");
  find(c.arch_count, "nvrtcGetNumSupportedArchs");
  find(c.archs, "nvrtcGetSupportedArchs");
  find(c.create, "nvrtcCreateProgram");
  find(c.destroy, "nvrtcDestroyProgram");
  find(c.compile, "nvrtcCompileProgram");
  find(c.log_size, "nvrtcGetProgramLogSize");
  find(c.log, "nvrtcGetProgramLog");
  find(c.cubin_size, "nvrtcGetCUBINSize");
  find(c.cubin, "nvrtcGetCUBIN");
  find(c.ptx_size, "nvrtcGetPTXSize");
  find(c.ptx, "nvrtcGetPTX");
  find(c.error_string, "nvrtcGetErrorString");
  if (!c.refusal.empty()) return c;
  int count = 0;
  if (c.version(&c.major, &c.minor) != 0 || c.arch_count(&count) != 0 || count < 1) {
    c.refusal = "kernels are not generated: libnvrtc does not say what it compiles for";
    return c;
  }
  c.capabilities.resize(static_cast<std::size_t>(count));
  c.archs(c.capabilities.data());
  std::ranges::sort(c.capabilities);
  return c;
}

const Compiler& compiler() {
  static const Compiler c = find_compiler();
  return c;
}

/// "sm_90", or "compute_120" for a device that is newer than this NVRTC.
std::string architecture(int capability) {
  const std::vector<int>& known = compiler().capabilities;
  if (std::ranges::binary_search(known, capability)) return fmt::format("sm_{}", capability);
  const auto above = std::ranges::upper_bound(known, capability);
  if (above == known.begin())
    throw_failure(fmt::format("an NVRTC that compiles for compute capability {}.{}", capability / 10, capability % 10),
                  fmt::format("version {}.{}, which begins at {}.{}", compiler().major, compiler().minor,
                              known.front() / 10, known.front() % 10),
                  "install an older CUDA toolkit, or run with --executor onednn");
  return fmt::format("compute_{}", *std::prev(above));
}

/// A program of NVRTC's, while it is there.
class Program {
 public:
  explicit Program(const KernelText& kernel) : is_contracted_(is_contracted(kernel)) {
    must(compiler().create(&program_, kernel.text.c_str(), (kernel.name + ".cu").c_str(), 0, nullptr, nullptr),
         "nvrtcCreateProgram");
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { compiler().destroy(&program_); }

  std::vector<char> compile(const std::string& architecture) {
    const std::string target = "--gpu-architecture=" + architecture;
    const char* options[] = {target.c_str(), "--std=c++17", "--disable-warnings", "--ptxas-options=-v",
                             is_contracted_ ? "--fmad=true" : "--fmad=false"};
    const int status = compiler().compile(program_, static_cast<int>(std::size(options)), options);
    if (status != 0)
      throw_failure("a generated kernel that NVRTC compiles",
                    fmt::format("{}: {}", compiler().error_string(status), log()),
                    "run with --executor onednn, and report the model and this message");
    const bool is_code = architecture.starts_with("sm_");
    return is_code ? take(compiler().cubin_size, compiler().cubin) : ptx();
  }
  std::vector<char> ptx() const { return take(compiler().ptx_size, compiler().ptx); }
  /// Of the latest compilation.
  std::string log() const {
    std::size_t bytes = 0;
    if (compiler().log_size(program_, &bytes) != 0 || bytes == 0) return "no message";
    std::string text(bytes, 0);
    compiler().log(program_, text.data());
    return text.substr(0, text.find('\0'));
  }

 private:
  static void must(int status, const char* call) {
    if (status != 0)
      throw_failure(fmt::format("{} to succeed", call), compiler().error_string(status),
                    "run with --executor onednn, and report this message");
  }
  std::vector<char> take(int (*size)(void*, std::size_t*), int (*get)(void*, char*)) const {
    std::size_t bytes = 0;
    must(size(program_, &bytes), "a call for the size of NVRTC's output");
    std::vector<char> result(bytes);
    must(get(program_, result.data()), "a call for NVRTC's output");
    return result;
  }

  void* program_ = nullptr;
  bool is_contracted_;
};

std::string key_of(const KernelText& kernel, const std::string& architecture) {
  return fmt::format("halfstep kernel 1\nNVRTC {}.{} {} {}\n{}", compiler().major, compiler().minor, architecture,
                     kernel.name, kernel.text);
}

}  // namespace

std::string runtime_compiler_refusal() { return compiler().refusal; }

std::vector<char> compile(const KernelText& kernel, int capability, const fs::path& cache) {
  if (!compiler().refusal.empty())
    throw_failure("a compiler of CUDA C++", compiler().refusal, "run with --executor onednn");
  const std::string target = architecture(capability);
  if (cache.empty()) return Program(kernel).compile(target);
  const std::string key = key_of(kernel, target);
  if (std::vector<char> known = read_entry(cache, key); !known.empty()) return known;
  std::vector<char> code = Program(kernel).compile(target);
  write_entry(cache, key, code);
  return code;
}

KernelReport inspect(const KernelText& kernel, int capability) {
  Program program(kernel);
  KernelReport report;
  report.code = program.compile(architecture(capability));
  const std::string log = program.log();
  // "...: 12 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads", "...: Used 14 registers, ..."
  const auto number_before = [&](std::string_view words) {
    int sum = 0;
    for (std::size_t end = 0; (end = log.find(words, end)) != std::string::npos; ++end) {
      std::size_t first = end;
      while (first > 0 && std::isdigit(static_cast<unsigned char>(log[first - 1]))) --first;
      sum += std::atoi(log.c_str() + first);
    }
    return sum;
  };
  report.registers = number_before(" registers");
  report.spilled_bytes = number_before(" bytes spill stores") + number_before(" bytes spill loads");
  report.stack_bytes = number_before(" bytes stack frame");
  if (report.registers == 0) throw_failure("ptxas to say how many registers a kernel takes", log, "report this");
  const std::vector<char> ptx = program.ptx();
  for (std::string_view rest(ptx.data(), ptx.size()); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const bool is_access = line.find("ld.global") != line.npos || line.find("st.global") != line.npos;
    const auto moves = [&](std::string_view elements, std::string_view bits) {  // as ".v4.f32"
      const std::size_t at = line.find(elements);
      return at != line.npos && line.substr(at + elements.size() + 1).starts_with(bits);
    };
    if (is_access && (moves(".v4.", "32") || moves(".v2.", "64"))) ++report.vector_accesses;
  }
  return report;
}

}  // namespace halfstep::cudnn
