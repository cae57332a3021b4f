#include <gmock/gmock.h>

#include "tests/data/temporary_folder.h"
#include <halfstep/formats/csv.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(Csv, ReadsTables) {
  const struct {
    const char* what;
    std::string text;
    CsvOptions options;
  } cases[] = {
      {"plain", "1,2.5,0\n3,-4,1\n", {}},
      {"header", "a,b,label\n1,2.5,0\n3,-4,1\n", {}},
      {"label in the middle", "a,label,b\n1,0,2.5\n3,1,-4\n", {.label = "label"}},
      {"quotes, spaces, CRLF, no last newline", "\"a, \"\"x\"\"\",b,c\r\n\r\n \"1\" , +2.5,\t0 \r\n3,-4e0,1", {}},
      {"byte order mark",
       "\xef\xbb\xbf"
       "1,2.5,0\n3,-4,1\n\n\n",
       {}},
      {"header of numbers", "9,9,9\n1,2.5,0\n3,-4,1\n", {.header = true}},
      {"semicolons", "1;2.5;0\n3;-4;1\n", {.delimiter = ';'}},
      {"semicolons, detected", "a;b;label\n1;2.5;0\n3;-4;1\n", {}},
      {"tabs, detected", "1\t2.5\t0\n3\t-4\t1\n", {}},
      {"commas with semicolons in the header", "\"a;b\",b;c,label\n1,2.5,0\n3,-4,1\n", {}},
      {"label by number", "0,1,2.5\n1,3,-4\n", {.label = "1"}},
      {"labels as floats", "1,2.5,0.0\n3,-4,1.0\n", {}},
      {"truths", "1,2.5,False\n3,-4,True\n", {}},
      {"truths under a header", "a,b,c\n1,2.5,false\n3,-4,TRUE\n", {}},
      {"names", "1,2.5,cat\n3,-4,dog\n", {}},
      {"names under a header of numbers", "7,8,kind\n1,2.5,cat\n3,-4,dog\n", {.header = true}},
      {"names under a header", "a,b,c\n1,2.5,cat\n3,-4,dog\n", {}},
      {"names in a given order", "1,2.5,dog\n3,-4,cat\n", {.classes = {"dog", "cat", "cow"}}},
      {"compressed", testing::gzipped("1,2.5,0\n3,-4,1\n"), {}},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const CsvTable table = open_csv(folder.write("a.csv", c.text), c.options);
    EXPECT_EQ(table.x.shape(), (Shape{2, 2})) << c.what;
    EXPECT_EQ(table.x.dtype(), DType::f32);
    EXPECT_THAT(to_doubles(table.x.load()), ElementsAre(1, 2.5, 3, -4)) << c.what;
    EXPECT_EQ(table.y.dtype(), DType::i64) << c.what;
    EXPECT_THAT(to_int64s(table.y.load()), ElementsAre(0, 1)) << c.what;
  }
}

TEST(Csv, LabelsThatAreNotAllIntegersAreFloats) {
  TemporaryFolder folder;
  const CsvTable table = open_csv(folder.write("a.csv", "1,2\n1,0.5\n1,3\n"));
  EXPECT_EQ(table.y.dtype(), DType::f32);
  EXPECT_THAT(to_doubles(table.y.load()), ElementsAre(2, 0.5, 3));
}

TEST(Csv, NumbersTooCloseToZeroAreTheNearestThereAre) {
  TemporaryFolder folder;
  const CsvTable table = open_csv(folder.write("a.csv", "1e-50,-1e-400,1e-42,1e-400\n+1e-60,2,3,0.5\n"));
  ASSERT_EQ(table.x.shape(), (Shape{2, 3})) << "a line of numbers is no header";
  EXPECT_THAT(to_doubles(table.x.load()), ElementsAre(0, -0.0, 1e-42F, 0, 2, 3));
  EXPECT_THAT(to_doubles(table.y.load()), ElementsAre(0, 0.5));
}

