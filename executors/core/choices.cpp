#include "executors/core/choices.h"

#include <chrono>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "base/file_lock.h"
#include "executors/core/choices_file.h"
#include <halfstep/base/error.h>

namespace halfstep::core {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

/// For others that write the file, each for some milliseconds.
constexpr std::chrono::seconds kPatience{5};

}  // namespace

Choices::Choices(fs::path file, std::string machine) : file_(std::move(file)), machine_(std::move(machine)) {
  if (file_.empty()) notice_ = "there is no cache folder: set XDG_CACHE_HOME or HOME";
  const auto all = read();
  if (const auto own = all.find(machine_); own != all.end()) known_ = chosen_ = own->second;
}

std::map<std::string, Choices::Names> Choices::read() const { return read_choices(file_).names; }

const std::string* Choices::find(const std::string& key) const {
  const auto found = chosen_.find(key);
  return found == chosen_.end() ? nullptr : &found->second;
}

void Choices::set(const std::string& key, std::string name) {
  chosen_[key] = std::move(name);
  new_.insert(key);
}

bool Choices::save() {
  if (new_.empty()) return true;
  if (file_.empty()) return false;
  try {
    fs::create_directories(file_.parent_path());
    const FileLock lock(file_.parent_path(), fmt::format("one process at a time to write {}", file_.string()),
                        kPatience);
    std::map<std::string, Names> all = read();
    Names& written = all[machine_];
    for (const std::string& key : new_) {
      const auto before = known_.find(key), now = written.find(key);
      const bool is_anothers = now != written.end() && (before == known_.end() || before->second != now->second);
      if (is_anothers)
        chosen_[key] = now->second;
      else
        written[key] = chosen_.at(key);
    }
    write_atomically(file_, Json(all).dump(1, ' ', false, Json::error_handler_t::replace) + "\n", Durability::soon);
    known_ = written;
    new_.clear();
    notice_.clear();
    return true;
  } catch (const Error& e) {
    notice_ = e.without_hint();
  } catch (const fs::filesystem_error& e) {
    notice_ = fmt::format("{}: {}", file_.parent_path().string(), e.code().message());
  }
  return false;
}

}  // namespace halfstep::core
