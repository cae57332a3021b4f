// Folders of pictures as data sets.
#include "formats/image_folder.h"

#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "data/batch_loader.h"
#include "tests/data/pictures.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/data/dataset.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::pixels;
using testing::png_of;
using testing::TemporaryFolder;

constexpr ImageOptions kSmall{.height = 4, .width = 4, .crop = 1};

/// A picture whose left half has the value and whose right half one more.
std::string picture(int value, int height = 4, int width = 4) {
  return png_of(height, width, SPNG_COLOR_TYPE_TRUECOLOR,
                pixels(height, width, 3, [&](int, int x, int) { return value + (2 * x >= width); }));
}

void write(const TemporaryFolder& folder, const std::string& name, const std::string& bytes) {
  fs::create_directories((folder / name).parent_path());
  folder.write(name, bytes);
}

Dataset open(const fs::path& folder, const ImageOptions& images = kSmall, Split split = Split::train,
             std::vector<std::string> classes = {}) {
  return open_dataset(parse_data_spec(folder.string()),
                      {.split = split, .table = {.classes = std::move(classes)}, .images = images});
}

/// The first byte of every row.
std::vector<int> first_bytes(const Dataset& data, const RowDraw& draw = {}) {
  const DataArray& rows = data.x.at(0).rows;
  std::vector<int> result;
  for (std::int64_t row = 0; row < rows.rows(); ++row) {
    std::vector<std::uint8_t> pixels(rows.row_bytes());
    rows.read_rows(std::vector<std::int64_t>{row}, pixels.data(), draw);
    result.push_back(pixels[0]);
  }
  return result;
}

std::vector<std::int64_t> labels(const Dataset& data) { return to_int64s(data.y->load()); }

TEST(ImageFolder, ClassesAreItsFoldersInOrder) {
  TemporaryFolder folder;
  write(folder, "dog/b.png", picture(20));
  write(folder, "dog/a.PNG", picture(10));
  write(folder, "cat/deep/er/c.jpeg", picture(30));  // told by what it holds
  write(folder, "cat/.hidden.png", "no picture");
  write(folder, "cat/notes.txt", "no picture");
  write(folder, ".cache/x.png", "no picture");
  write(folder, "empty/.keep", "");
  write(folder, "readme.md", "");
  const Dataset data = open(folder.path());
  EXPECT_THAT(data.classes, ElementsAre("cat", "dog", "empty"));
  EXPECT_THAT(first_bytes(data), ElementsAre(30, 10, 20));
  EXPECT_THAT(labels(data), ElementsAre(0, 1, 1));
  EXPECT_EQ(data.x[0].rows.row_type(), (RowType{DType::u8, {4, 4, 3}}));
  EXPECT_THAT(data.notices, AllOf(Contains(HasSubstr("1 file is left out")), Contains(HasSubstr("empty has no image")),
                                  Contains(HasSubstr("--classes cat,dog,empty keeps that"))));
  EXPECT_EQ(files_of(parse_data_spec(folder.path().string())).size(), 3U);

  EXPECT_THAT(labels(open(folder.path(), kSmall, Split::train, {"dog", "bird", "empty", "cat"})), ElementsAre(3, 0, 0));
  EXPECT_THAT(error_of([&] {
                open(folder.path(), kSmall, Split::train, {"dog", "cat"});
              }),
              AllOf(HasSubstr("expected folders of the classes dog, cat"), HasSubstr("empty")));
}

TEST(ImageFolder, MayHoldTwoParts) {
  TemporaryFolder folder;
  for (const char* part : {"train", "val", "test"}) write(folder, part + std::string("/a/1.png"), picture(part[0]));
  write(folder, "train/b/2.png", picture(7));
  EXPECT_THAT(first_bytes(open(folder.path())), ElementsAre('t', 7));
  const Dataset held_out = open(folder.path(), kSmall, Split::test);
  EXPECT_THAT(first_bytes(held_out), ElementsAre('v'));
  EXPECT_THAT(held_out.notices, Contains(HasSubstr("the part val is taken")));
  fs::remove_all(folder / "val");
  fs::remove_all(folder / "test");
  EXPECT_THAT(error_of([&] { open(folder.path(), kSmall, Split::test); }), HasSubstr("beside train, got none in"));
  write(folder, "cat/1.png", picture(1));  // train is a class then
  EXPECT_THAT(open(folder.path()).classes, ElementsAre("cat", "train"));
}

TEST(ImageFolder, PicturesAreResizedAndCutOutOfTheMiddle) {
  TemporaryFolder folder;
  write(folder, "a/same.png", picture(10));
  write(folder, "a/wide.png", picture(50, 4, 40));
  write(folder, "a/large.png", picture(90, 64, 64));
  write(folder, "a/tiny.png", picture(200, 1, 1));
  const Dataset data = open(folder.path(), {.height = 4, .width = 4, .channels = 1, .crop = 0.5});
  const DataArray& rows = data.x[0].rows;
  Tensor all = rows.load();
  ASSERT_EQ(all.shape(), (Shape{4, 4, 4, 1}));
  const auto row = [&](std::int64_t r) {
    const auto* first = all.data<std::uint8_t>() + 16 * r;
    return std::vector<int>(first, first + 4);
  };
  EXPECT_THAT(row(0), ElementsAre(90, 90, 91, 91));
  EXPECT_THAT(row(1), ElementsAre(10, 10, 11, 11));
  EXPECT_THAT(row(2), ElementsAre(200, 200, 200, 200));
  EXPECT_THAT(row(3), ElementsAre(50, 50, 51, 51));
}

