// What an error says.
#include "graph/error.h"

#include <string>

#include <gtest/gtest.h>

namespace halfstep {
namespace {

TEST(Error, SaysAllOfItWhateverItQuotes) {
  const Error error(Error::Kind::input, "a number", std::string("'1\0\x1b[2J'\nµ", 11), "mend it");
  EXPECT_STREQ(error.what(), "a number; found: '1\\x00\\x1b[2J'\nµ. To mend it: mend it");
}

TEST(Error, LeavesOutARemedyThatThereIsNot) {
  EXPECT_STREQ(Error(Error::Kind::failure, "room", "none", "").what(), "room; found: none");
}

}  // namespace
}  // namespace halfstep
