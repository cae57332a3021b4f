#include "graph/error.h"

#include <utility>

namespace halfstep {
namespace {

std::string sentence(const std::string& required, const std::string& found, const std::string& remedy) {
  std::string text = required + "; found: " + found;
  if (!remedy.empty()) text += ". To mend it: " + remedy;
  return text;
}

}  // namespace

Error::Error(Kind kind, std::string required, std::string found, std::string remedy)
    : std::runtime_error(sentence(required, found, remedy)),
      kind_(kind),
      required_(std::move(required)),
      found_(std::move(found)),
      remedy_(std::move(remedy)) {}

void throw_input_error(std::string required, std::string found, std::string remedy) {
  throw Error(Error::Kind::input, std::move(required), std::move(found), std::move(remedy));
}

void throw_failure(std::string required, std::string found, std::string remedy) {
  throw Error(Error::Kind::failure, std::move(required), std::move(found), std::move(remedy));
}

}  // namespace halfstep