TEST(ImageFolder, WhatIsDrawnFollowsFromSeedEpochAndRow) {
  TemporaryFolder folder;
  for (int i = 0; i < 24; ++i)
    write(folder, "a/" + std::to_string(100 + i) + ".png",
          png_of(8, 8, SPNG_COLOR_TYPE_TRUECOLOR, pixels(8, 8, 3, [](int y, int x, int) { return 8 * y + x; })));
  const ImageOptions random{.height = 4, .width = 4, .crop = 0.5, .random_crop = true, .random_flip = true};
  const Dataset data = open(folder.path(), random);
  EXPECT_THAT(data.notices, Contains(HasSubstr("(crop,flip): --augment none")));
  const std::vector<int> drawn = first_bytes(data, {7, 3});
  EXPECT_EQ(first_bytes(open(folder.path(), random), {7, 3}), drawn);
  EXPECT_NE(first_bytes(data, {7, 4}), drawn);
  EXPECT_NE(first_bytes(data, {8, 3}), drawn);
  EXPECT_GT(std::set<int>(drawn.begin(), drawn.end()).size(), 8U);
  EXPECT_THAT(first_bytes(open(folder.path(), {.height = 4, .width = 4, .crop = 0.5}), {7, 3}),
              ::testing::Each(8 * 2 + 2));

  // Several threads make what one makes, whatever the order.
  std::vector<fs::path> paths = files_of(parse_data_spec(folder.path().string()));
  std::vector<std::int64_t> order(paths.size());
  std::iota(order.rbegin(), order.rend(), 0);
  std::vector<std::uint8_t> one(order.size() * 48), three(one);
  image_rows("x", paths, random, 1).read_rows(order, one.data(), {7, 3});
  image_rows("x", paths, random, 3).read_rows(order, three.data(), {7, 3});
  EXPECT_EQ(one, three);
}

std::vector<std::byte> bytes_of(const Batch& batch) {
  const auto* first = static_cast<const std::byte*>(batch.x[0].raw());
  return {first, first + batch.x[0].bytes()};
}

TEST(ImageFolder, AResumedLoaderDrawsTheSame) {
  TemporaryFolder folder;
  for (int i = 0; i < 10; ++i)
    write(folder, "a/" + std::to_string(i) + ".png",
          png_of(8, 8, SPNG_COLOR_TYPE_TRUECOLOR, pixels(8, 8, 3, [i](int y, int x, int) { return 20 * i + y + x; })));
  const Dataset data =
      open(folder.path(), {.height = 4, .width = 4, .crop = 0.5, .random_crop = true, .random_flip = true});
  const auto columns = [&] {
    return BatchColumns{.x = {{data.x[0].rows, fit_input(data.x[0].rows, {DType::f32, {3, 4, 4}}, {})}},
                        .labels = {{*data.y, fit_target(*data.y, {DType::i64, {}}, {})}}};
  };
  LoaderOptions options{.batch_size = 4, .seed = 5, .end_epoch = 3};
  std::vector<std::vector<std::byte>> whole;
  std::vector<Cursor> ends;
  BatchLoader loader(columns(), options);
  while (const Batch* batch = loader.next()) {
    whole.push_back(bytes_of(*batch));
    ends.push_back(batch->next);
  }
  ASSERT_EQ(whole.size(), 9U);
  EXPECT_NE(whole[0], whole[3]);
  options.start = ends[3];
  BatchLoader resumed(columns(), options);
  for (std::size_t i = 4; i < whole.size(); ++i) {
    const Batch* batch = resumed.next();
    ASSERT_NE(batch, nullptr);
    EXPECT_EQ(bytes_of(*batch), whole[i]) << i;
  }
}

TEST(ImageFolder, DamagedPicturesAreToldWhenTheyAreRead) {
  TemporaryFolder folder;
  write(folder, "a/1.png", picture(1));
  write(folder, "a/2.png", picture(2).substr(0, 40));
  write(folder, "a/3.jpg", "");
  const Dataset data = open(folder.path());
  std::vector<std::uint8_t> out(3 * 48);
  const std::vector<std::int64_t> all{0, 2, 1};
  for (const unsigned threads : {1U, 3U}) {
    const DataArray rows = image_rows("x", files_of(parse_data_spec(folder.path().string())), kSmall, threads);
    EXPECT_THAT(error_of([&] { rows.read_rows(all, out.data()); }), HasSubstr("a/3.jpg, which is neither"));
  }
  EXPECT_THAT(error_of([&] { data.x[0].rows.read_rows(std::vector<std::int64_t>{1}, out.data()); }),
              AllOf(HasSubstr("expected a readable image, got "), HasSubstr("a/2.png: ")));
  fs::remove(folder / "a/1.png");
  EXPECT_THAT(error_of([&] { data.x[0].rows.read_rows(std::vector<std::int64_t>{0}, out.data()); }),
              HasSubstr("a/1.png"));
  EXPECT_THAT(error_of([&] { open(folder.path(), {}); }), HasSubstr("--image-size"));
  EXPECT_THAT(error_of([&] { open(folder.path(), {.height = 1 << 20, .width = 1 << 20}); }), HasSubstr("--image-size"));
  EXPECT_THAT(error_of([&] { open(folder.path(), {.height = 4, .width = 4, .crop = 0}); }), HasSubstr("--image-crop"));
}

}  // namespace
}  // namespace halfstep
