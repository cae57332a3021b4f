#include "tests/executors/cudnn/emulation/built_kernel.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <unistd.h>

#include "tests/executors/cudnn/emulation/accesses.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>

extern "C" void* __tls_get_addr(const std::size_t* module_and_offset);

namespace emulation {
namespace {

namespace fs = std::filesystem;
using halfstep::cudnn::KernelText;

struct Dim {
  unsigned x, y, z;
};

/// A folder that goes with what was made in it.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::path(HALFSTEP_KERNEL_FOLDER) / "kernels-XXXXXX").string();
    if (!mkdtemp(pattern.data())) halfstep::throw_failure("a folder for kernels", pattern, "");
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const char* name) const { return path_ / name; }
  std::string name() const { return path_.filename(); }

 private:
  fs::path path_;
};

/// Contraction is nvcc's default, where this machine has it.
const char* contraction(const KernelText& kernel) {
  if (!is_contracted(kernel)) return "-ffp-contract=off";
#ifdef __x86_64__
  return __builtin_cpu_supports("fma") ? "-ffp-contract=fast -mfma" : "-ffp-contract=off";
#else
  return "-ffp-contract=fast";
#endif
}

/// Where a library's parts lie.
struct Layout {
  Bytes code;                    // and its variables
  std::size_t shared_bytes = 0;  // of __shared__ variables, which are thread_local (see cuda_on_host.h)
  std::size_t module = 0;        // for asking where they are
};
Layout layout_of(void* library) {
  struct Search {
    ElfW(Addr) base;
    Layout found;
  } search{static_cast<const link_map*>(library)->l_addr, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& [base, found] = *static_cast<Search*>(data);
        if (info->dlpi_addr != base) return 0;
        std::size_t end = 0;
        for (const auto& part : std::span(info->dlpi_phdr, info->dlpi_phnum)) {
          if (part.p_type == PT_LOAD) end = std::max<std::size_t>(end, part.p_vaddr + part.p_memsz);
          if (part.p_type == PT_TLS) found.shared_bytes = part.p_memsz;
        }
        found.code = {reinterpret_cast<const std::byte*>(base), end};
        found.module = info->dlpi_tls_modid;
        return 1;
      },
      &search);
  return search.found;
}
/// This thread's.
Bytes shared_memory(const Layout& layout) {
  if (layout.shared_bytes == 0) return {};
  const std::size_t at[] = {layout.module, 0};
  return {static_cast<const std::byte*>(__tls_get_addr(at)), layout.shared_bytes};
}

std::shared_ptr<void> loaded_object(const fs::path& object) {
  std::shared_ptr<void> library(dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL), [](void* p) {
    if (p) dlclose(p);
  });
  if (!library) halfstep::throw_failure("a kernel that loads", dlerror(), "");
  constexpr std::size_t kMostShared = std::size_t{48} << 10;  // where a launch does not ask for more
  if (const std::size_t bytes = layout_of(library.get()).shared_bytes; bytes > kMostShared)
    halfstep::throw_failure("a kernel with at most 48 KB of shared memory", fmt::format("{} bytes", bytes), "");
  return library;
}

