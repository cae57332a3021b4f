#include <algorithm>

#include <gmock/gmock.h>

#include "formats/npz.h"
#include "formats/safetensors.h"
#include "tests/data/temporary_folder.h"
#include "tests/paths.h"
#include <halfstep/data/dataset.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

const Tensor kX = Tensor::of<float>({1, 2, 3, 4, 5, 6}, Shape{3, 2});
const Tensor kY = Tensor::of<std::int64_t>({7, 8, 9});

Dataset open(const std::string& spec, Split split = Split::train) { return open_dataset(parse_data_spec(spec), split); }

TEST(Dataset, ReadsMnist) {
  const struct {
    Split split;
    std::int64_t rows;
    std::vector<std::uint8_t> first_labels;
  } cases[] = {{Split::train, 60000, {5, 0, 4, 1, 9, 2, 1, 3, 1, 4}},
               {Split::test, 10000, {7, 2, 1, 0, 4, 1, 4, 9, 5, 9}}};
  for (const auto& c : cases) {
    const Dataset data = open((test::source_dir() / "models/mnist").string(), c.split);
    EXPECT_EQ(data.rows(), c.rows);
    EXPECT_EQ(data.x[0].rows.row_type(), (RowType{DType::u8, Shape{28, 28}}));
    EXPECT_EQ(data.y->row_type(), (RowType{DType::u8, Shape{}}));
    std::vector<std::int64_t> rows(10);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<std::int64_t>(i);
    std::vector<std::uint8_t> labels(10), images(10 * 784);
    data.y->read_rows(rows, labels.data());
    data.x[0].rows.read_rows(rows, images.data());
    EXPECT_EQ(labels, c.first_labels);
    EXPECT_THAT(std::vector<std::uint8_t>(images.begin(), images.begin() + 28), Each(0));  // digits have a margin
    EXPECT_GT(*std::max_element(images.begin(), images.end()), 250);
  }
}

TEST(Dataset, ReadsAPairOfFiles) {
  TemporaryFolder folder;
  write_npy(folder / "x.npy", kX);
  write_npy(folder / "y.npy", kY);
  const Dataset data = open((folder / "x.npy").string() + "," + (folder / "y.npy").string());
  EXPECT_TRUE(identical(data.x[0].rows.load(), kX));
  EXPECT_TRUE(identical(data.y->load(), kY));
  const std::string mnist = test::source_dir().string() + "/models/mnist/";
  EXPECT_EQ(open(mnist + "t10k-images-idx3-ubyte.gz," + mnist + "t10k-labels-idx1-ubyte.gz").rows(), 10000);
}

TEST(Dataset, ReadsNpzByItsNames) {
  const Tensor other = Tensor::of<std::int64_t>({1, 2, 3});
  const struct {
    std::vector<std::pair<std::string, Tensor>> arrays;
    Split split;
    std::int64_t first_label;
  } cases[] = {
      {{{"x_train", kX}, {"y_train", kY}, {"x_test", kX}, {"y_test", other}}, Split::train, 7},
      {{{"x_train", kX}, {"y_train", kY}, {"x_test", kX}, {"y_test", other}}, Split::test, 1},
      {{{"y", kY}, {"x", kX}, {"more", other}}, Split::train, 7},
      {{{"pixels_train", kX}, {"y_train", kY}, {"pixels_test", kY}, {"y_test", other}}, Split::train, 7},
      {{{"y", kY}, {"x", kX}}, Split::test, 7},
      {{{"arr_0", kX}, {"arr_1", kY}}, Split::train, 7},
  };
  TemporaryFolder folder;
  for (const auto& c : cases) {
    write_npz(folder / "a.npz", c.arrays);
    const Dataset data = open((folder / "a.npz").string(), c.split);
    EXPECT_TRUE(identical(data.x[0].rows.load(), kX));
    EXPECT_EQ(to_int64s(data.y->load())[0], c.first_label);
  }
}

TEST(Dataset, ReadsSafetensorsByTheirNames) {
  TemporaryFolder folder;
  const Tensor truths = Tensor::of<bool>({true, false, true});
  write_safetensors(
      folder / "a.safetensors",
      {.tensors = {{"x_train", kX}, {"y_train", kY}, {"x_test", kX}, {"y_test", truths}}, .metadata = {}});
  const std::string spec = (folder / "a.safetensors").string();
  for (const Split split : {Split::train, Split::test}) {
    const Dataset data = open(spec, split);
    EXPECT_TRUE(identical(data.x[0].rows.load(), kX));
    EXPECT_TRUE(identical(data.y->load(), split == Split::train ? kY : truths));
  }
  EXPECT_THAT(testing::error_of([&] { SafetensorsFile(spec).open("z"); }), HasSubstr("x_train"));
}

