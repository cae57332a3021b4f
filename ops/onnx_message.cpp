#include "ops/onnx_message.h"

namespace halfstep {

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
  return plain.append(message);
}

}  // namespace halfstep
