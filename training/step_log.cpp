#include "training/step_log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <iterator>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/error.h"

namespace halfstep {
namespace {

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

[[noreturn]] void throw_unwritable(const std::filesystem::path& path, int code) {
  throw_failure("a log that can be written: " + path.string(), std::generic_category().message(code),
                "free some space, or check the path and its permissions");
}

/// The file's length up to and with its last line end.
off_t end_of_last_line(int descriptor, off_t size) {
  std::array<char, 4096> block;
  while (size > 0) {
    const off_t start = std::max<off_t>(size - static_cast<off_t>(block.size()), 0);
    const ssize_t got = ::pread(descriptor, block.data(), static_cast<std::size_t>(size - start), start);
    if (got != size - start) return size;
    const std::string_view text(block.data(), static_cast<std::size_t>(got));
    if (const std::size_t line_end = text.rfind('\n'); line_end != text.npos)
      return start + static_cast<off_t>(line_end) + 1;
    size = start;
  }
  return 0;
}

}  // namespace

void append_json(std::string& out, const StepRecord& r) {
  fmt::format_to(std::back_inserter(out), R"({{"step":{},"epoch":{},"loss":)", r.step, r.epoch);
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
      out += nlohmann::json(g.parameter).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      out += ':';
      append_number(out, g.norm);
    }
    out += '}';
  }
  out += R"(,"ms":)";
  append_number(out, std::round(r.ms * 1e4) / 1e4);
  out += '}';
}

StepLog::StepLog(const std::filesystem::path& path, Mode mode)
    : path_(path),
      descriptor_(
          ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (mode == Mode::truncate ? O_TRUNC : O_APPEND), 0666)),
      last_flush_(std::chrono::steady_clock::now()) {
  // A pipe may be open for writing only.
  if (descriptor_ < 0 && errno != EISDIR) descriptor_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (descriptor_ < 0) throw_unwritable(path, errno);
  struct stat status;
  if (mode == Mode::append && ::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode))
    if (::ftruncate(descriptor_, end_of_last_line(descriptor_, status.st_size)) != 0) {
      const int code = errno;
      ::close(descriptor_);
      throw_unwritable(path, code);
    }
  buffer_.reserve(kBufferBytes);
}

StepLog::~StepLog() {
  try {
    close();
  } catch (const Error&) {
  }
}

void StepLog::write(const StepRecord& record) {
  append_json(buffer_, record);
  buffer_ += '\n';
  if (buffer_.size() >= kBufferBytes * 3 / 4 || std::chrono::steady_clock::now() - last_flush_ >= kFlushInterval)
    flush();
}

void StepLog::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(descriptor_, buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int code = errno;
      buffer_.clear();
      throw_unwritable(path_, code);
    }
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
  last_flush_ = std::chrono::steady_clock::now();
}

void StepLog::close() {
  if (descriptor_ < 0) return;
  try {
    flush();
  } catch (const Error&) {
    ::close(std::exchange(descriptor_, -1));
    throw;
  }
  if (::close(std::exchange(descriptor_, -1)) != 0) throw_unwritable(path_, errno);
}

}  // namespace halfstep
