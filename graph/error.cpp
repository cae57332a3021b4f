#include "graph/error.h"

#include <utility>

namespace halfstep {
namespace {

// Texts quote files and names, which may hold anything: a zero would end the message, an escape drive the terminal.
std::string printable(const std::string& text) {
  constexpr const char* kDigits = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if ((code >= 0x20 && code != 0x7f) || c == '\n' || c == '\t')
      result += c;
    else
      result += {'\\', 'x', kDigits[code / 16], kDigits[code % 16]};
  }
  return result;
}

std::string sentence(const std::string& required, const std::string& found, const std::string& remedy) {
  std::string text = "expected " + required + ", got " + found;
  if (!remedy.empty()) text += "\nHint: " + remedy;
  return printable(text);
}

}  // namespace

Error::Error(Kind kind, std::string required, std::string found, std::string remedy)
    : std::runtime_error(sentence(required, found, remedy)),
      kind_(kind),
      required_(std::move(required)),
      found_(std::move(found)),
      remedy_(std::move(remedy)) {}

std::string Error::without_hint() const { return sentence(required_, found_, ""); }

void throw_input_error(std::string required, std::string found, std::string remedy) {
  throw Error(Error::Kind::input, std::move(required), std::move(found), std::move(remedy));
}

void throw_failure(std::string required, std::string found, std::string remedy) {
  throw Error(Error::Kind::failure, std::move(required), std::move(found), std::move(remedy));
}

}  // namespace halfstep