/// What is called for every kernel, but for the files.
std::string compiler_of(const KernelText& kernel) {
  // What sanitizers call is in cuda_on_host.h: no library of theirs is linked.
  constexpr const char* kSanitizers =
      "thread,alignment,bounds,signed-integer-overflow,shift,integer-divide-by-zero,float-cast-overflow";
  return fmt::format(
      "{} -std=c++20 -O1 -w -fPIC -shared -fno-exceptions -fno-asynchronous-unwind-tables {} "
      "-fsanitize={} -nodefaultlibs -Wl,-Bsymbolic",
      HALFSTEP_HOST_COMPILER, contraction(kernel), kSanitizers);
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// Where a test keeps kernels from one process to the next, under all that they are built from.
fs::path kept_object(const KernelText& kernel) {
  const char* folder = std::getenv("HALFSTEP_EMULATED_KERNELS");
  if (!folder) return {};
  static const std::string on_host = text_of(HALFSTEP_CUDA_ON_HOST);
  const std::hash<std::string> hash;
  return fs::path(folder) / fmt::format("{}-{:x}-{:x}.so", kernel.name, hash(kernel.text),
                                        hash(compiler_of(kernel) + on_host + kernel.name + kernel.argument));
}

std::shared_ptr<void> build(const KernelText& kernel) {
  const fs::path kept = kept_object(kernel);
  if (!kept.empty() && fs::exists(kept)) return loaded_object(kept);
  const Folder folder;
  const fs::path source = folder / "kernel.cpp", object = folder / "kernel.so", messages = folder / "messages";
  std::ofstream(source) << "#include \"" << HALFSTEP_CUDA_ON_HOST << "\"\n#line 1\n"
                        << kernel.text << "\nextern \"C\" ON_HOST_OWN void on_host_entry(const void* argument) {\n  "
                        << kernel.name << "(*static_cast<const " << kernel.argument << "*>(argument));\n}\n";
  const std::string command = fmt::format("{} -o '{}' '{}' -lm -lc 2> '{}'", compiler_of(kernel), object.string(),
                                          source.string(), messages.string());
  if (std::system(command.c_str()) != 0)
    halfstep::throw_failure("a generated kernel that the host's compiler takes", text_of(messages), "");
  if (!kept.empty()) {
    fs::copy_file(object, kept.string() + folder.name());
    fs::rename(kept.string() + folder.name(), kept);
  }
  return loaded_object(object);
}

Accesses accesses;  // of the launch that runs: there is one at a time
void tell_access(const void* p, unsigned long bytes, int kind) { accesses.access(p, bytes, static_cast<Access>(kind)); }
void tell_fault(const char* what) { accesses.fail(what); }

/// What a kernel's text calls threads and blocks by follows them.
class Indices final : public Watcher {
 public:
  Indices(Dim* block, Dim* thread, const Layout& layout)
      : block_(block), thread_(thread), shared_(shared_memory(layout)), code_(layout.code) {
    accesses.begin_launch();
  }
  void begin_block(unsigned block) override {
    *block_ = {block, 0, 0};
    accesses.begin_block(block, shared_, code_);
  }
  void enter(unsigned, unsigned thread, Bytes stack) override {
    *thread_ = {thread, 0, 0};
    accesses.enter(thread, stack);
  }
  void pass_block_barrier() override { accesses.pass_block_barrier(); }
  void pass_warp_barrier(unsigned warp) override { accesses.pass_warp_barrier(warp); }

 private:
  Dim *block_, *thread_;
  Bytes shared_, code_;
};

}  // namespace

template <class T>
T* BuiltKernel::find(const char* name) const {
  return reinterpret_cast<T*>(dlsym(library_.get(), name));
}

BuiltKernel::BuiltKernel(const KernelText& kernel)
    : name_(kernel.name),
      library_(build(kernel)),
      has_barriers_(kernel.text.find("__sync") != std::string::npos || kernel.text.find("_sync(") != std::string::npos),
      entry_(find<void(const void*)>("on_host_entry")) {
  *find<void (*)(int)>("on_host_block_barrier") = block_barrier;
  *find<void (*)(int)>("on_host_warp_barrier") = warp_barrier;
  *find<void (*)(int)>("on_host_warp_meeting") = warp_meeting;
  *find<void (*)(const void*, unsigned long, int)>("on_host_access") = tell_access;
  *find<void (*)(const char*)>("on_host_fault") = tell_fault;
}

void BuiltKernel::run(Grid grid, const void* argument) const {
  *find<Dim>("gridDim") = {grid.blocks, 1, 1};
  *find<Dim>("blockDim") = {grid.threads, 1, 1};
  Indices indices(find<Dim>("blockIdx"), find<Dim>("threadIdx"), layout_of(library_.get()));
  std::string problem;
  if (has_barriers_) {
    problem = run_fibers(
        grid, indices, [&] { entry_(argument); }, machine().seed);
  } else {
    constexpr std::size_t kStack = std::size_t{64} << 10;
    const auto* here = static_cast<const std::byte*>(__builtin_frame_address(0));
    for (unsigned block = 0; block < grid.blocks; ++block) {
      indices.begin_block(block);
      for (unsigned thread = 0; thread < grid.threads; ++thread) {
        indices.enter(block, thread, {here - kStack, here});
        entry_(argument);
      }
    }
  }
  if (problem.empty()) problem = accesses.fault();
  if (!problem.empty()) halfstep::throw_failure("a kernel that a device can run", name_ + ": " + problem, "");
}

}  // namespace emulation
