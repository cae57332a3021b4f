#include "base/printable.h"

#include <cstdint>
#include <utility>

#include <fmt/format.h>

namespace halfstep {
namespace {

/// The first character of `text` and its size in bytes; {0, 0} if it is not valid UTF-8 (overlong forms and surrogates
/// are invalid).
std::pair<std::uint32_t, std::size_t> decode(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text[i])); };
  const std::uint32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < size) return {0, 0};
  std::uint32_t code = first & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {0, 0};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  return code < kSmallest[size] || code > 0x10ffff || surrogate ? std::pair<std::uint32_t, std::size_t>{0, 0}
                                                                : std::pair{code, size};
}

constexpr std::pair<std::uint32_t, std::uint32_t> kHidden[] = {
    {0x00, 0x1f},      {0x7f, 0x9f},      // control characters
    {0x061c, 0x061c},  {0x200e, 0x200f},  // direction marks
    {0x202a, 0x202e},  {0x2066, 0x2069},  // embeddings, overrides and isolates
    {0x2028, 0x2029},                     // line and paragraph separators
    {0xfeff, 0xfeff},  {0xfff9, 0xfffb},  // zero width, annotations
    {0xe0000, 0xe007f}                    // tags
};

bool is_hidden(std::uint32_t code) {
  for (const auto& [first, last] : kHidden)
    if (code >= first && code <= last) return true;
  return false;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const auto [code, size] = decode(text);
    if (size == 0 || (size == 1 && is_hidden(code) && text[0] != '\n' && text[0] != '\t'))
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    else if (code == '\n')
      result += "\\n";
    else if (code == '\t')
      result += "\\t";
    else if (is_hidden(code))
      result += fmt::format("\\u{:04x}", code);
    else
      result += text.substr(0, size);
    text.remove_prefix(size == 0 ? 1 : size);
  }
  return result;
}

std::string escape_markup(std::string_view text) {
  std::string result;
  for (const char c : printable(text)) {
    switch (c) {
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '&':
        result += "&amp;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace halfstep
