#include "executors/registry.h"

#include <array>
#include <filesystem>

#include <dlfcn.h>

#include "graph/error.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;

// The plug-in lies beside the halfstep library.
std::string find_plugin(const std::string& file) {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&load_executor), &info) || !info.dli_fname) return {};
  const fs::path candidate = fs::path(info.dli_fname).parent_path() / file;
  std::error_code ignored;
  return fs::exists(candidate, ignored) ? candidate.string() : std::string();
}

// Without a slash dlopen would look in the loader's folders, and not where the user stands.
std::string library_path(const std::string& library) {
  std::error_code ignored;
  const bool is_bare = library.find('/') == std::string::npos && fs::exists(library, ignored);
  return is_bare ? "./" + library : library;
}

// A GPU that is there and cannot be used is worth a word; a machine without one is not.
bool has_gpu() {
  std::error_code ignored;
  return fs::exists("/dev/nvidiactl", ignored);
}

// A plug-in is never unloaded: its kernels may be referenced by programs until the process ends.
std::unique_ptr<Executor> open_plugin(const std::string& library, const ExecutorOptions& options, std::string& reason) {
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* text = dlerror();
    reason = "the plug-in " + library + " cannot be loaded: " + (text ? text : "unknown reason");
    return nullptr;
  }
  auto entry = reinterpret_cast<ExecutorEntryPoint>(dlsym(handle, kExecutorEntryPoint));
  if (!entry) {
    reason = library + " has no entry point '" + kExecutorEntryPoint + "': it is no halfstep plug-in";
    return nullptr;
  }
  std::unique_ptr<Executor> executor(entry(kExecutorAbi, &options, &reason));
  if (!executor && reason.empty()) reason = "the plug-in " + library + " gave no executor and no reason";
  return executor;
}

std::unique_ptr<Executor> open_reference(const ExecutorOptions& options, std::string&) {
  return make_reference_executor(options);
}
std::unique_ptr<Executor> open_onednn(const ExecutorOptions& options, std::string&) {
  return make_onednn_executor(options);
}
std::unique_ptr<Executor> open_cudnn(const ExecutorOptions& options, std::string& reason) {
  const std::string library = find_plugin("libhalfstep_cudnn.so");
  if (library.empty()) {
    reason =
        "this build has no cuDNN plug-in (libhalfstep_cudnn.so): build all targets with the CUDA toolkit and cuDNN 9 "
        "installed";
    return nullptr;
  }
  return open_plugin(library, options, reason);
}

struct Entry {
  std::string_view name;
  std::unique_ptr<Executor> (*open)(const ExecutorOptions&, std::string& reason);
};
// In the order `auto` tries them; reference is never taken by itself.
constexpr std::array<Entry, 3> kExecutors{
    {{"cudnn", open_cudnn}, {"onednn", open_onednn}, {"reference", open_reference}}};

}  // namespace

std::unique_ptr<Executor> load_executor(const std::string& library, const ExecutorOptions& options) {
  std::string reason;
  auto executor = open_plugin(library_path(library), options, reason);
  if (!executor)
    throw_input_error("an executor plug-in that works on this machine", "none: " + reason,
                      "check the path and what the plug-in needs");
  return executor;
}

std::unique_ptr<Executor> make_executor(std::string_view name, const ExecutorOptions& options, std::string* notice) {
  std::string reasons;
  for (const Entry& entry : kExecutors) {
    if (name != "auto" && name != entry.name) continue;
    std::string reason;
    if (auto executor = entry.open(options, reason)) {
      if (notice && !reasons.empty() && has_gpu())
        *notice = "using " + std::string(entry.name) + " and not this machine's GPU: " + reasons;
      return executor;
    }
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  if (reasons.empty())
    throw_input_error("one of the executors auto, onednn, cudnn, reference", "'" + std::string(name) + "'",
                      "'halfstep devices' tells which work on this machine");
  throw_input_error("executor '" + std::string(name) + "' to work on this machine", "none: " + reasons,
                    "--executor auto takes the CPU where there is no GPU");
}

std::vector<ExecutorStatus> executor_statuses() {
  std::vector<ExecutorStatus> result;
  for (const Entry& entry : kExecutors) {
    ExecutorStatus& status = result.emplace_back();
    status.name = entry.name;
    if (auto executor = entry.open({}, status.reason)) {
      status.available = true;
      status.capabilities = executor->capabilities();
    }
  }
  return result;
}

}  // namespace halfstep
