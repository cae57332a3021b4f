#include "data/dataset.h"

#include <algorithm>
#include <cctype>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "data/idx.h"
#include "data/npy.h"
#include "data/npz.h"
#include "graph/error.h"
#include "graph/path_state.h"

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kForms = "X.npy,Y.npy, a folder of IDX files, file.npz, file.csv or file.tsv";
constexpr const char* kImagesHint =
    "pictures are not read: save them as arrays (numpy.save, rows of [height, width, channels]) and name them as "
    "X.npy,Y.npy; of folders, those with the four IDX files of a data set as MNIST are read";
constexpr const char* kManyForms =
    "give them as NAME=FILE,NAME=FILE,TARGETS, or as arrays of these names beside one called y in an NPZ file";

bool is_table(std::string_view name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name.ends_with(".csv") || name.ends_with(".tsv");
}

bool is_tab_separated(std::string_view name) { return name.ends_with(".tsv") || name.ends_with(".tsv.gz"); }

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

void require_exists(const fs::path& path) {
  if (!is_there(path)) throw_input_error("a data file", why_not_there(path), "check the path");
}

constexpr std::string_view kPictures[] = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"};

/// The endings of the files in a folder and one below, and how many have them: no more than the first thousand.
std::map<std::string, int> endings(const fs::path& folder) {
  constexpr int kMost = 1000;
  std::map<std::string, int> counts;
  std::error_code error;
  int seen = 0;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end && seen < kMost; at.increment(error)) {
    if (at.depth() >= 1) at.disable_recursion_pending();
    std::error_code ignored;
    if (!at->is_regular_file(ignored)) continue;
    ++seen;
    std::string ending = at->path().extension().string();
    std::transform(ending.begin(), ending.end(), ending.begin(), [](unsigned char c) { return std::tolower(c); });
    ++counts[ending];
  }
  return counts;
}

bool holds_pictures(const fs::path& folder) {
  for (const auto& [ending, count] : endings(folder))
    if (std::find(std::begin(kPictures), std::end(kPictures), ending) != std::end(kPictures)) return true;
  return false;
}

/// ", but *.png".
std::string extensions(const fs::path& folder) {
  std::string most;
  int largest = 0;
  for (const auto& [ending, count] : endings(folder))
    if (count > largest && !ending.empty()) {
      most = ending;
      largest = count;
    }
  return most.empty() ? "" : fmt::format(", but files *{}", most);
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
    throw_input_error(
        fmt::format("IDX files {}{}*", prefix, content), "none in " + folder.string() + extensions(folder),
        holds_pictures(folder) ? kImagesHint
                               : "copy the four files of the data set there, as they are or compressed with gzip");
  std::sort(found.begin(), found.end());
  const auto plain = std::find_if(found.begin(), found.end(), [](const fs::path& p) { return p.extension() != ".gz"; });
  return plain != found.end() ? *plain : found.front();
}

constexpr std::string_view kTrainPrefix = "train-", kTestPrefix = "t10k-";

Dataset open_idx_directory(const fs::path& folder, Split split) {
  const std::string_view prefix = split == Split::train ? kTrainPrefix : kTestPrefix;
  return {open_idx(find_idx(folder, prefix, "images")), open_idx(find_idx(folder, prefix, "labels"))};
}

