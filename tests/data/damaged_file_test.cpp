// Files that are cut while they are read, and files that unpack to more than they should.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "formats/idx.h"
#include "formats/inflate.h"
#include "formats/npz.h"
#include "formats/safetensors.h"
#include "tests/data/temporary_folder.h"
#include <halfstep/data/dataset.h>
#include <halfstep/formats/csv.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using ::testing::AllOf;
using testing::big;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

constexpr std::int64_t kRows = 1000, kColumns = 16;

Tensor counting_rows() {
  Tensor tensor(DType::f32, Shape{kRows, kColumns});
  std::iota(tensor.span<float>().begin(), tensor.span<float>().end(), 0.0f);
  return tensor;
}

std::string bytes_of(const Tensor& tensor) { return {static_cast<const char*>(tensor.raw()), tensor.bytes()}; }

std::string fortran_npy(const Tensor& tensor) {
  std::string header = npy_header(tensor.dtype(), tensor.shape());
  header.replace(header.find("False"), 5, "True ");
  return header + bytes_of(tensor);
}

TEST(DamagedFile, CutWhileItIsReadIsAnErrorThatNamesFileAndRow) {
  TemporaryFolder folder;
  const Tensor rows = counting_rows();
  const std::string header = npy_header(rows.dtype(), rows.shape());
  const auto zip = [&](const fs::path& path) { write_npz(path, {{"x", rows}}); };
  struct Case {
    const char* name;
    std::function<DataArray(const fs::path&)> open;
    std::size_t header;  ///< bytes before the first row
    std::int64_t lost;   ///< the first row that is not whole, after a cut in row 700
  };
  zip(folder / "x.npz");
  folder.write("x.npy", header + bytes_of(rows));
  folder.write("f.npy", fortran_npy(rows));
  folder.write("x.idx", "\0\0\x08\x02"s + big<std::uint32_t>(kRows) + big<std::uint32_t>(64) + bytes_of(rows));
  write_safetensors(folder / "x.safetensors", {.tensors = {{"x", rows}}, .metadata = {}});
  const std::size_t zip_header = 30 + 5 + header.size(),
                    safetensors_header = fs::file_size(folder / "x.safetensors") - rows.bytes();
  const Case cases[] = {
      {"x.npy", [](const fs::path& path) { return open_npy(path); }, header.size(), 700},
      {"f.npy", [](const fs::path& path) { return open_npy(path); }, header.size(), 0},
      {"x.idx", [](const fs::path& path) { return open_idx(path); }, 12, 700},
      {"x.npz", [](const fs::path& path) { return NpzFile(path).open("x"); }, zip_header, 700},
      {"x.safetensors", [](const fs::path& path) { return SafetensorsFile(path).open("x"); }, safetensors_header, 700},
  };
  for (const Case& c : cases) {
    const DataArray array = c.open(folder / c.name);
    std::vector<std::byte> row(array.row_bytes());
    for (const std::int64_t read : {std::int64_t{5}, std::int64_t{900}})
      EXPECT_NO_THROW(array.read_rows(std::vector<std::int64_t>{read}, row.data())) << c.name;
    fs::resize_file(folder / c.name, c.header + 700 * kColumns * sizeof(float) + 7);
    const auto told = AllOf(HasSubstr(c.name), HasSubstr("row " + std::to_string(c.lost) + " "));
    for (const std::int64_t read : {std::int64_t{999}, std::int64_t{5}})
      EXPECT_THAT(error_of([&] { array.read_rows(std::vector<std::int64_t>{read}, row.data()); }), told) << c.name;
    EXPECT_THAT(error_of([&] { array.load(); }), told) << c.name;
  }
}

TEST(DamagedFile, UnpackedIsBounded) {
  TemporaryFolder folder;
  const Tensor zeros(DType::u8, Shape{1 << 20});
  const std::string npy = npy_header(DType::u8, zeros.shape()) + bytes_of(zeros);
  folder.write("x.npy.gz", testing::gzipped(npy));
  folder.write("two.csv.gz", testing::gzipped("1,2\n") + testing::gzipped("3,4\n"));
  EXPECT_EQ(open_npy(folder / "x.npy.gz").rows(), 1 << 20) << "a small file may have any ratio";
  set_max_unpacked(npy.size() - 1);
  EXPECT_THAT(error_of([&] { open_npy(folder / "x.npy.gz"); }),
              AllOf(HasSubstr("--max-unpacked"), HasSubstr("x.npy.gz")));
  set_max_unpacked(7);
  EXPECT_THAT(error_of([&] { open_csv(folder / "two.csv.gz"); }), HasSubstr("unpacks to at most 7 bytes"));
  set_max_unpacked(npy.size());
  EXPECT_EQ(open_npy(folder / "x.npy.gz").rows(), 1 << 20);
  set_max_unpacked(0);
}

// Several members are one file; zeros may fill it up.
TEST(DamagedFile, WhatFollowsAGzipMemberIsReadOrRefused) {
  TemporaryFolder folder;
  const std::string first = testing::gzipped("1,0\n2,1\n"), second = testing::gzipped("3,0\n");
  std::string damaged = second;
  damaged[1] = 'x';
  const struct {
    std::string bytes;
    std::int64_t rows;  // -1: an error
  } cases[] = {{first, 2},
               {first + second, 3},
               {first + std::string(512, '\0'), 2},
               {first + std::string(3, '\0') + second, 3},
               {first + damaged, -1},
               {first + "x", -1},
               {first + std::string(1, '\0') + "x", -1}};
  for (const auto& c : cases) {
    folder.write("a.csv.gz", c.bytes);
    const auto rows = [&] { return open_csv(folder / "a.csv.gz").x.rows(); };
    if (c.rows < 0) {
      EXPECT_THAT(error_of(rows), HasSubstr("goes on behind its end"));
    } else {
      EXPECT_EQ(rows(), c.rows);
    }
  }
}

TEST(DamagedFile, WhatAnArchiveClaimsIsCheckedBeforeItIsUnpacked) {
  TemporaryFolder folder;
  const SharedBytes few = SharedBytes::of_memory(std::as_bytes(std::span("xyz", 3)), nullptr);
  EXPECT_THAT(error_of([&] { inflate_raw(few, std::uint64_t{1} << 40, 0, "a.npz[x]"); }),
              AllOf(HasSubstr("a.npz[x]"), HasSubstr("--max-unpacked")));
  set_max_unpacked(std::uint64_t{1} << 60);
  EXPECT_THAT(error_of([&] { inflate_raw(few, std::uint64_t{1} << 59, 0, "a.npz[x]"); }), HasSubstr("TMPDIR"));
  set_max_unpacked(0);
}

TEST(DamagedFile, WhatCannotBeLookedAtIsNotCalledMissing) {
  TemporaryFolder folder;
  fs::create_symlink("loop", folder / "loop");
  const std::string text = error_of([&] { parse_data_spec((folder / "loop").string() + "/x.npz"); });
  EXPECT_THAT(text, HasSubstr("Too many levels of symbolic links"));
  EXPECT_THAT(error_of([&] { parse_data_spec((folder / "none.npz").string()); }), HasSubstr("nothing at"));
}

}  // namespace
}  // namespace halfstep
