#include "ops/onnx_message.h"

namespace halfstep {
namespace {

void replace_all(std::string& text, std::string_view old, std::string_view by) {
  for (std::size_t at = text.find(old); at != std::string::npos; at = text.find(old, at + by.size()))
    text.replace(at, old.size(), by);
}

std::string in_one_line(std::string text) {
  replace_all(text, "\n\n==> Context: ", "; ");
  const std::size_t end = text.find_last_not_of('\n');
  text.erase(end == std::string::npos ? 0 : end + 1);
  for (const std::string_view line_end : {" \n", "\n ", "\n\n", "\n"}) replace_all(text, line_end, " ");
  return text;
}

}  // namespace

std::string plain_onnx_message(std::string_view message) {
  constexpr std::string_view kEnd = "Error] ";
  std::string plain;
  while (!message.empty()) {
    const std::size_t end = message.find(kEnd);
    const std::size_t begin = end == std::string_view::npos ? end : message.rfind('[', end);
    if (begin == std::string_view::npos) break;
    plain += message.substr(0, begin);
    message.remove_prefix(end + kEnd.size());
  }
  return in_one_line(plain.append(message));
}

}  // namespace halfstep
