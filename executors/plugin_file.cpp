#include "executors/plugin_file.h"

#include <algorithm>
#include <exception>
#include <span>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

// Calls into a plug-in. It must not throw; one that does has given nothing.
template <class Call>
auto guarded(const std::string& library, Refusal& refusal, Call&& call) -> decltype(call()) {
  std::string thrown = "an unknown exception";
  try {
    return call();
  } catch (const Error& e) {
    thrown = e.without_hint();
  } catch (const std::exception& e) {
    thrown = e.what();
  } catch (...) {
  }
  refusal = {"the plug-in " + library + " failed: " + thrown, true};
  return {};
}

template <class Function>
Function find(void* handle, const char* name) {
  return reinterpret_cast<Function>(find_in_plugin(handle, name));
}

}  // namespace

std::optional<Plugin> Plugin::load(const std::string& library, Refusal& refusal) {
  refusal.is_broken = true;
  void* handle = open_plugin(library, refusal.reason);
  if (!handle) return {};
  const auto lacks = [&](const char* name) {
    refusal.reason = library + " has no function '" + name + "': it is no halfstep plug-in";
    return std::optional<Plugin>();
  };
  const auto abi = find<decltype(&halfstep_abi)>(handle, "halfstep_abi");
  if (!abi) return lacks("halfstep_abi");
  const int version = guarded(library, refusal, abi);
  if (refusal.reason.empty() && version != kExecutorAbi)
    refusal.reason = "the plug-in " + library + " was built for version " + std::to_string(version) +
                     " of the executor interface, and this halfstep has version " + std::to_string(kExecutorAbi) +
                     ": build both together";
  if (!refusal.reason.empty()) return {};

  Plugin plugin;
  plugin.library_ = library;
  plugin.score_ = find<decltype(&halfstep_score)>(handle, "halfstep_score");
  plugin.executor_ = find<decltype(&halfstep_executor)>(handle, "halfstep_executor");
  if (!plugin.executor_) return lacks("halfstep_executor");
  plugin.described_executor_ = find<decltype(&halfstep_described_executor)>(handle, "halfstep_described_executor");
  plugin.devices_ = find<decltype(&halfstep_devices)>(handle, "halfstep_devices");
  if (const auto operators = find<decltype(&halfstep_operators)>(handle, "halfstep_operators")) {
    guarded(library, refusal, [&] {
      std::size_t count = 0;
      const OpDef* rows = operators(&count);
      if (rows) add_operators(std::span(rows, count));
      return rows;
    });
    if (!refusal.reason.empty()) return {};
  }
  refusal.is_broken = false;
  return plugin;
}

int Plugin::score(Refusal& refusal) const {
  if (!score_) {
    refusal = {library_ + " has no function 'halfstep_score': only --plugin loads it", true};
    return 0;
  }
  const int score = guarded(library_, refusal, [&] { return score_(&refusal.reason); });
  if (score > 0)
    refusal = {};
  else if (score < 0)
    refusal.is_broken = true;
  if (score <= 0 && refusal.reason.empty()) refusal.reason = "the plug-in " + library_ + " is not for this machine";
  return std::max(0, score);
}

std::vector<DeviceStatus> Plugin::devices() const {
  std::vector<DeviceStatus> found;
  Refusal ignored;
  if (devices_)
    guarded(library_, ignored, [&] {
      devices_(&found);
      return 0;
    });
  return found;
}

std::unique_ptr<Executor> Plugin::make(const ExecutorOptions& options, Refusal& refusal) const {
  if (!options.device.empty() && !devices_) {
    refusal.reason = "the plug-in " + library_ + " has no devices to choose from";
    return nullptr;
  }
  auto executor =
      guarded(library_, refusal, [&] { return std::unique_ptr<Executor>(executor_(&options, &refusal.reason)); });
  if (!executor && refusal.reason.empty())
    refusal = {"the plug-in " + library_ + " gave no executor and no reason", true};
  return executor;
}

std::unique_ptr<Executor> Plugin::make_described(const std::string& description, const ExecutorOptions& options,
                                                 Refusal& refusal) const {
  if (!described_executor_) {
    refusal.reason = "the plug-in " + library_ + " plans for no device that is only described";
    return nullptr;
  }
  return guarded(library_, refusal, [&] {
    return std::unique_ptr<Executor>(described_executor_(description.c_str(), &options, &refusal.reason));
  });
}

}  // namespace halfstep