std::vector<std::string> names_of(const Dataset& data) {
  std::vector<std::string> names;
  for (const Dataset::Input& input : data.x) names.push_back(input.name);
  return names;
}

TEST(Dataset, ReadsSeveralInputs) {
  TemporaryFolder folder;
  const Tensor mask = Tensor::of<std::int64_t>({1, 0, 1});
  write_npy(folder / "ids.npy", kX);
  write_npy(folder / "mask.npy", mask);
  write_npy(folder / "y.npy", kY);
  const std::string at = folder.path().string() + "/";
  const std::string ids = at + "ids.npy", masks = at + "mask.npy", y = "," + at + "y.npy";
  const auto with_names = [&](const std::string& file, std::vector<std::pair<std::string, Tensor>> arrays) {
    write_npz(folder / file, arrays);
    return at + file;
  };
  const struct {
    std::string spec;
    std::vector<std::string> names;
  } cases[] = {
      {ids + "," + masks + y, {"", ""}},
      {"mask=" + masks + ",ids=" + ids + y, {"mask", "ids"}},
      {"mask=" + masks + "," + ids + y, {"mask", ""}},
      {with_names("a.npz", {{"mask", mask}, {"y", kY}, {"ids", kX}}), {"mask", "ids"}},
      {with_names("b.npz", {{"ids_train", kX}, {"mask_train", mask}, {"y_train", kY}, {"y_test", kX}}),
       {"ids", "mask"}},
  };
  for (const auto& c : cases) {
    const Dataset data = open(c.spec);
    EXPECT_EQ(names_of(data), c.names) << c.spec;
    const Dataset ordered = in_order_of({"ids", "mask"}, data);
    EXPECT_THAT(names_of(ordered), ElementsAre("ids", "mask")) << c.spec;
    EXPECT_TRUE(identical(ordered.x[0].rows.load(), kX)) << c.spec;
    EXPECT_TRUE(identical(ordered.x[1].rows.load(), mask)) << c.spec;
    EXPECT_TRUE(identical(ordered.y->load(), kY)) << c.spec;
  }
}

TEST(Dataset, OfTheArraysOfAnNpzOnlyInputsAreTaken) {
  TemporaryFolder folder;
  const Tensor mask = Tensor::of<std::int64_t>({1, 0, 1});
  write_npz(folder / "a.npz", {{"mask", mask}, {"x", kX}, {"classes", Tensor::of<std::int64_t>({5, 6})}, {"y", kY}});
  write_npz(folder / "b.npz", {{"mask", mask}, {"more", kX}, {"ids", kX}, {"y", kY}});
  const Dataset named = in_order_of({"ids", "mask"}, open((folder / "b.npz").string()));
  EXPECT_THAT(names_of(named), ElementsAre("ids", "mask"));
  const Dataset data = open((folder / "a.npz").string());
  const struct {
    std::vector<std::string> inputs;
    std::vector<Tensor> rows;
  } cases[] = {{{"x"}, {kX}}, {{"pixels"}, {kX}}, {{"x", "mask"}, {kX, mask}}, {{"mask", "x"}, {mask, kX}}};
  for (const auto& c : cases) {
    const Dataset ordered = in_order_of(c.inputs, data);
    ASSERT_EQ(ordered.x.size(), c.rows.size());
    for (std::size_t i = 0; i < c.rows.size(); ++i) EXPECT_TRUE(identical(ordered.x[i].rows.load(), c.rows[i]));
  }
  EXPECT_THAT(testing::error_of([&] { in_order_of({"x", "musk"}, data); }), HasSubstr("inputs: x, musk, got "));
}

TEST(Dataset, ArraysThatCannotBeReadAreLeftOutUnlessTheyAreNeeded) {
  TemporaryFolder folder;
  write_npz(folder / "a.npz", {{"x", kX}, {"y", kY}, {"more", Tensor::of<std::int64_t>({5, 6, 0x1234567})}});
  std::string bytes = testing::read_file(folder / "a.npz");
  const std::size_t at = bytes.rfind("NUMPY", bytes.find(testing::little(std::int64_t{0x1234567})));
  ASSERT_NE(at, std::string::npos);
  ++bytes[at];
  folder.write("a.npz", bytes);
  const Dataset data = open((folder / "a.npz").string());
  EXPECT_THAT(names_of(data), ElementsAre(""));
  EXPECT_THAT(data.notices, ElementsAre(HasSubstr("'more' is left out")));
  --bytes[at];
  const std::size_t header = bytes.find("NUMPY");  // of x, which comes first
  ASSERT_NE(header, std::string::npos);
  ++bytes[header];
  folder.write("a.npz", bytes);
  EXPECT_THAT(testing::error_of([&] { open((folder / "a.npz").string()); }), HasSubstr("[x]"));
}

