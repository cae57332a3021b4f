// What goes wrong, as text.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include <halfstep/base/error.h>

namespace halfstep {

/// What the Error says that `f` throws; fails the test when it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return "";
}

/// The same; fails the test, too, when it is of another kind.
template <class F>
std::string error_of(Error::Kind kind, F&& f) {
  return error_of([&] {
    try {
      f();
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), kind) << error.what();
      throw;
    }
  });
}

}  // namespace halfstep
