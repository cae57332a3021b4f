#include <algorithm>
#include <string_view>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/path_state.h"
#include <halfstep/base/error.h>
#include <halfstep/data/dataset.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

/// Name of the labels of a row source.
constexpr const char* kLabels = "labels";

constexpr const char* kManyForms =
    "give them as NAME=FILE,NAME=FILE,TARGETS, or as arrays of these names beside one called y in an NPZ file";

void require_exists(const fs::path& path) {
  if (!is_there(path)) throw_input_error("a data file", why_not_there(path), "check the path");
}

/// The part of `name` before `suffix`, if it ends in that.
std::optional<std::string> without(const std::string& suffix, const std::string& name) {
  if (!name.ends_with(suffix) || name.size() == suffix.size()) return std::nullopt;
  return name.substr(0, name.size() - suffix.size());
}

bool contains(const NamedArrays& file, const std::string& name) {
  return std::find(file.names.begin(), file.names.end(), name) != file.names.end();
}

/// Arrays `x` and others as inputs, those of as many rows as `targets`, or else as `x` or the first, where there is a
/// suffix to tell them by.
std::vector<Dataset::Input> inputs_of(const NamedArrays& file, const std::string& suffix, const DataArray* targets,
                                      std::vector<std::string>& notices) {
  const std::string x = "x" + suffix, y = "y" + suffix;
  std::vector<Dataset::Input> inputs;
  std::optional<std::int64_t> rows;
  if (targets) rows = targets->rows();
  // What else is kept with the data is no input.
  const auto open = [&](const std::string& array, bool optional) -> std::optional<DataArray> {
    try {
      return optional && file.open_later ? file.open_later(array) : file.open(array);
    } catch (const Error& error) {
      if (!optional || error.kind() != Error::Kind::input) throw;
      notices.push_back(
          fmt::format("array '{}' is left out: expected {}, got {}", array, error.required(), error.found()));
      return std::nullopt;
    }
  };
  const auto add = [&](const std::string& input, const std::string& array, bool optional) {
    std::optional<DataArray> data = open(array, optional);
    if (!data || (optional && (data->shape().rank() == 0 || (rows && data->rows() != *rows)))) return;
    if (!rows) rows = data->rows();
    inputs.push_back({input, std::move(*data), optional});
  };
  if (contains(file, x)) add("", x, false);
  for (const std::string& name : file.names) {
    const auto input = without(suffix, name);
    if (input && name != x && name != y) add(*input, name, /*optional=*/true);
  }
  if (inputs.size() == 1) inputs[0] = {"", inputs[0].rows};
  return inputs;
}

Dataset from_arrays(const fs::path& path, const NamedArrays& file, Split split, std::vector<std::string>& notices) {
  const std::vector<std::string>& names = file.names;
  const std::string part = split == Split::train ? "_train" : "_test";
  for (const std::string& suffix : {part, std::string()}) {
    if (!contains(file, "y" + suffix)) continue;
    DataArray targets = file.open("y" + suffix);
    std::vector<Dataset::Input> inputs = inputs_of(file, suffix, &targets, notices);
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
    std::vector<Dataset::Input> inputs = inputs_of(file, has_part ? part : "", nullptr, notices);
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

namespace {

std::vector<Dataset::Input> inputs_of(const std::shared_ptr<RowSource>& source) {
  std::vector<Dataset::Input> inputs;
  for (const auto& [name, type] : source->types())
    if (name != kLabels) inputs.push_back({name, DataArray::of(source, name)});
  return inputs;
}

std::optional<DataArray> labels_of(const std::shared_ptr<RowSource>& source) {
  if (!source->types().contains(kLabels)) return {};
  return DataArray::of(source, kLabels);
}

}  // namespace

Dataset::Dataset(std::shared_ptr<RowSource> source) : Dataset(inputs_of(source), labels_of(source)) {}

Dataset in_order_of(const std::vector<std::string>& inputs, const Dataset& data) {
  std::vector<const Dataset::Input*> ordered(inputs.size()), unnamed;
  std::vector<std::string> left;
  bool fits = true;
  for (const Dataset::Input& x : data.x) {
    const auto place = std::find(inputs.begin(), inputs.end(), x.name);
    if (x.name.empty()) {
      unnamed.push_back(&x);
    } else if (place != inputs.end() && !ordered[place - inputs.begin()]) {
      ordered[place - inputs.begin()] = &x;
    } else {
      fits = fits && x.optional;
      left.push_back(x.name);
    }
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
  if (!data.y && !left.empty()) result.label_hint = fmt::format("other arrays there: {}", fmt::join(left, ", "));
  result.x.clear();
  for (std::size_t i = 0; i < inputs.size(); ++i) result.x.push_back({inputs[i], ordered[i]->rows});
  return result;
}

Dataset with_labels(Dataset data, const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (std::ranges::find(data.labels, name, &Dataset::Input::name) != data.labels.end()) continue;
    const auto at = std::ranges::find(data.x, name, &Dataset::Input::name);
    if (at == data.x.end()) {
      std::vector<std::string> known;
      for (const Dataset::Input& x : data.x)
        if (!x.name.empty()) known.push_back(x.name);
      throw_input_error(fmt::format("labels '{}' in the data", name),
                        known.empty() ? "no arrays with names" : fmt::format("{}", fmt::join(known, ", ")),
                        "give them as NAME=FILE, or as an array of that name in an NPZ file");
    }
    data.labels.push_back(std::move(*at));
    data.x.erase(at);
  }
  if (data.x.empty()) throw_input_error("rows for at least one input", "labels alone", "give an array of inputs");
  return data;
}

namespace {

/// Splits NAME=FILE or FILE.
std::pair<std::string, std::string> name_and_file(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || is_there(text)) return {"", text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

DataSpec parse_files(const std::string& text) {
  DataSpec spec;
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
  const DataFormat* format = format_of(text);
  if (!format)
    throw_input_error(fmt::format("data given as X,Y (each {}), {}", describe_array_formats(), describe_set_formats()),
                      text, "name the files of inputs and targets, separated by commas");
  if (format->open_array) return {.format = nullptr, .paths = {text}, .names = {""}};
  return {.format = format, .paths = {text}};
}

std::vector<fs::path> files_of(const DataSpec& spec) {
  return spec.format && spec.format->files ? spec.format->files(spec.paths.at(0)) : spec.paths;
}

Dataset open_dataset(const DataSpec& spec, Split split, const CsvOptions& csv) {
  return open_dataset(spec, {.split = split, .table = csv});
}

Dataset open_dataset(const DataSpec& spec, const DataOptions& options) {
  if (!spec.format) return open_files(spec);
  const fs::path& path = spec.paths.at(0);
  const NamedArrays file = spec.format->open_arrays(path, options);
  std::vector<std::string> notices = file.notices;
  Dataset data = from_arrays(path, file, options.split, notices);
  data.classes = file.classes;
  data.classes_given = !options.table.classes.empty();
  data.label_hint = file.label_hint;
  data.notices = std::move(notices);
  data.settings = file.settings;
  return data;
}

}  // namespace halfstep
