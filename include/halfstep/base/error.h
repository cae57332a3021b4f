// The one exception halfstep throws.
#pragma once

#include <stdexcept>
#include <string>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

/// What went wrong, told in three parts: what was required, what was found, what to do about it ("" where nothing can
/// be said). `what()` makes of them "expected REQUIRED, got FOUND" and a second line "Hint: REMEDY".
///
/// Example: `throw Error(Error::Kind::input, "as many rows in x as in y", "10 in x.npy and 9 in y.npy",
///                       "check that the two files belong together");`
/// Each part is `printable`: it quotes files and names, which may hold anything.
class Error : public std::runtime_error {
 public:
  enum class Kind {
    input,    ///< the call, a file or the data was wrong: the caller can mend it (exit code 2)
    failure,  ///< the work itself failed: a full disk, a diverged training, a device that is gone (exit code 1)
  };

  Error(Kind kind, std::string required, std::string found, std::string remedy);

  Kind kind() const { return kind_; }
  const std::string& required() const { return required_; }
  const std::string& found() const { return found_; }
  const std::string& remedy() const { return remedy_; }
  /// `what()` in one line, to be part of another message.
  std::string without_hint() const;

 private:
  Kind kind_;
  std::string required_, found_, remedy_;
};

/// Shorthands for the two kinds, so that a throw reads as a sentence.
[[noreturn]] void throw_input_error(std::string required, std::string found, std::string remedy);
[[noreturn]] void throw_failure(std::string required, std::string found, std::string remedy);

}  // namespace halfstep
