#include <algorithm>
#include <fstream>
#include <limits>
#include <vector>

#include <gmock/gmock.h>

#include "formats/temporary_file.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/formats/data_array.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryFolder;

TEST(DataArray, NamesTheRowOfANonFiniteElement) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {kInf, -kInf, kNan})
    for (const DType dtype : {DType::f16, DType::f32, DType::f64}) {
      const Tensor tensor = convert(Tensor::of<float>({0, 1, 2, 3, 4, bad, 6, 7}, Shape{4, 2}), dtype);
      const DataArray array = DataArray::of(tensor, "x.npy");
      char out[64];
      const std::int64_t good[] = {3, 0, 1};
      array.read_rows(good, out);
      const std::int64_t rows[] = {3, 2, 0};
      EXPECT_THAT(testing::error_of([&] { array.read_rows(rows, out); }),
                  HasSubstr("row 2 of x.npy has NaN or infinity"));
      EXPECT_TRUE(identical(array.load(), tensor));
    }
}

TEST(DataArray, RefusesElementsThatAreNoWholeBytes) {
  for (const Tensor& tensor : {Tensor(DType::string, {2}), Tensor(DType::i4, {2}), Tensor()})
    EXPECT_THAT(testing::error_of([&] { DataArray::of(tensor, "x"); }), HasSubstr("whole bytes"));
}

TEST(DataArray, RefusesRowsThatThereAreNot) {
  const DataArray array = DataArray::of(Tensor::of<float>({1, 2}), "x");
  float out;
  for (const std::int64_t row : {std::int64_t{-1}, std::int64_t{2}})
    EXPECT_THAT(testing::error_of([&] { array.read_rows(std::span(&row, 1), &out); }), HasSubstr("[0, 2)"));
}

TEST(DataArray, ResidentMemoryDoesNotGrowWithTheFile) {
  const auto mapped_from_files = [] {  // not all of RSS: sanitizers keep memory of their own for every page read
    std::size_t bytes = 0, kibibytes = 0;
    std::ifstream status("/proc/self/status");
    for (std::string key, rest; status >> key; std::getline(status, rest))
      if ((key == "RssFile:" || key == "RssShmem:") && status >> kibibytes) bytes += kibibytes << 10;
    return bytes;
  };
  constexpr std::int64_t kRow = 1 << 16;
  constexpr std::int64_t kRows = 3 * static_cast<std::int64_t>(SharedBytes::kResidentBudget) / kRow;
  TemporaryFolder folder;
  const auto path = folder.write("x.npy", npy_header(DType::u8, Shape{kRows, kRow}));
  std::filesystem::resize_file(path, std::filesystem::file_size(path) + kRows * kRow);  // sparse: takes no disk
  const DataArray array = open_npy(path);
  const std::size_t before = mapped_from_files();
  std::size_t peak = before;
  std::vector<char> out(kRow);
  for (std::int64_t row = 0; row < kRows; ++row) {
    array.read_rows(std::span(&row, 1), out.data());
    if (row % 64 == 0) peak = std::max(peak, mapped_from_files());
  }
  EXPECT_LT(peak - before, SharedBytes::kResidentBudget + (std::size_t{32} << 20));
}

TEST(TemporaryFile, HoldsWhatIsAppended) {
  TemporaryFile file;
  const std::string large(3 << 20, 'x');
  file.append("ab", 2);
  file.append(large.data(), large.size());
  file.append("c", 1);
  EXPECT_EQ(file.size(), large.size() + 3);
  const SharedBytes bytes = file.finish();
  const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EXPECT_TRUE(text == "ab" + large + "c");
}

TEST(TemporaryFile, LeavesNothingBehindAndNeedsAFolder) {
  TemporaryFolder folder;
  const char* old = ::getenv("TMPDIR");
  const std::string saved = old ? old : "";
  ::setenv("TMPDIR", folder.path().c_str(), 1);
  {
    TemporaryFile file;
    EXPECT_EQ(folder.files(), 0u);
  }
  ::setenv("TMPDIR", (folder / "missing").c_str(), 1);
  EXPECT_THAT(testing::error_of([] { TemporaryFile(); }), HasSubstr("TMPDIR"));
  old ? ::setenv("TMPDIR", saved.c_str(), 1) : ::unsetenv("TMPDIR");
}

}  // namespace
}  // namespace halfstep
