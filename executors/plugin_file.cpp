#include "executors/plugin_file.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <span>
#include <utility>

#include <dlfcn.h>
#include <elf.h>

#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

fs::path library_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&load_executor), &info) || !info.dli_fname) return {};
  return fs::path(info.dli_fname).parent_path();
}

void add_plugins(const fs::path& folder, bool is_named_by_user, std::vector<PluginFile>& found) {
  const auto first = static_cast<std::ptrdiff_t>(found.size());
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    const std::string file = entry->path().filename().string();
    if (const std::string_view name = plugin_name(file); !name.empty())
      found.push_back({std::string(name), entry->path(), is_named_by_user});
  }
  std::ranges::sort(found.begin() + first, found.end(), {}, &PluginFile::name);
}

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

// Why a file must not be given to dlopen: that maps it, waits for a pipe, and dies of SIGBUS where the file ends before
// its segments do. Empty where nothing is wrong, or where dlopen itself says it.
std::string unloadable(const std::string& library) {
  if (library.find('/') == std::string::npos) return {};  // the loader looks for it
  std::error_code error;
  if (!fs::is_regular_file(library, error)) return fs::exists(library, error) ? "it is no regular file" : "";
  const std::uintmax_t size = fs::file_size(library, error);
  std::ifstream file(library, std::ios::binary);
  Elf64_Ehdr header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header) || header.e_ident[EI_CLASS] != ELFCLASS64) return {};
  for (std::size_t i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment{};
    file.seekg(static_cast<std::streamoff>(header.e_phoff + i * sizeof segment));
    if (!file.read(reinterpret_cast<char*>(&segment), sizeof segment)) return "the file is cut off";
    if (segment.p_type == PT_LOAD && (segment.p_filesz > size || segment.p_offset > size - segment.p_filesz))
      return "the file is cut off";
  }
  return {};
}

template <class Function>
Function find(void* handle, const char* name) {
  return reinterpret_cast<Function>(dlsym(handle, name));
}

}  // namespace

std::string_view plugin_name(std::string_view file) {
  constexpr std::string_view kPrefix = "libhalfstep-", kSuffix = ".so";
  if (!file.starts_with(kPrefix) || !file.ends_with(kSuffix) || file.size() < kPrefix.size() + kSuffix.size())
    return {};
  return file.substr(kPrefix.size(), file.size() - kPrefix.size() - kSuffix.size());
}

std::vector<PluginFile> find_plugins() {
  std::vector<PluginFile> found;
  const char* variable = std::getenv("HALFSTEP_PLUGIN_PATH");
  std::string_view folders = variable ? variable : "";
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    folders.remove_prefix(std::min(folders.size(), folder.size() + 1));
    if (!folder.empty()) add_plugins(folder, true, found);
  }
  if (const fs::path folder = library_folder(); !folder.empty()) add_plugins(folder, false, found);
  return found;
}

std::optional<Plugin> Plugin::load(const std::string& library, Refusal& refusal) {
  refusal.is_broken = true;
  if (const std::string why = unloadable(library); !why.empty()) {
    refusal.reason = "the plug-in " + library + " cannot be loaded: " + why;
    return {};
  }
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* text = dlerror();
    refusal.reason = "the plug-in " + library + " cannot be loaded: " + (text ? text : "unknown reason");
    return {};
  }
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

std::unique_ptr<Executor> Plugin::make(const ExecutorOptions& options, Refusal& refusal) const {
  auto executor =
      guarded(library_, refusal, [&] { return std::unique_ptr<Executor>(executor_(&options, &refusal.reason)); });
  if (!executor && refusal.reason.empty())
    refusal = {"the plug-in " + library_ + " gave no executor and no reason", true};
  return executor;
}

}  // namespace halfstep
