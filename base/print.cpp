#include "base/print.h"

#include <atomic>
#include <cerrno>
#include <system_error>

#include <fmt/ranges.h>

namespace halfstep {
namespace {

std::atomic<int> first_failure = 0;

void note_failure() noexcept {
  int none = 0;
  first_failure.compare_exchange_strong(none, errno == 0 ? EIO : errno);
}

}  // namespace

void write_text(std::FILE* stream, std::string_view text) noexcept {
  if (!text.empty() && std::fwrite(text.data(), 1, text.size(), stream) != text.size()) note_failure();
}

bool all_written(std::FILE* stream) noexcept {
  const bool flushed = std::fflush(stream) == 0;
  if (!flushed) note_failure();
  return flushed && std::ferror(stream) == 0;
}

std::string why_unwritten() { return std::generic_category().message(first_failure); }

std::string joined(const std::vector<std::string>& texts, std::string_view separator) {
  return fmt::format("{}", fmt::join(texts, separator));
}

}  // namespace halfstep
