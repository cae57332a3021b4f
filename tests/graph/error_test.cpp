// What an error says.
#include <string>

#include <gtest/gtest.h>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

TEST(Error, SaysAllOfItWhateverItQuotes) {
  const Error error(Error::Kind::input, "a number", std::string("'1\0\x1b[2J'\nµ", 11), "mend it");
  EXPECT_STREQ(error.what(), "expected a number, got '1\\x00\\x1b[2J'\\nµ\nHint: mend it");
}

TEST(Error, LeavesOutARemedyThatThereIsNot) {
  EXPECT_STREQ(Error(Error::Kind::failure, "room", "none", "").what(), "expected room, got none");
}

TEST(Error, GoesIntoOneLineForAnotherMessage) {
  EXPECT_EQ(Error(Error::Kind::input, "room", "none", "make some").without_hint(), "expected room, got none");
}

}  // namespace
}  // namespace halfstep
