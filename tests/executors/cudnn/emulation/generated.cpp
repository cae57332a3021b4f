#include "tests/executors/cudnn/emulation/generated.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <new>
#include <optional>

#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>
#include <unistd.h>

#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/fibers.h"
#include <halfstep/base/error.h>

namespace emulation {
namespace {

namespace fs = std::filesystem;
using halfstep::cudnn::KernelText;
using halfstep::cudnn::LoadedKernel;

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

/// The bytes of __shared__ variables (see cuda_on_host.h).
std::size_t shared_bytes(void* library) {
  struct Search {
    ElfW(Addr) base;
    std::size_t bytes;
  } search{static_cast<const link_map*>(library)->l_addr, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        for (int i = 0; info->dlpi_addr == wanted.base && i < info->dlpi_phnum; ++i)
          if (info->dlpi_phdr[i].p_type == PT_TLS) wanted.bytes = info->dlpi_phdr[i].p_memsz;
        return 0;
      },
      &search);
  return search.bytes;
}

void* loaded_object(const fs::path& object) {
  void* library = dlopen(object.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) halfstep::throw_failure("a kernel that loads", dlerror(), "");
  constexpr std::size_t kMostShared = std::size_t{48} << 10;  // where a launch does not ask for more
  if (const std::size_t bytes = shared_bytes(library); bytes > kMostShared)
    halfstep::throw_failure("a kernel with at most 48 KB of shared memory", fmt::format("{} bytes", bytes), "");
  return library;
}

/// Where a test keeps kernels from one process to the next, under their texts.
fs::path kept_object(const KernelText& kernel) {
  const char* folder = std::getenv("HALFSTEP_EMULATED_KERNELS");
  if (!folder) return {};
  const std::hash<std::string> hash;
  return fs::path(folder) / fmt::format("{}-{:x}-{:x}.so", kernel.name, hash(kernel.text),
                                        hash(kernel.name + kernel.argument + kernel.text));
}

void* build(const KernelText& kernel) {
  const fs::path kept = kept_object(kernel);
  if (!kept.empty() && fs::exists(kept)) return loaded_object(kept);
  const Folder folder;
  const fs::path source = folder / "kernel.cpp", object = folder / "kernel.so", messages = folder / "messages";
  std::ofstream(source) << "#include \"" << HALFSTEP_CUDA_ON_HOST << "\"\n"
                        << kernel.text << "\nextern \"C\" void on_host_entry(const void* argument) {\n  " << kernel.name
                        << "(*static_cast<const " << kernel.argument << "*>(argument));\n}\n";
  const std::string command = fmt::format(
      "{} -std=c++20 -O1 -w -fPIC -shared -fno-exceptions -fno-asynchronous-unwind-tables {} "
      "-o '{}' '{}' -lm 2> '{}'",
      HALFSTEP_HOST_COMPILER, contraction(kernel), object.string(), source.string(), messages.string());
  if (std::system(command.c_str()) != 0) {
    std::ifstream file(messages);
    halfstep::throw_failure("a generated kernel that the host's compiler takes",
                            std::string{std::istreambuf_iterator<char>(file), {}}, "");
  }
  if (!kept.empty()) {
    fs::copy_file(object, kept.string() + folder.name());
    fs::rename(kept.string() + folder.name(), kept);
  }
  return loaded_object(object);
}

/// A kernel built, and what its text calls threads and blocks by.
class BuiltKernel {
 public:
  explicit BuiltKernel(const KernelText& kernel)
      : library_(build(kernel)),
        has_barriers_(kernel.text.find("__sync") != std::string::npos ||
                      kernel.text.find("_sync(") != std::string::npos) {
    entry_ = find<void(const void*)>("on_host_entry");
    thread_ = find<Dim>("threadIdx");
    block_ = find<Dim>("blockIdx");
    block_extent_ = find<Dim>("blockDim");
    grid_extent_ = find<Dim>("gridDim");
    *find<void (*)()>("on_host_block_barrier") = block_barrier;
    *find<void (*)()>("on_host_warp_barrier") = warp_barrier;
  }
  BuiltKernel(const BuiltKernel&) = delete;
  BuiltKernel& operator=(const BuiltKernel&) = delete;
  ~BuiltKernel() { dlclose(library_); }

