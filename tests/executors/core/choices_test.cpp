// The file of measured choices that executors and processes share.
#include "executors/core/choices.h"

#include <gtest/gtest.h>

#include "executors/core/choices_file.h"
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

TEST(Choices, TellWhetherTheyMayBeKept) {
  const TemporaryDirectory folder;
  EXPECT_EQ(refusal_to_keep(folder / "made" / "choices.json"), "");
  for (const std::filesystem::path& file : {std::filesystem::path(), std::filesystem::path("/proc/nothing/file")})
    EXPECT_NE(refusal_to_keep(file), "");
}

TEST(Choices, TellWhyNoneOfTheFilesAreTaken) {
  const TemporaryDirectory folder;
  const std::filesystem::path file = folder / "choices.json";
  EXPECT_EQ(remark_on_choices(file, "device; 1"), "");
  Choices first(file, "device; 1");
  first.set("a", "one");
  EXPECT_TRUE(first.save());
  EXPECT_EQ(remark_on_choices(file, "device; 1"), "");
  EXPECT_EQ(remark_on_choices(file, "device; 2"),
            file.string() + " is of other versions, and what it holds is measured again");
  EXPECT_EQ(remark_on_choices(file, "other device; 1"), "");
  EXPECT_EQ(remark_on_choices(file, "device"), "");
  write_text(file, "{\"device; 1\": ");
  EXPECT_EQ(remark_on_choices(file, "device; 1"), file.string() + " is damaged, and made again");
  Choices second(file, "device; 1");
  second.set("a", "two");
  EXPECT_TRUE(second.save());
  EXPECT_EQ(remark_on_choices(file, "device; 1"), "");
  EXPECT_EQ(*Choices(file, "device; 1").find("a"), "two");
}

}  // namespace
}  // namespace halfstep::core
