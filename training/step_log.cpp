#include "training/step_log.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <fstream>
#include <iterator>
#include <system_error>
#include <utility>

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

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;
constexpr std::chrono::seconds kFlushInterval(1);

template <class T>
void append_number(std::string& out, T value) {
  if (std::isnan(value))
    out += "\"NaN\"";
  else if (std::isinf(value))
    out += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  else
    fmt::format_to(std::back_inserter(out), "{}", value);
}

template <class T>
void append_member(std::string& out, std::string_view name, T value) {
  out += json_text(nlohmann::json(name));
  out += ':';
  append_number(out, value);
}

[[noreturn]] void throw_unwritable(const std::filesystem::path& path, int code) {
  throw_failure("a log that can be written: " + path.string(), std::generic_category().message(code),
                "free some space, or check the path and its permissions");
}

/// The step of a line that `append_json` wrote; 0 for any other line.
std::int64_t step_of(std::string_view line) {
  constexpr std::string_view kStart = R"({"step":)";
  std::int64_t step = 0;
  if (line.starts_with(kStart)) std::from_chars(line.data() + kStart.size(), line.data() + line.size(), step);
  return step;
}

/// Leaves the whole lines of the first `steps` steps in a regular file, and lines that are not about a step.
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
      if (step_of(line) <= steps) take(line);
    }
    if (in.bad() || !in.eof()) throw_unwritable(path, EIO);
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
  if (::access(path.c_str(), W_OK) != 0) throw_unwritable(path, errno);
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
  append_number(out, std::round(r.ms * 1e4) / 1e4);
  out += '}';
}

void append_json(std::string& out, const EpochRecord& r) {
  fmt::format_to(std::back_inserter(out), R"({{"step":{},"epoch":{})", r.step, r.epoch);
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
  out += '}';
}

StepLog::StepLog(const fs::path& path, std::int64_t steps)
    : path_(path), last_flush_(std::chrono::steady_clock::now()) {
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
  // O_NONBLOCK: a pipe that nobody reads must not be waited for; once it is open, writing may wait.
  descriptor_ =
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK | (steps > 0 ? O_APPEND : O_TRUNC), 0666);
  if (descriptor_ < 0) throw_unwritable(path, errno);
  ::fcntl(descriptor_, F_SETFL, ::fcntl(descriptor_, F_GETFL) & ~O_NONBLOCK);
  buffer_.reserve(kBufferBytes);
}

StepLog::~StepLog() {
  try {
    close();
  } catch (const std::exception&) {  // an Error, or no memory to make one
  }
}

void StepLog::write(const StepRecord& record) { append(record); }
void StepLog::write_epoch(const EpochRecord& record) { append(record); }

template <class Record>
void StepLog::append(const Record& record) {
  if (buffer_.size() < kMostKept) {
    append_json(buffer_, record);
    buffer_ += '\n';
  } else {
    ++dropped_;
  }
  const bool late = std::chrono::steady_clock::now() - last_flush_ >= kFlushInterval;
  if (late || (buffer_.size() >= kBufferBytes * 3 / 4 && buffer_.size() < kBufferBytes)) flush();
}

void StepLog::flush() {
  last_flush_ = std::chrono::steady_clock::now();
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int code = errno;
      buffer_.erase(0, done);
      throw_unwritable(path_, code);
    }
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
}

void StepLog::close() {
  if (descriptor_ < 0) return;
  try {
    flush();
  } catch (...) {
    ::close(std::exchange(descriptor_, -1));
    throw;
  }
  lock_ = FileLock();
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_unwritable(path_, errno);
  if (dropped_ > 0)
    throw_failure("a log of every step: " + path_.string(),
                  fmt::format("{} steps without a record: the file could not be written for too long", dropped_), "");
}

}  // namespace halfstep