  void run(Grid grid, const void* argument) const {
    *grid_extent_ = {grid.blocks, 1, 1};
    *block_extent_ = {grid.threads, 1, 1};
    const auto enter = [this](unsigned block, unsigned thread) {
      *block_ = {block, 0, 0};
      *thread_ = {thread, 0, 0};
    };
    if (has_barriers_) {
      if (!run_fibers(
              grid, enter, [&] { entry_(argument); }, machine().seed))
        refuse("a barrier that some threads never reach");
      return;
    }
    for (unsigned block = 0; block < grid.blocks; ++block)
      for (unsigned thread = 0; thread < grid.threads; ++thread) {
        enter(block, thread);
        entry_(argument);
      }
  }

 private:
  template <class T>
  T* find(const char* name) const {
    return reinterpret_cast<T*>(dlsym(library_, name));
  }

  void* library_;
  bool has_barriers_;
  void (*entry_)(const void*) = nullptr;
  Dim *thread_ = nullptr, *block_ = nullptr, *block_extent_ = nullptr, *grid_extent_ = nullptr;
};

/// Built when it is launched first: many a test only plans.
class HostKernel final : public LoadedKernel {
 public:
  explicit HostKernel(KernelText kernel) : text_(std::move(kernel)) {}

  void launch(unsigned blocks, unsigned threads, std::span<const std::byte> argument,
              cudaStream_t stream) const override {
    if (fails("launch") || (is_capturing() && fails("captured launch")))
      halfstep::throw_failure("cuLaunchKernel to succeed on the GPU", refusal(), "");
    if (is_capturing() && fails("captured allocation")) throw std::bad_alloc();
    if (machine().most_blocks > 0) blocks = std::min(blocks, machine().most_blocks);
    if (blocks == 0 || threads == 0 || threads > 1024 || argument.size() > 4096)
      return refuse("a grid or an argument that no device takes");
    if (!built_) built_.emplace(text_);
    submit(stream, [this, blocks, threads, bytes = std::vector<std::byte>(argument.begin(), argument.end())] {
      built_->run({blocks, threads}, bytes.data());
    });
  }

 private:
  KernelText text_;
  mutable std::optional<BuiltKernel> built_;
};

/// Kept for the process: compiling takes longer than everything else.
std::map<std::string, std::shared_ptr<const HostKernel>>& loaded() {
  static std::map<std::string, std::shared_ptr<const HostKernel>> all;
  return all;
}

}  // namespace

std::shared_ptr<const LoadedKernel> load_on_host(const KernelText& kernel) {
  auto& known = loaded()[kernel.name + '\n' + kernel.text];
  if (!known) known = std::make_shared<const HostKernel>(kernel);
  return known;
}

namespace {
std::map<std::string, KernelText>& asked_for() {
  static std::map<std::string, KernelText> all;
  return all;
}
}  // namespace

std::vector<KernelText> executor_texts() {
  std::vector<KernelText> texts;
  for (const auto& [_, text] : asked_for()) texts.push_back(text);
  return texts;
}
void forget_texts() { asked_for().clear(); }

}  // namespace emulation

namespace halfstep::cudnn {

std::string generation_refusal() {
  return emulation::machine().can_compile ? "" : "kernels are not generated: the machine was told so";
}
std::shared_ptr<const LoadedKernel> load_kernel(const KernelText& kernel, int) {
  if (emulation::fails("compile")) throw_failure("NVRTC to take the kernel", emulation::refusal(), "");
  emulation::asked_for().try_emplace(kernel.name + '\n' + kernel.text, kernel);
  return emulation::load_on_host(kernel);
}

}  // namespace halfstep::cudnn