TEST(Csv, NamesAreNumberedInSortedOrderOrAsGiven) {
  TemporaryFolder folder;
  const auto path = folder.write("a.csv", "x,kind\n1,cow\n2,ant\n3,cow\n4,\"bee, wild\"\n");
  const CsvTable table = open_csv(path);
  EXPECT_THAT(table.classes, ElementsAre("ant", "bee, wild", "cow"));
  EXPECT_THAT(to_int64s(table.y.load()), ElementsAre(2, 0, 2, 1));
  EXPECT_THAT(table.notices, ElementsAre(HasSubstr("the labels are column 2 (kind), the last: --label-column names "),
                                         HasSubstr("ant = 0, bee, wild = 1, cow = 2")));
  EXPECT_EQ(table.label_column, "column 2 (kind) of " + path.string());
  const CsvTable given = open_csv(path, {.label = "kind", .classes = {"cow", "dog", "ant", "bee, wild"}});
  EXPECT_THAT(to_int64s(given.y.load()), ElementsAre(0, 2, 0, 3));
  EXPECT_THAT(given.notices, ElementsAre());
  EXPECT_THAT(open_csv(folder.write("b.csv", "1;0\n2;1\n"), {.label = "2"}).notices,
              ElementsAre(HasSubstr("semicolons")));
}

TEST(Csv, ErrorsNameLineAndColumn) {
  const struct {
    std::string text;
    CsvOptions options;
    const char* error;
  } cases[] = {
      {"", {}, "is empty"},
      {"\n \n", {}, "is empty"},
      {"1\n2\n", {}, "has one"},
      {"a,b,c\n1,2,3\n\n4,x,6\n", {}, "'x' at FILE:4, column 2 (b)"},
      {"1,2,3\n4,5,\n", {}, "nothing at FILE:2, column 3"},
      {"1,2,3\nnan,5,6\n", {}, "'nan' at FILE:2, column 1"},
      {"1,2,3\n4,inf,6\n", {}, "'inf' at FILE:2, column 2"},
      {"1,2,3\n4,1e39,6\n", {}, "'1e39' at FILE:2, column 2"},
      {"1,2,3\n4,1e400,6\n", {}, "'1e400' at FILE:2, column 2"},
      {"1,2,3\n4,-1e400,6\n", {}, "'-1e400' at FILE:2, column 2"},
      {"1,2,3\n4,5,1e400\n", {}, "'1e400' at FILE:2, column 3"},
      {"1,2,3\n4,5 5,6\n", {}, "'5 5' at FILE:2, column 2"},
      {"1,2,3\n4,0x5,6\n", {}, "'0x5' at FILE:2, column 2"},
      {"a,b,c\n1,2,3\n1,2,setosa\n", {}, "'setosa' at FILE:3, column 3 (c)"},
      {"1,2,3\n4,5\n", {}, "2 at FILE:2"},
      {"1,2,3\n4,5,6,7\n", {}, "4 at FILE:2"},
      {"1,2,3\n4,\"5,6\n", {}, "none for field 2 at FILE:2"},
      {"1,2,3\n4,\"5\"5,6\n", {}, "other text at FILE:2"},
      {"1,cat\n2,3\n4,\n", {}, "nothing at FILE:3, column 2"},
      {"1,2,3\n4,5,cat\n", {}, "'cat' at FILE:2, column 3"},
      {"1,True\n2,maybe\n", {}, "'maybe' at FILE:2, column 2"},
      {"a,b\n1,dog\n2,cow\n", {.classes = {"cat", "dog"}}, "one of the classes cat, dog, got 'cow' at FILE:3"},
      {"a,b\n1,dog\n2,cow\n", {.classes = {"dog", "cow", "dog"}}, "each name once in --classes, got 'dog' twice"},
      {"1,5;2,5;0\n3,5;2,5;1\n", {}, "decimal point"},
      {"sort,a,b\nred,1,2\nblue,3,4\n", {}, "--label-column"},
      {std::string("\xff\xfe"
                   "1\0,\0"
                   "2\0\n\0",
                   10),
       {},
       "is UTF-16"},
      {std::string("\0"
                   "1\0,\0"
                   "2\0\n",
                   8),
       {},
       "iconv -f UTF-16 -t UTF-8"},
      {"a,b\n1,2\n", {.label = "3"}, "no such column"},
      {"a,b\n1,2\n", {.label = "y"}, "no such column"},
      {"1,2\n1,2\n", {.label = "y"}, "no header"},
      {"a,b\n1,2\n", {.header = false}, "'a' at FILE:1, column 1"},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    const auto path = folder.write("bad.csv", c.text);
    std::string expected = c.error;
    if (const auto at = expected.find("FILE"); at != std::string::npos) expected.replace(at, 4, path.string());
    EXPECT_THAT(testing::error_of([&] { open_csv(path, c.options); }), HasSubstr(expected)) << c.text;
  }
}

}  // namespace
}  // namespace halfstep
