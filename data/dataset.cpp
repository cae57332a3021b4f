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
constexpr const char* kManyForms =
    "give them as NAME=FILE,NAME=FILE,TARGETS, or as arrays of these names beside one called y in an NPZ file";

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

/// What `name` is of, when it ends in `suffix`.
std::optional<std::string> without(const std::string& suffix, const std::string& name) {
  if (!name.ends_with(suffix) || name.size() == suffix.size()) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

Dataset open_npz(const fs::path& path, Split split) {
  const NpzFile file(path);
  const std::vector<std::string> names = file.names();
  const std::string part = split == Split::train ? "_train" : "_test";
  for (const std::string& suffix : {part, std::string()}) {
    const std::string x = "x" + suffix, y = "y" + suffix;
    if (!file.contains(y)) continue;
    DataArray targets = file.open(y);
    std::vector<Dataset::Input> inputs;
    if (file.contains(x)) inputs.push_back({"", file.open(x)});
    for (const std::string& name : names) {
      const auto input = without(suffix, name);
      if (!input || name == x || name == y) continue;
      // What else is kept with the data is no input.
      DataArray rows = file.open(name);
      if (rows.shape().rank() > 0 && rows.rows() == targets.rows())
        inputs.push_back({*input, std::move(rows), /*optional=*/true});
    }
    if (inputs.size() == 1) inputs[0] = {"", inputs[0].rows};
    if (!inputs.empty()) return {std::move(inputs), std::move(targets)};
  }
  if (names.size() == 2) return {file.open(names[0]), file.open(names[1])};
  throw_input_error(fmt::format("arrays x{0} and y{0}, or x and y, or just two, or y{0} and the model's inputs, in {1}",
                                part, path.string()),
                    names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")), "rename the arrays");
}

Dataset open_files(const DataSpec& spec) {
  if (spec.paths.size() < 2)
    throw_input_error("files of inputs and targets", std::to_string(spec.paths.size()), "name two files or more");
  std::vector<Dataset::Input> inputs;
  for (std::size_t i = 0; i + 1 < spec.paths.size(); ++i)
    inputs.push_back({i < spec.names.size() ? spec.names[i] : "", open_array(spec.paths[i])});
  return {std::move(inputs), open_array(spec.paths.back())};
}

Dataset open_table(const fs::path& path, CsvOptions options) {
  if (is_tab_separated(path.string())) options.delimiter = '\t';
  CsvTable table = open_csv(path, options);
  return {std::move(table.x), std::move(table.y)};
}

}  // namespace

Dataset::Dataset(DataArray x_rows, DataArray y_rows)
    : Dataset(std::vector<Input>{{"", std::move(x_rows)}}, std::move(y_rows)) {}

Dataset::Dataset(std::vector<Input> inputs, DataArray y_rows) : x(std::move(inputs)), y(std::move(y_rows)) {
  const auto require_rows = [](const DataArray& array) {
    if (array.shape().rank() == 0)
      throw_input_error("an array whose first axis counts rows", array.name() + " is a scalar", "add an axis");
  };
  if (x.empty()) throw_input_error("rows for at least one input", "none", "give an array of inputs");
  require_rows(y);
  for (const Input& input : x) {
    require_rows(input.rows);
    if (input.rows.rows() != y.rows())
      throw_input_error("as many rows in x as in y",
                        fmt::format("{} in {} and {} in {}", input.rows.rows(), input.rows.name(), y.rows(), y.name()),
                        "check that they belong together");
  }
  if (y.rows() == 0)
    throw_input_error("a data set of at least one row", x.front().rows.name() + " has none", "check the file");
}

Dataset in_order_of(const std::vector<std::string>& inputs, const Dataset& data) {
  std::vector<const Dataset::Input*> ordered(inputs.size()), unnamed;
  bool fits = true;
  for (const Dataset::Input& x : data.x) {
    const auto place = std::find(inputs.begin(), inputs.end(), x.name);
    if (x.name.empty())
      unnamed.push_back(&x);
    else if (place != inputs.end() && !ordered[static_cast<std::size_t>(place - inputs.begin())])
      ordered[static_cast<std::size_t>(place - inputs.begin())] = &x;
    else
      fits = fits && x.optional;
  }
  const auto open = std::count(ordered.begin(), ordered.end(), nullptr);
  fits = fits && open == static_cast<std::ptrdiff_t>(unnamed.size());
  if (!fits) {
    std::vector<std::string> found;
    for (const Dataset::Input& x : data.x) found.push_back(x.name.empty() ? x.rows.name() : x.name);
    throw_input_error(fmt::format("rows for each of the model's inputs: {}", fmt::join(inputs, ", ")),
                      fmt::format("{}", fmt::join(found, ", ")), kManyForms);
  }
  for (const Dataset::Input* x : unnamed) *std::find(ordered.begin(), ordered.end(), nullptr) = x;
  std::vector<Dataset::Input> x;
  for (std::size_t i = 0; i < inputs.size(); ++i) x.push_back({inputs[i], ordered[i]->rows});
  return {std::move(x), data.y};
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
  if (text.find(',') != std::string::npos && !is_there(text)) {
    DataSpec spec{DataSpec::Kind::files, {}, {}};
    for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
      end = text.find(',', begin);
      std::string file = text.substr(begin, end - begin), name;
      if (const std::size_t equals = file.find('='); equals != std::string::npos && equals > 0 && !is_there(file)) {
        name = file.substr(0, equals);
        file.erase(0, equals + 1);
      }
      if (file.empty() || (end == std::string::npos && !name.empty()))
        throw_input_error("files X,Y or NAME=X,NAME=X,Y", text, "give a file for each input, and last one of targets");
      spec.paths.emplace_back(file);
      spec.names.push_back(std::move(name));
    }
    spec.names.pop_back();
    for (const fs::path& path : spec.paths) require_exists(path);
    return spec;
  }
  require_exists(text);
  if (is_folder(text)) return {DataSpec::Kind::idx_directory, {text}};
  if (text.ends_with(".npz")) return {DataSpec::Kind::npz, {text}};
  if (is_table(text)) return {DataSpec::Kind::csv, {text}};
  throw_input_error(fmt::format("data given as {}", kForms), text,
                    "name the files of inputs and targets, separated by commas");
}

Dataset open_dataset(const DataSpec& spec, Split split, const CsvOptions& csv) {
  switch (spec.kind) {
    case DataSpec::Kind::files:
      return open_files(spec);
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
