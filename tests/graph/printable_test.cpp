#include "base/printable.h"

#include <cstdio>
#include <string>

#include <gtest/gtest.h>

#include "base/print.h"

namespace halfstep {
namespace {

struct Case {
  std::string text, shown;
};

TEST(Printable, ShowsWhatATerminalWouldObey) {
  const Case cases[] = {
      {"conv1.weight", "conv1.weight"},
      {"µ ≤ 模型 🙂", "µ ≤ 模型 🙂"},
      {"a\\b", "a\\b"},
      {"two\nlines\ttab\r", "two\\nlines\\ttab\\x0d"},
      {"\x1b[2J\x7f", "\\x1b[2J\\x7f"},
      {std::string("\0", 1), "\\x00"},
      {"\xc2\x9b"
       "31m",
       "\\u009b31m"},  // CSI in one character
      {"\xe2\x80\xae"
       "evil\xe2\x80\x8f",
       "\\u202eevil\\u200f"},                                                   // overrides and marks of direction
      {"\xe2\x81\xa6x\xe2\x81\xa9", "\\u2066x\\u2069"},                         // isolates
      {"\xe2\x80\xa8\xe2\x80\xa9", "\\u2028\\u2029"},                           // ends of lines and paragraphs
      {"\xff\xc3", "\\xff\\xc3"},                                               // no UTF-8,
      {"\xc0\xaf\xe0\x80\xaf", "\\xc0\\xaf\\xe0\\x80\\xaf"},                    // overlong,
      {"\xed\xa0\x80\xf4\x90\x80\x80", "\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80"},  // a surrogate, beyond Unicode
      {"\xe2\x80", "\\xe2\\x80"},                                               // cut short
  };
  for (const Case& c : cases) EXPECT_EQ(printable(c.text), c.shown);
}

TEST(Printable, MarkupIsEscapedToo) {
  EXPECT_EQ(escape_markup("<b a=\"x\">&\x1b\n</b>"), "&lt;b a=&quot;x&quot;&gt;&amp;\\x1b\\n&lt;/b&gt;");
}

std::string printed(const auto& print) {
  std::FILE* file = std::tmpfile();
  print(file);
  std::rewind(file);
  std::string text(1000, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file));
  std::fclose(file);
  return text;
}

TEST(Print, EscapesArgumentsAndNotTheFormat) {
  const std::string name = "a\n\x1b[2J";
  EXPECT_EQ(printed([&](std::FILE* file) {
              print_to(file, "{}\n{:>12}|{}|{:.1f} {}\n", name, std::string_view("x\ty"), name.c_str(), 1.25,
                       Raw{"\x1b[K"});
            }),
            "a\\n\\x1b[2J\n        x\\ty|a\\n\\x1b[2J|1.2 \x1b[K\n");
  EXPECT_EQ(printed([&](std::FILE* file) { print_to(file, "{}", joined({"a", "b\n"})); }), "a, b\\n");
}

TEST(Print, AStreamThatTakesNothingIsRememberedAndNoError) {
  std::FILE* full = std::fopen("/dev/full", "w");
  ASSERT_NE(full, nullptr);
  print_to(full, "{}", std::string(100000, 'x'));
  EXPECT_FALSE(all_written(full));
  EXPECT_EQ(why_unwritten(), "No space left on device");
  std::fclose(full);
  EXPECT_EQ(printed([](std::FILE* file) { EXPECT_TRUE(all_written(file)) << "another stream's failure"; }), "");
}

}  // namespace
}  // namespace halfstep
