#include "training/step_log.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/printable.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "a log";
constexpr std::string_view kPartial = R"(,"partial":true)";

template <class T>
void append_number(std::string& out, T value) {
  if (std::isnan(value))
    out += "\"NaN\"";
  else if (std::isinf(value))
    out += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  else
    fmt::format_to(std::back_inserter(out), "{}", value);
}

void append_ms(std::string& out, double ms) { append_number(out, std::round(ms * 1e4) / 1e4); }

template <class T>
void append_member(std::string& out, std::string_view name, T value) {
  out += json_text(nlohmann::json(name));
  out += ':';
  append_number(out, value);
}

/// The step of a line that `append_json` wrote; 0 for any other line.
std::int64_t step_of(std::string_view line) {
  constexpr std::string_view kStart = R"({"step":)";
  std::int64_t step = 0;
  if (line.starts_with(kStart)) std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
  return step;
}

/// Whether `append_json` wrote the line for a part of an epoch.
bool is_partial(std::string_view line) { return step_of(line) > 0 && line.find(kPartial) != line.npos; }

/// Leaves the whole lines of the first `steps` steps in a regular file, but for those of a part of an epoch, and lines
/// that are not about a step.
void keep_steps(const fs::path& path, std::int64_t steps) {
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return;
  const fs::path file = fs::canonical(path);  // what is replaced is the file, not a link to it
  std::ifstream in(file, std::ios::binary);
  std::uint64_t kept = 0;
  const auto for_kept_lines = [&](auto&& take) {
    for (std::string line; std::getline(in, line);) {
      if (in.eof()) break;  // without its end
      line += '\n';
      if (step_of(line) <= steps && !is_partial(line)) take(line);
    }
    if (in.bad() || !in.eof()) throw_unwritable(kWhat, path, EIO);
  };
  for_kept_lines([&](const std::string& line) { kept += line.size(); });
  if (kept == fs::file_size(file)) return;
  in.clear();
  in.seekg(0);
  write_atomically(file, [&](FileWriter& out) { for_kept_lines([&](const std::string& line) { out.write(line); }); });
}

}  // namespace

void check_log_path(const fs::path& path) {
  std::error_code none;
  const fs::file_status status = fs::status(path, none);
  if (!fs::exists(status) || fs::is_regular_file(status) || fs::is_directory(status)) return check_writable(path);
  if (::access(path.c_str(), W_OK) != 0) throw_unwritable(kWhat, path, errno);
}

void append_json(std::string& out, const StepRecord& r) {
  fmt::format_to(std::back_inserter(out), R"({{"step":{},"epoch":{},"update":{},"loss":)", r.step, r.epoch, r.update);
  append_number(out, r.loss);
  out += R"(,"lr":)";
  append_number(out, r.lr);
  out += R"(,"loss_scale":)";
  append_number(out, r.loss_scale);
  out += r.grads_finite ? R"(,"grads_finite":true,"grad_norm":)" : R"(,"grads_finite":false,"grad_norm":)";
  append_number(out, r.grad_norm);
  if (!r.grad_norms.empty()) {
    out += R"(,"grad_norms":{)";
    for (const GradNorm& g : r.grad_norms) {
      if (&g != r.grad_norms.data()) out += ',';
      append_member(out, g.parameter, g.norm);
    }
    out += '}';
  }
  out += R"(,"ms":)";
  append_ms(out, r.ms);
  out += '}';
}

void append_json(std::string& out, const EpochRecord& r) {
  fmt::format_to(std::back_inserter(out), R"({{"step":{},"epoch":{})", r.step, r.epoch);
  if (r.partial) out += kPartial;
  const auto append_values = [&](std::string_view name, std::span<const NamedValue> values) {
    fmt::format_to(std::back_inserter(out), R"(,"{}":{{)", name);
    for (const NamedValue& v : values) {
      if (&v != values.data()) out += ',';
      append_member(out, v.name, v.value);
    }
    out += '}';
  };
  append_values("train", r.train);
  if (!r.validation.empty()) append_values("validation", r.validation);
  const auto append_times = [&](std::string_view name, double RankTimes::*time) {
    fmt::format_to(std::back_inserter(out), R"("{}":[)", name);
    for (const RankTimes& rank : r.ranks) {
      if (&rank != r.ranks.data()) out += ',';
      append_ms(out, rank.*time);
    }
    out += ']';
  };
  if (!r.ranks.empty()) {
    out += R"(,"ranks":{)";
    append_times("ms", &RankTimes::step);
    out += ',';
    append_times("waited_ms", &RankTimes::waited);
    out += '}';
  }
  out += '}';
}

StepLog::StepLog(const fs::path& path, std::int64_t steps) {
  const std::string required = "one run at a time for the log " + path.string();
  // What is locked has to be there.
  if (const int created = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); created >= 0)
    ::close(created);
  lock_ = FileLock(path, required);
  if (steps > 0) {
    keep_steps(path, steps);
    lock_ = FileLock();
    lock_ = FileLock(path, required);  // another file may be in its place
  }
  file_.emplace(kWhat, path, steps > 0 ? O_APPEND : O_TRUNC);
}

StepLog::~StepLog() = default;

void StepLog::write(const StepRecord& record) { append(record); }
void StepLog::write_epoch(const EpochRecord& record) { append(record); }
void StepLog::flush() { file_->flush(); }

void StepLog::close() {
  file_->close();
  lock_ = FileLock();
}

template <class Record>
void StepLog::append(const Record& record) {
  line_.clear();
  append_json(line_, record);
  line_ += '\n';
  file_->append(line_);
}

}  // namespace halfstep
