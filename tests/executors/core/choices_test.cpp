// The file of measured choices that executors and processes share.
#include "executors/core/choices.h"

#include <gtest/gtest.h>

#include "tests/temporary_directory.h"

namespace halfstep::core {
namespace {

TEST(Choices, OfAnotherProcessStayAndAreTaken) {
  const TemporaryDirectory folder;
  const std::filesystem::path file = folder / "made" / "choices.json";
  Choices first(file, "machine"), second(file, "machine"), other(file, "other");
  first.set("a", "one");
  second.set("a", "two");
  second.set("b", "two");
  other.set("a", "three");
  for (Choices* choices : {&first, &second, &other}) EXPECT_TRUE(choices->save());
  EXPECT_EQ(*second.find("a"), "one") << "two processes would run different kernels";
  const Choices later(file, "machine");
  EXPECT_EQ(*later.find("a"), "one");
  EXPECT_EQ(*later.find("b"), "two");
  EXPECT_EQ(later.find("c"), nullptr);
  EXPECT_EQ(*Choices(file, "other").find("a"), "three");
}

TEST(Choices, OneThatIsGoneIsReplaced) {
  const TemporaryDirectory folder;
  const std::filesystem::path file = folder / "choices.json";
  Choices first(file, "machine");
  first.set("a", "gone");
  EXPECT_TRUE(first.save());
  Choices second(file, "machine");
  second.set("a", "there");
  EXPECT_TRUE(second.save());
  EXPECT_EQ(*Choices(file, "machine").find("a"), "there");
}

TEST(Choices, HoldForOneObjectWhereNothingIsWritten) {
  for (const std::filesystem::path& file : {std::filesystem::path(), std::filesystem::path("/proc/nothing/file")}) {
    Choices choices(file, "machine");
    choices.set("a", "one");
    EXPECT_FALSE(choices.save());
    EXPECT_EQ(*choices.find("a"), "one");
    EXPECT_NE(choices.notice(), "");
  }
}

}  // namespace
}  // namespace halfstep::core