TEST(Dataset, MayHaveNoTargets) {
  TemporaryFolder folder;
  const Tensor mask = Tensor::of<std::int64_t>({1, 0, 1});
  write_npy(folder / "ids.npy", kX);
  write_npy(folder / "mask.npy", mask);
  const std::string at = folder.path().string() + "/";
  const auto with_names = [&](const std::string& file, std::vector<std::pair<std::string, Tensor>> arrays) {
    write_npz(folder / file, arrays);
    return at + file;
  };
  const struct {
    std::string spec;
    std::vector<std::string> names;
  } cases[] = {
      {at + "ids.npy", {""}},
      {"ids=" + at + "ids.npy", {"ids"}},
      {"mask=" + at + "mask.npy,ids=" + at + "ids.npy", {"mask", "ids"}},
      {with_names("a.npz", {{"ids", kX}}), {""}},
      {with_names("b.npz", {{"ids_train", kX}, {"mask_train", mask}, {"ids_test", mask}}), {"ids", "mask"}},
      {with_names("c.npz", {{"ids", kX}, {"mask", mask}, {"other", mask}}), {"ids", "mask", "other"}},
  };
  for (const auto& c : cases) {
    const Dataset data = open(c.spec);
    EXPECT_EQ(names_of(data), c.names) << c.spec;
    EXPECT_FALSE(data.y) << c.spec;
    EXPECT_EQ(data.rows(), 3) << c.spec;
  }
  // Two arrays may be rows and targets, or the rows of two inputs.
  const Dataset pair = open(with_names("d.npz", {{"ids", kX}, {"mask", mask}}));
  EXPECT_TRUE(identical(pair.y->load(), mask));
  EXPECT_EQ(pair.y_name, "mask");
}

TEST(Dataset, TablesTellWhatHadToBeGuessed) {
  TemporaryFolder folder;
  const auto path = folder.write("a.csv", "1;cow\n2;ant\n3;cow\n");
  const Dataset data = open(path.string());
  EXPECT_THAT(data.classes, ElementsAre("ant", "cow"));
  EXPECT_FALSE(data.classes_given);
  EXPECT_EQ(data.notices.size(), 3u);
  EXPECT_THAT(data.label_hint, HasSubstr("--label-column"));
  const Dataset given = open_dataset(parse_data_spec(path.string()), Split::test, {.classes = {"cow", "ant"}});
  EXPECT_TRUE(given.classes_given);
  EXPECT_THAT(to_int64s(given.y->load()), ElementsAre(0, 1, 0));
}

TEST(DataFormat, IsToldByNameAndFirstBytes) {
  TemporaryFolder folder;
  const struct {
    std::string path;
    std::string_view what;  // empty: no format
  } cases[] = {
      {"x.npy", "an .npy file"},
      {"x.npy.gz", "an .npy file"},
      {"a.idx", "an IDX file"},
      {"t10k-ubyte", "an IDX file"},
      {"t.idx3-ubyte.gz", "an IDX file"},
      {"a.npz", "an .npz file"},
      {"a.safetensors", "a .safetensors file"},
      {"a.csv", "a .csv table"},
      {"a.csv.gz", "a .csv table"},
      {"a.tsv.gz", "a .tsv table"},
      {"ubyte.csv", "a .csv table"},
      {"a.npz.gz", ""},
      {"a.png", ""},
      {folder.path().string(), "a folder of IDX files"},
  };
  for (const auto& c : cases) {
    const DataFormat* format = format_of(c.path);
    EXPECT_EQ(format ? format->what : "", c.what) << c.path;
  }
  write_npy(folder / "x.npy", kX);
  std::filesystem::rename(folder / "x.npy", folder / "numbers");
  EXPECT_TRUE(identical(open_array(folder / "numbers").load(), kX));
  for (const DataFormat& format : data_formats()) {
    EXPECT_NE(format.open_array == nullptr, format.open_arrays == nullptr) << format.what;
    const std::string& all = format.open_array ? describe_array_formats() : describe_set_formats();
    EXPECT_THAT(all, HasSubstr(std::string(format.what)));
  }
}

