#include "cli/model_inputs.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/path_state.h"
#include "formats/npz.h"
#include <halfstep/base/error.h>
#include <halfstep/data/dataset.h>

namespace halfstep::cli {
namespace {

namespace fs = std::filesystem;

using Arrays = std::map<std::string, DataArray>;

std::vector<std::string> input_names(const Graph& graph) {
  std::vector<std::string> names;
  for (const ValueId id : graph.inputs) names.push_back(graph[id].name);
  return names;
}

void add_array(Arrays& arrays, const std::string& name, DataArray array) {
  if (!arrays.emplace(name, std::move(array)).second)
    throw_input_error("each model input once", fmt::format("'{}' twice", name), "check --input");
}

struct InputText {
  std::optional<std::string> name;
  fs::path path;
};

/// NAME=FILE or FILE.
InputText split_text(const std::string& text) {
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos || is_there(text)) return {{}, text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

void check_kind(const fs::path& path) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  const std::string extension = path.extension().string();
  if (folder || extension == ".csv" || extension == ".tsv")
    throw_input_error("an NPY, NPZ or IDX file of input", (folder ? "the folder " : "") + path.string(),
                      "save the input with numpy.save");
}

/// One --input: NAME=FILE, FILE for the first input without one, or an .npz whose arrays are named like inputs.
void add_input(Arrays& arrays, const std::vector<std::string>& names, const std::string& text) {
  const auto [input, path] = split_text(text);
  if (!is_there(path)) throw_input_error("a file of input", why_not_there(path), "check the path");
  check_kind(path);
  const bool archive = path.extension() == ".npz";
  if (input) {
    if (std::find(names.begin(), names.end(), *input) == names.end())
      throw_input_error(fmt::format("one of the model's inputs ({})", fmt::join(names, ", ")),
                        fmt::format("'{}'", *input), "check --input");
    return add_array(arrays, *input, archive ? NpzFile(path).open(*input) : open_array(path));
  }
  if (archive) {
    const NpzFile file(path);
    for (const std::string& name : names)
      if (file.contains(name)) add_array(arrays, name, file.open(name));
    return;
  }
  for (const std::string& name : names)
    if (!arrays.contains(name)) return add_array(arrays, name, open_array(path));
  throw_input_error(fmt::format("at most {} inputs ({})", names.size(), fmt::join(names, ", ")), text + " besides",
                    "check --input");
}

/// "none", or with the arrays of the archives among the inputs: "none in d.npz (x, y)".
std::string archived_names(const std::vector<std::string>& inputs) {
  std::string text = "none";
  for (const std::string& input : inputs)
    if (const fs::path path = split_text(input).path; path.extension() == ".npz")
      text += fmt::format(" in {} ({})", path.string(), fmt::join(NpzFile(path).names(), ", "));
  return text;
}

Arrays open_inputs(const std::vector<std::string>& names, const std::vector<std::string>& inputs) {
  Arrays arrays;
  for (const std::string& text : inputs) add_input(arrays, names, text);
  for (const std::string& name : names)
    if (!arrays.contains(name))
      throw_input_error(fmt::format("data for the model's input '{}'", name), archived_names(inputs),
                        fmt::format("--input {}=FILE.npy", name));
  return arrays;
}

/// Whether the array can be used as the input without conversion.
bool is_as_wanted(const DataArray& array, const Value& input, const InputOptions& options) {
  const bool kept = options.layout == LayoutChange::automatic || options.layout == LayoutChange::none;
  if (array.dtype() != input.dtype || options.scale || !options.mean.empty() || !options.stddev.empty() || !kept)
    return false;
  if (!input.shape.is_ranked()) return true;
  if (input.shape.rank() != array.shape().rank()) return false;
  for (std::size_t axis = 1; axis < input.shape.rank(); ++axis)
    if (input.shape[axis] != Shape::kUnknown && input.shape[axis] != array.shape()[axis]) return false;
  return true;
}

/// The whole array in the input's type and shape; unknown extents of the input come from the array.
Tensor to_input(const DataArray& array, const Value& input, const InputOptions& options) {
  if (is_as_wanted(array, input, options)) return array.load();
  if (array.shape().rank() == 0 || (input.shape.is_ranked() && input.shape.rank() == 0))
    throw_input_error(
        fmt::format("{} {} for the input '{}'", name_of(input.dtype), input.shape.to_string(), input.name),
        fmt::format("{} {} in {}", name_of(array.dtype()), array.shape().to_string(), array.name()),
        "convert the array");
  const Shape row = input.shape.is_ranked()
                        ? Shape(std::vector<std::int64_t>(input.shape.begin() + 1, input.shape.end()))
                        : Shape::unranked();
  const RowType wanted{input.dtype, row};
  const RowTransform transform = fit_input(array, wanted, options);
  std::vector<std::int64_t> shape{array.rows()};
  shape.insert(shape.end(), transform.to.shape.begin(), transform.to.shape.end());
  std::vector<std::int64_t> rows(static_cast<std::size_t>(array.rows()));
  std::iota(rows.begin(), rows.end(), 0);
  Tensor result(transform.to.dtype, Shape(std::move(shape)));
  transform.apply(array.load().raw(), rows, result.raw());
  return result;
}

}  // namespace

std::vector<fs::path> input_files(const std::vector<std::string>& texts) {
  std::vector<fs::path> files;
  for (const std::string& text : texts) files.push_back(split_text(text).path);
  return files;
}

std::map<std::string, Tensor> read_inputs(const Graph& graph, const std::vector<std::string>& texts,
                                          const InputOptions& options) {
  const Arrays arrays = open_inputs(input_names(graph), texts);
  const bool any_float =
      std::any_of(graph.inputs.begin(), graph.inputs.end(), [&](ValueId id) { return is_float(graph[id].dtype); });
  std::map<std::string, Tensor> tensors;
  for (const ValueId id : graph.inputs) {
    // Indices next to images are not transformed.
    const bool kept = any_float && !is_float(graph[id].dtype);
    tensors[graph[id].name] = to_input(arrays.at(graph[id].name), graph[id], kept ? InputOptions{} : options);
  }
  return tensors;
}

}  // namespace halfstep::cli
