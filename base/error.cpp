#include <utility>

#include "base/printable.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

std::string sentence(const std::string& required, const std::string& found, const std::string& remedy) {
  const std::string text = printable("expected " + required + ", got " + found);
  return remedy.empty() ? text : text + "\nHint: " + printable(remedy);
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