TEST(Dataset, PicturesOfOtherKindsAndWithoutClassesAreToldHowToBeGiven) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "cats");
  folder.write("cats/1.GIF", "");
  EXPECT_THAT(testing::error_of([&] { open(folder.path().string()); }),
              ::testing::AllOf(HasSubstr("files *.gif"), HasSubstr("a folder for each class")));
  folder.write("2.png", "");
  EXPECT_THAT(testing::error_of([&] { open(folder.path().string()); }), HasSubstr("a folder for each class"));
}

TEST(Dataset, InputsAndRowsThatDoNotMatchAreTold) {
  const DataArray rows = DataArray::of(kX, "rows.npy"), y = DataArray::of(kY, "y.npy");
  const struct {
    std::vector<std::string> inputs;
    std::vector<Dataset::Input> x;
    const char* error;
  } cases[] = {
      {{"ids", "mask"}, {{"", rows}}, "inputs: ids, mask, got rows.npy"},
      {{"ids"}, {{"", rows}, {"", rows}}, "inputs: ids, got rows.npy, rows.npy"},
      {{"ids", "mask"}, {{"ids", rows}, {"ids", rows}}, "got ids, ids"},
      {{"ids", "mask"}, {{"ids", rows}, {"musk", rows}}, "got ids, musk"},
  };
  for (const auto& c : cases)
    EXPECT_THAT(testing::error_of([&] { in_order_of(c.inputs, Dataset(c.x, y)); }), HasSubstr(c.error));
}

TEST(Dataset, ReadsTables) {
  TemporaryFolder folder;
  EXPECT_EQ(open(folder.write("a.csv", "1,2,0\n3,4,1\n")).x[0].rows.shape(), (Shape{2, 2}));
  EXPECT_EQ(open(folder.write("a.tsv", "1\t2\t0\n3\t4\t1\n")).x[0].rows.shape(), (Shape{2, 2}));
  EXPECT_EQ(open(folder.write("a.csv.gz", testing::gzipped("1,2,0\n3,4,1\n"))).x[0].rows.shape(), (Shape{2, 2}));
}

TEST(Dataset, WhatIsWrongIsTold) {
  TemporaryFolder folder;
  write_npy(folder / "x.npy", kX);
  write_npy(folder / "y.npy", kY);
  write_npy(folder / "short.npy", Tensor::of<std::int64_t>({7, 8}));
  write_npy(folder / "none.npy", Tensor(DType::f32, Shape{0, 2}));
  write_npy(folder / "scalar.npy", Tensor::scalar(1.0f));
  write_npz(folder / "a.npz", {{"x_test", kX}, {"y_test", kY}, {"z_test", kY}});
  folder.write("header_only.csv", "a,b,c\n");
  folder.write("t10k-images", "");
  folder.write("notes.txt", "");
  const std::string at = folder.path().string() + "/";
  const struct {
    std::string spec;
    const char* error;
  } cases[] = {
      {at + "x.npy," + at + "short.npy", "got 3 in "},
      {at + "none.npy," + at + "none.npy", "at least one row"},
      {at + "scalar.npy," + at + "scalar.npy", "is a scalar"},
      {at + "header_only.csv", "at least one row"},
      {at + "a.npz", "got x_test, y_test, z_test"},
      {at + "notes.txt", "name the files of inputs and targets"},
      {at + "x.npy,", "files X,Y"},
      {"," + at + "x.npy", "files X,Y"},
      {at + "x.npy,b,c", "nothing at b"},
      {"=" + at + "x.npy," + at + "x.npy", "nothing at ="},
      {at + "x.npy," + at + "missing.npy", "missing.npy"},
      {at + "missing.csv", "nothing at"},
      {"", "nothing at"},
      {at, "IDX files train-images*"},
  };
  for (const auto& c : cases) EXPECT_THAT(testing::error_of([&] { open(c.spec); }), HasSubstr(c.error)) << c.spec;
}

TEST(Dataset, PrefersPlainIdxFilesAndTakesPathsWithCommas) {
  TemporaryFolder folder;
  const std::string images("\0\0\x08\x02\0\0\0\2\0\0\0\1ab", 14), labels("\0\0\x08\x01\0\0\0\2\0\1", 10);
  std::filesystem::create_directory(folder / "a,b");
  folder.write("a,b/train-images.idx3-ubyte", images);
  folder.write("a,b/train-images.idx3-ubyte.gz", "not gzip at all");
  folder.write("a,b/train-labels.idx1-ubyte.gz", testing::gzipped(labels));
  EXPECT_THAT(to_int64s(open((folder / "a,b").string()).y->load()), ElementsAre(0, 1));
}

}  // namespace
}  // namespace halfstep
