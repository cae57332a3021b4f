// The only exception type that halfstep throws.
#pragma once

#include <stdexcept>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// An error in three parts: the requirement, what was found instead, and a remedy ("" if there is none). `what()`
/// combines them to "expected REQUIRED, got FOUND" and a second line "Hint: REMEDY".
///
/// Example: `throw Error(Error::Kind::input, "as many rows in x as in y", "10 in x.npy and 9 in y.npy",
///                       "check that the two files belong together");`
/// `what()` passes each part through `printable`, because quoted file names and names may contain any characters.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    input,    ///< invalid call, file or data: the caller can correct it (exit code 2)
    failure,  ///< the operation itself failed: disk full, training diverged, device lost (exit code 1)
  };

  Error(Kind kind, std::string required, std::string found, std::string remedy);

  Kind kind() const { return kind_; }
  const std::string& required() const { return required_; }
  const std::string& found() const { return found_; }
  const std::string& remedy() const { return remedy_; }
  /// The message in one line, without the hint, for use inside another message.
  std::string without_hint() const;

 private:
  Kind kind_;
  std::string required_, found_, remedy_;
};

/// Shorthands that throw an Error of the respective kind.
[[noreturn]] void throw_input_error(std::string required, std::string found, std::string remedy);
[[noreturn]] void throw_failure(std::string required, std::string found, std::string remedy);

}  // namespace halfstep
