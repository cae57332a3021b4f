#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>

#include "executors/plugin_file.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

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

// What the plug-in would find, without NVIDIA's other libraries, which take long to load and much memory.
bool driver_shows_gpu() {
  std::string ignored;
  void* driver = open_plugin("libcuda.so.1", ignored);
  if (!driver) return false;
  const auto init = reinterpret_cast<int (*)(unsigned)>(find_in_plugin(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(find_in_plugin(driver, "cuDeviceGetCount"));
  int devices = 0;
  return init && count && init(0) == 0 && count(&devices) == 0 && devices > 0;
}

// An executor of the library, or a plug-in.
struct Candidate {
  std::string name;
  int score = 0;  // 0: it is not for this machine
  Refusal refusal = {};
  std::function<std::unique_ptr<Executor>(const ExecutorOptions&, Refusal&)> make = {};
  std::function<std::vector<DeviceStatus>()> devices = {};  // unset: none to choose from
};

Candidate own(std::string name, int score, std::unique_ptr<Executor> (*make)(const ExecutorOptions&)) {
  return {.name = name, .score = score, .make = [name, make](const ExecutorOptions& options, Refusal& refusal) {
            if (options.device.empty()) return make(options);
            refusal.reason = name + " computes on the CPU";
            return std::unique_ptr<Executor>();
          }};
}

Candidate load(const PluginFile& file) {
  Candidate result{.name = file.name};
  if (const std::optional<Plugin> plugin = Plugin::load(file.path.string(), result.refusal)) {
    result.score = plugin->score(result.refusal);
    result.make = [plugin](const ExecutorOptions& options, Refusal& refusal) { return plugin->make(options, refusal); };
    result.devices = [plugin] { return plugin->devices(); };
  }
  // One that came along with the library may lack the libraries of a device that is not there.
  if (!file.is_named_by_user && !has_gpu()) result.refusal.is_broken = false;
  return result;
}

constexpr std::string_view kGpu = "cudnn";

// Far more than CPUs have; a process cannot start any number.
void check_threads(const ExecutorOptions& options) {
  constexpr int kMost = 4096;
  if (options.threads < 0 || options.threads > kMost)
    throw_input_error("threads from 0 (all) to " + std::to_string(kMost), std::to_string(options.threads), "");
}

// A name that no plug-in can have.
bool is_own(std::string_view name) { return name == "onednn" || name == "reference" || name == "auto"; }

enum class Asked : std::uint8_t { best, status };

// Those that may be meant by `name`; `auto` means all. First those that are not for this machine, then by score. For
// the best, the GPU's plug-in is not loaded on a machine without one.
std::vector<Candidate> candidates(std::string_view name, Asked asked) {
  std::vector<Candidate> result;
  for (const PluginFile& file : find_plugins(PluginKind::executor)) {
    if (!file.is_named_by_user && name != "auto" && name != file.name) continue;
    const bool is_taken = is_own(file.name) || std::ranges::find(result, file.name, &Candidate::name) != result.end();
    const bool is_useless = asked == Asked::best && name == "auto" && file.name == kGpu && !file.is_named_by_user &&
                            !has_gpu() && !driver_shows_gpu();
    if (!is_taken && is_useless)
      result.push_back({.name = file.name});
    else if (!is_taken)
      result.push_back(load(file));
    else if (file.is_named_by_user)
      result.push_back(
          {file.name, 0, {"the plug-in " + file.path.string() + " has the name of another executor", true}});
  }
  if (std::ranges::find(result, kGpu, &Candidate::name) == result.end())
    result.push_back({std::string(kGpu),
                      0,
                      {"this build has no cuDNN plug-in (libhalfstep-cudnn.so): build all targets with the CUDA "
                       "toolkit and cuDNN 9.8 installed"}});
  result.push_back(own("onednn", kOnednnScore, make_onednn_executor));
  result.push_back(own("reference", kReferenceScore, make_reference_executor));
  std::ranges::stable_sort(result, [](const Candidate& a, const Candidate& b) {
    return a.score == 0 ? b.score != 0 : a.score > b.score && b.score != 0;
  });
  return result;
}

std::unique_ptr<Executor> open(Candidate& candidate, const ExecutorOptions& options) {
  if (candidate.score <= 0) return nullptr;
  std::unique_ptr<Executor> executor = candidate.make(options, candidate.refusal);
  if (!executor) candidate.refusal.is_broken = true;  // it said that it suits this machine
  return executor;
}

void append(std::string& list, const std::string& text, const char* separator = "; ") {
  list += (list.empty() || text.empty() ? "" : separator) + text;
}

// Its plug-in may be in a folder that is not there.
[[noreturn]] void throw_unknown(const std::string& required, std::string_view name, const std::string& hint) {
  std::string found = "'" + std::string(name) + "'";
  append(found, missing_plugin_folders());
  throw_input_error(required, found, hint);
}

// What is to be told of the candidates, though there is an executor.
std::string notice_of(const std::vector<Candidate>& all, bool is_auto, std::string_view taken) {
  std::string result;
  const bool on_cpu = is_auto && (taken == "onednn" || taken == "reference");
  for (const auto& [name, score, refusal, make, devices] : all) {
    if (name == kGpu && on_cpu && !refusal.reason.empty() && has_gpu())
      append(result, "using " + std::string(taken) + " instead of this machine's GPU: " + refusal.reason);
    else if (refusal.is_broken)
      append(result, refusal.reason);
  }
  return result;
}

}  // namespace

std::string without_effect(const ExecutorOptions& options, const Executor& executor) {
  const bool is_onednn = executor.name() == "onednn", is_gpu = executor.name() == kGpu;
  const std::string name(executor.name()), math(name_of(options.fp32_math));
  std::string result;
  if (options.fp32_math != Fp32Math::strict && !(options.fp32_math == Fp32Math::tf32 && is_gpu)) {
    if (!is_onednn)
      append(result, "f32 math " + math + " has no effect: the " + name + " executor does not compute in it");
    else if (options.fp32_math != Fp32Math::bf16 || !executor.capabilities().is_native(OpClass::matmul, DType::bf16))
      append(result, "f32 math " + math + " has no effect: this CPU has no units for " + math);
  }
  if (options.tuning != Tuning::off && !is_onednn)
    append(result, "tuning " + std::string(name_of(options.tuning)) + " has no effect: the " + name +
                       " executor chooses kernels by rules");
  if (!options.deterministic && !is_gpu)
    append(result, "deterministic off has no effect: the " + name + " executor has only deterministic kernels");
  return result;
}

namespace {

/// Throws for a device that was named and is not there.
void require_device(const ExecutorOptions& options, const std::string& reasons) {
  if (!options.device.empty())
    throw_input_error("the device '" + options.device + "'", "none: " + reasons,
                      "'halfstep devices' lists the devices of each executor");
}

}  // namespace

std::unique_ptr<Executor> load_executor(const std::string& library, const ExecutorOptions& options) {
  check_threads(options);
  Refusal refusal;
  const std::optional<Plugin> plugin = Plugin::load(library_path(library), refusal);
  std::unique_ptr<Executor> executor = plugin ? plugin->make(options, refusal) : nullptr;
  if (!executor && plugin) require_device(options, refusal.reason);
  if (!executor)
    throw_input_error("an executor plug-in that works on this machine", "none: " + refusal.reason,
                      "check the path and what the plug-in needs");
  return executor;
}

namespace {

/// Once in a process: what can only be changed before OpenMP's runtime is loaded.
std::string waiting_notice(std::string_view executor) {
  static std::atomic<bool> told{false};
  if (executor != "onednn" || std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT") || told.exchange(true))
    return {};
  return "waiting OpenMP threads keep their cores busy: if other processes use the cores, set GOMP_SPINCOUNT=1000 in "
         "the environment";
}

}  // namespace

std::unique_ptr<Executor> make_executor(std::string_view name, const ExecutorOptions& options, std::string* notice) {
  check_threads(options);
  const bool is_auto = name == "auto";
  // Why there is no device that was named is told by the plug-in.
  std::vector<Candidate> all = candidates(name, options.device.empty() ? Asked::best : Asked::status);
  std::string names = "auto", reasons;
  for (Candidate& candidate : all) {
    const bool is_meant_by_auto = is_auto && (options.device.empty() || !is_own(candidate.name));
    if (candidate.name == name || is_meant_by_auto) {
      if (auto executor = open(candidate, options)) {
        if (notice) {
          *notice = missing_plugin_folders();
          append(*notice, notice_of(all, is_auto, candidate.name));
          append(*notice, without_effect(options, *executor));
          append(*notice, waiting_notice(candidate.name));
        }
        return executor;
      }
      append(reasons, candidate.refusal.reason);
    }
    append(names, candidate.name, ", ");
  }
  if (reasons.empty())
    throw_unknown("one of the executors " + names, name, "'halfstep devices' lists those available on this machine");
  require_device(options, reasons);
  throw_input_error("executor '" + std::string(name) + "' to work on this machine", "none: " + reasons,
                    "--executor auto uses the CPU if there is no GPU");
}

std::unique_ptr<Executor> make_described_executor(std::string_view name, const std::string& library,
                                                  const std::string& description, const ExecutorOptions& options) {
  if (!options.device.empty())
    throw_input_error("no device of this machine with one that is described", "'" + options.device + "'",
                      "omit the device");
  std::string path = library.empty() ? "" : library_path(library);
  for (const PluginFile& file : find_plugins(PluginKind::executor))
    if (path.empty() && file.name == name) path = file.path.string();
  if (path.empty())
    throw_unknown("an executor that plans for devices that are described", name,
                  "name a plug-in that this build has, such as --executor cudnn");
  Refusal refusal;
  const std::optional<Plugin> plugin = Plugin::load(path, refusal);
  std::unique_ptr<Executor> executor = plugin ? plugin->make_described(description, options, refusal) : nullptr;
  if (!executor)
    throw_input_error("a device that the plug-in can plan for", "none: " + refusal.reason,
                      "check the description, and what the plug-in needs");
  return executor;
}

std::string missing_plugin_folders() { return plugin_folders_that_are_none(); }

std::vector<std::string> executor_names() {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const PluginFile& file : find_plugins(PluginKind::executor))
    if (!is_own(file.name)) add(file.name);
  add("onednn");
  add("reference");
  return names;
}

std::vector<ExecutorStatus> executor_statuses() {
  std::vector<ExecutorStatus> result;
  for (Candidate& candidate : candidates("auto", Asked::status)) {
    ExecutorStatus& status = result.emplace_back();
    status.name = candidate.name;
    const auto executor = open(candidate, {});
    status.available = executor != nullptr;
    if (candidate.devices) status.devices = candidate.devices();
    if (executor)
      status.capabilities = executor->capabilities();
    else
      status.reason = candidate.refusal.reason;
  }
  return result;
}

}  // namespace halfstep
