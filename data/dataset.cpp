#include "data/dataset.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/idx.h"
#include "data/npy.h"
#include "data/npz.h"
#include "graph/error.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kForms = "X.npy,Y.npy, a folder of IDX files, file.npz, file.csv or file.tsv";

bool is_table(std::string_view name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name.ends_with(".csv") || name.ends_with(".tsv");
}

bool is_tab_separated(std::string_view name) { return name.ends_with(".tsv") || name.ends_with(".tsv.gz"); }

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

void require_exists(const fs::path& path) {
  if (!is_there(path)) throw_input_error("a data file", "nothing at " + path.string(), "check the path");
}

/// The one file of a folder whose name starts with `prefix` and tells of `content`; a plain one before a compressed
/// one.
fs::path find_idx(const fs::path& folder, std::string_view prefix, std::string_view content) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(prefix) && name.find(content) != std::string::npos) found.push_back(entry.path());
  }
  if (error) throw_input_error("a readable folder", folder.string() + ": " + error.message(), "check its permissions");
  if (found.empty())
    throw_input_error(fmt::format("IDX files {}{}*", prefix, content), "none in " + folder.string(),
                      "copy the four files of the data set there, as they are or compressed with gzip");
  std::sort(found.begin(), found.end());
  const auto plain = std::find_if(found.begin(), found.end(), [](const fs::path& p) { return p.extension() != ".gz"; });
  return plain != found.end() ? *plain : found.front();
}

Dataset open_idx_directory(const fs::path& folder, Split split) {
  const std::string_view prefix = split == Split::train ? "train-" : "t10k-";
  return {open_idx(find_idx(folder, prefix, "images")), open_idx(find_idx(folder, prefix, "labels"))};
}

Dataset open_npz(const fs::path& path, Split split) {
  const NpzFile file(path);
  const std::string suffix = split == Split::train ? "_train" : "_test";
  for (const auto& [x, y] : {std::pair{"x" + suffix, "y" + suffix}, std::pair<std::string, std::string>{"x", "y"}})
    if (file.contains(x) && file.contains(y)) return {file.open(x), file.open(y)};
  const std::vector<std::string> names = file.names();
  if (names.size() == 2) return {file.open(names[0]), file.open(names[1])};
  throw_input_error(fmt::format("arrays x{0} and y{0}, or x and y, or just two, in {1}", suffix, path.string()),
                    names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")), "rename the arrays");
}

Dataset open_table(const fs::path& path, CsvOptions options) {
  if (is_tab_separated(path.string())) options.delimiter = '\t';
  CsvTable table = open_csv(path, options);
  return {std::move(table.x), std::move(table.y)};
}

}  // namespace

Dataset::Dataset(DataArray x_rows, DataArray y_rows) : x(std::move(x_rows)), y(std::move(y_rows)) {
  for (const DataArray* array : {&x, &y})
    if (array->shape().rank() == 0)
      throw_input_error("an array whose first axis counts rows", array->name() + " is a scalar", "add an axis");
  if (x.rows() != y.rows())
    throw_input_error("as many rows in x as in y",
                      fmt::format("{} in {} and {} in {}", x.rows(), x.name(), y.rows(), y.name()),
                      "check that the two belong together");
  if (x.rows() == 0) throw_input_error("a data set of at least one row", x.name() + " has none", "check the file");
}

DataArray open_array(const fs::path& path) {
  // Only the first bytes matter here, and gzip files may be large: NPY is told by name when the file is compressed.
  const SharedBytes bytes = SharedBytes::of_file(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string name = path.filename().string();
  if (text.starts_with("\x93NUMPY") || name.ends_with(".npy") || name.ends_with(".npy.gz")) return open_npy(path);
  return open_idx(path);
}

DataSpec parse_data_spec(const std::string& text) {
  const std::size_t comma = text.find(',');
  if (comma != std::string::npos && !is_there(text)) {
    DataSpec spec{DataSpec::Kind::pair, {text.substr(0, comma), text.substr(comma + 1)}};
    if (spec.paths[0].empty() || spec.paths[1].empty() || text.find(',', comma + 1) != std::string::npos)
      throw_input_error("two files, X,Y", text, "give one file of inputs and one of targets");
    for (const fs::path& path : spec.paths) require_exists(path);
    return spec;
  }
  require_exists(text);
  if (is_folder(text)) return {DataSpec::Kind::idx_directory, {text}};
  if (text.ends_with(".npz")) return {DataSpec::Kind::npz, {text}};
  if (is_table(text)) return {DataSpec::Kind::csv, {text}};
  throw_input_error(fmt::format("data given as {}", kForms), text, "name both files of a pair, separated by a comma");
}

Dataset open_dataset(const DataSpec& spec, Split split, const CsvOptions& csv) {
  switch (spec.kind) {
    case DataSpec::Kind::pair:
      return {open_array(spec.paths.at(0)), open_array(spec.paths.at(1))};
    case DataSpec::Kind::idx_directory:
      return open_idx_directory(spec.paths.at(0), split);
    case DataSpec::Kind::npz:
      return open_npz(spec.paths.at(0), split);
    case DataSpec::Kind::csv:
      break;
  }
  return open_table(spec.paths.at(0), csv);
}

}  // namespace halfstep