/// What `name` is of, when it ends in `suffix`.
std::optional<std::string> without(const std::string& suffix, const std::string& name) {
  if (!name.ends_with(suffix) || name.size() == suffix.size()) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

/// Arrays `x` and others as inputs, those of as many rows as `targets`, or else as `x` or the first, where there is a
/// suffix to tell them by.
std::vector<Dataset::Input> inputs_of(const NpzFile& file, const std::string& suffix, const DataArray* targets) {
  const std::string x = "x" + suffix, y = "y" + suffix;
  std::vector<Dataset::Input> inputs;
  std::optional<std::int64_t> rows;
  if (targets) rows = targets->rows();
  const auto add = [&](const std::string& input, const std::string& array, bool optional) {
    DataArray data = file.open(array);
    // What else is kept with the data is no input.
    if (optional && (data.shape().rank() == 0 || (rows && data.rows() != *rows))) return;
    if (!rows) rows = data.rows();
    inputs.push_back({input, std::move(data), optional});
  };
  if (file.contains(x)) add("", x, false);
  for (const std::string& name : file.names()) {
    const auto input = without(suffix, name);
    if (input && name != x && name != y) add(*input, name, /*optional=*/true);
  }
  if (inputs.size() == 1) inputs[0] = {"", inputs[0].rows};
  return inputs;
}

Dataset open_npz(const fs::path& path, Split split) {
  const NpzFile file(path);
  const std::vector<std::string> names = file.names();
  const std::string part = split == Split::train ? "_train" : "_test";
  for (const std::string& suffix : {part, std::string()}) {
    if (!file.contains("y" + suffix)) continue;
    DataArray targets = file.open("y" + suffix);
    std::vector<Dataset::Input> inputs = inputs_of(file, suffix, &targets);
    if (!inputs.empty()) return Dataset(std::move(inputs), std::move(targets));
  }
  const auto ends_in_part = [&](const std::string& name) { return without(part, name).has_value(); };
  const bool has_part = std::any_of(names.begin(), names.end(), ends_in_part);
  if (names.size() == 2 && !has_part) {
    Dataset pair(file.open(names[0]), file.open(names[1]));
    pair.y_name = names[1];
    return pair;
  }
  const std::string_view other = split == Split::train ? "_test" : "_train";
  const auto is_of_other = [&](const std::string& name) { return name.ends_with(other); };
  if (has_part || std::none_of(names.begin(), names.end(), is_of_other)) {
    std::vector<Dataset::Input> inputs = inputs_of(file, has_part ? part : "", nullptr);
    if (!inputs.empty()) return Dataset(std::move(inputs));
  }
  throw_input_error(fmt::format("arrays x{0} and y{0}, or x and y, or just two, or y{0} and the model's inputs, in {1}",
                                part, path.string()),
                    names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")), "rename the arrays");
}

Dataset open_files(const DataSpec& spec) {
  if (spec.paths.empty()) throw_input_error("files of inputs and targets", "none", "name them");
  const std::string last = spec.names.size() == spec.paths.size() ? spec.names.back() : "";
  const bool targets = spec.paths.size() > 1 && last.empty();
  std::vector<Dataset::Input> inputs;
  for (std::size_t i = 0; i < spec.paths.size() - targets; ++i)
    inputs.push_back({i < spec.names.size() ? spec.names[i] : "", open_array(spec.paths[i])});
  if (!targets) return Dataset(std::move(inputs));
  return Dataset(std::move(inputs), open_array(spec.paths.back()));
}

Dataset open_table(const fs::path& path, CsvOptions options) {
  if (is_tab_separated(path.string())) options.delimiter = '\t';
  const bool classes_given = !options.classes.empty();
  const bool label_given = !options.label.empty();
  CsvTable table = open_csv(path, options);
  Dataset data(std::move(table.x), std::move(table.y));
  data.classes = std::move(table.classes);
  data.classes_given = classes_given;
  data.notices = std::move(table.notices);
  if (!label_given)
    data.label_hint = fmt::format("the labels are {}: --label-column names another column", table.label_column);
  return data;
}

}  // namespace

Dataset::Dataset(DataArray x_rows, DataArray y_rows)
    : Dataset(std::vector<Input>{{"", std::move(x_rows)}}, std::move(y_rows)) {}

Dataset::Dataset(std::vector<Input> inputs, std::optional<DataArray> y_rows)
    : x(std::move(inputs)), y(std::move(y_rows)) {
  const auto require_rows = [](const DataArray& array) {
    if (array.shape().rank() == 0)
      throw_input_error("an array whose first axis counts rows", array.name() + " is a scalar", "add an axis");
  };
  if (x.empty()) throw_input_error("rows for at least one input", "none", "give an array of inputs");
  if (y) require_rows(*y);
  for (const Input& input : x) require_rows(input.rows);
  const DataArray& first = y ? *y : x.front().rows;
  for (const Input& input : x)
    if (input.rows.rows() != first.rows())
      throw_input_error(
          y ? "as many rows in x as in y" : "as many rows in each input",
          fmt::format("{} in {} and {} in {}", input.rows.rows(), input.rows.name(), first.rows(), first.name()),
          "check that they belong together");
  if (first.rows() == 0)
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
  Dataset result = data;
  result.x.clear();
  for (std::size_t i = 0; i < inputs.size(); ++i) result.x.push_back({inputs[i], ordered[i]->rows});
  return result;
}

DataArray open_array(const fs::path& path) {
  // Only the first bytes matter here, and gzip files may be large: NPY is told by name when the file is compressed.
  const SharedBytes bytes = SharedBytes::of_file(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string name = path.filename().string();
  if (text.starts_with("\x93NUMPY") || name.ends_with(".npy") || name.ends_with(".npy.gz")) return open_npy(path);
  return open_idx(path);
}

namespace {

/// NAME=FILE or FILE, taken apart.
std::pair<std::string, std::string> name_and_file(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || is_there(text)) return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

bool is_array_file(std::string_view name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  return name.ends_with(".npy") || name.find("ubyte") != std::string_view::npos || name.ends_with(".idx");
}

DataSpec parse_files(const std::string& text) {
  DataSpec spec{DataSpec::Kind::files, {}, {}};
  for (std::size_t begin = 0, end = 0; end != std::string::npos; begin = end + 1) {
    end = text.find(',', begin);
    auto [name, file] = name_and_file(text.substr(begin, end - begin));
    if (file.empty())
      throw_input_error("files X,Y or NAME=X,NAME=X,Y", text, "give a file for each input, and last one of targets");
    spec.paths.emplace_back(std::move(file));
    spec.names.push_back(std::move(name));
  }
  for (const fs::path& path : spec.paths) require_exists(path);
  return spec;
}

}  // namespace

DataSpec parse_data_spec(const std::string& text) {
  if (!is_there(text) && (text.find(',') != std::string::npos || !name_and_file(text).first.empty()))
    return parse_files(text);
  require_exists(text);
  if (is_folder(text)) return {DataSpec::Kind::idx_directory, {text}};
  if (text.ends_with(".npz")) return {DataSpec::Kind::npz, {text}};
  if (is_table(text)) return {DataSpec::Kind::csv, {text}};
  if (is_array_file(text)) return {DataSpec::Kind::files, {text}, {""}};
  throw_input_error(fmt::format("data given as {}", kForms), text,
                    "name the files of inputs and targets, separated by commas");
}

std::vector<fs::path> files_of(const DataSpec& spec) {
  if (spec.kind != DataSpec::Kind::idx_directory) return spec.paths;
  std::vector<fs::path> files;
  std::error_code none;
  for (fs::directory_iterator entry(spec.paths.at(0), none), end; !none && entry != end; entry.increment(none)) {
    const std::string name = entry->path().filename().string();
    if (name.starts_with(kTrainPrefix) || name.starts_with(kTestPrefix)) files.push_back(entry->path());
  }
  return files;
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
