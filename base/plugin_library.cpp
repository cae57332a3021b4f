#include "base/plugin_library.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <system_error>

#include <dlfcn.h>
#include <elf.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 2> kCommunicators{"mpi", "nccl"};

PluginKind kind_of(std::string_view name) {
  return std::ranges::find(kCommunicators, name) == kCommunicators.end() ? PluginKind::executor
                                                                         : PluginKind::communicator;
}

fs::path library_folder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<void*>(&find_plugins), &info) || !info.dli_fname) return {};
  return fs::path(info.dli_fname).parent_path();
}

std::vector<std::string> folders_of_user() {
  const char* variable = std::getenv("HALFSTEP_PLUGIN_PATH");
  std::string_view folders = variable ? variable : "";
  std::vector<std::string> result;
  while (!folders.empty()) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    folders.remove_prefix(std::min(folders.size(), folder.size() + 1));
    if (!folder.empty()) result.emplace_back(folder);
  }
  return result;
}

void add_plugins(PluginKind kind, const fs::path& folder, bool is_named_by_user, std::vector<PluginFile>& found) {
  const auto first = static_cast<std::ptrdiff_t>(found.size());
  std::error_code ignored;
  for (fs::directory_iterator entry(folder, ignored), end; !ignored && entry != end; entry.increment(ignored)) {
    const std::string file = entry->path().filename().string();
    if (const std::string_view name = plugin_name(file); !name.empty() && kind_of(name) == kind)
      found.push_back({std::string(name), entry->path(), is_named_by_user});
  }
  std::ranges::sort(found.begin() + first, found.end(), {}, &PluginFile::name);
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

}  // namespace

std::string_view plugin_name(std::string_view file) {
  constexpr std::string_view kPrefix = "libhalfstep-", kSuffix = ".so";
  if (!file.starts_with(kPrefix) || !file.ends_with(kSuffix) || file.size() < kPrefix.size() + kSuffix.size())
    return {};
  return file.substr(kPrefix.size(), file.size() - kPrefix.size() - kSuffix.size());
}

std::string plugin_folders_that_are_none() {
  std::string result;
  std::error_code ignored;
  for (const std::string& folder : folders_of_user())
    if (!fs::is_directory(folder, ignored))
      result += (result.empty() ? "" : "; ") + ("there is no folder " + folder + ", which HALFSTEP_PLUGIN_PATH names");
  return result;
}

std::vector<PluginFile> find_plugins(PluginKind kind) {
  std::vector<PluginFile> found;
  for (const std::string& folder : folders_of_user()) add_plugins(kind, folder, true, found);
  if (const fs::path folder = library_folder(); !folder.empty()) add_plugins(kind, folder, false, found);
  return found;
}

void* open_plugin(const std::string& library, std::string& reason) {
  if (const std::string why = unloadable(library); !why.empty()) {
    reason = "the plug-in " + library + " cannot be loaded: " + why;
    return nullptr;
  }
  void* handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char* text = dlerror();
    reason = "the plug-in " + library + " cannot be loaded: " + (text ? text : "unknown reason");
  }
  return handle;
}

void* find_in_plugin(void* library, const char* function) { return dlsym(library, function); }

}  // namespace halfstep
