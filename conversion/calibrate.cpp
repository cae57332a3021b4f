#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "conversion/content.h"
#include "conversion/stored_tensors.h"
#include <halfstep/base/error.h>
#include <halfstep/conversion/calibrate.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/session/session.h>

namespace halfstep {
namespace {

using Outputs = std::vector<std::pair<std::string, Tensor>>;

Graph graph_of(const ModelFile& model) {
  onnx::ModelProto message = model.content().source.model;
  conversion::attach(message, model.content().source, true);
  return load_model_from_bytes(serialize_message(message)).graph;
}

InputShapes shapes_of(const NamedTensors& inputs) {
  InputShapes shapes;
  for (const auto& [name, tensor] : inputs) shapes.by_name[name] = tensor.shape();
  return shapes;
}

// Runs the graph, whose inputs may have types other than the given ones.
Outputs run(const Graph& graph, const NamedTensors& inputs, Executor& executor) {
  const std::unique_ptr<StateStore> store = executor.make_store();
  const std::unique_ptr<Program> program = executor.compile(graph, *store);
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const Tensor& given = inputs.at(graph[graph.inputs[i]].name);
    Tensor to = program->input(i);
    const Tensor from = given.dtype() == to.dtype() ? given : convert(given, to.dtype());
    std::memcpy(to.raw(), from.raw(), from.bytes());
  }
  program->run();
  Outputs outputs;
  for (std::size_t i = 0; i < graph.outputs.size(); ++i)
    outputs.emplace_back(graph[graph.outputs[i]].name, program->output(i).clone());
  return outputs;
}

Outputs run_model(Graph graph, const NamedTensors& inputs, Executor& executor) {
  Session session(std::move(graph), executor);
  const NamedTensors results = session.run(inputs);
  Outputs outputs;
  for (const TensorInfo& type : session.outputs()) outputs.emplace_back(type.name, results.at(type.name));
  return outputs;
}

std::vector<OutputError> differences(const Outputs& source, const Outputs& converted) {
  std::vector<OutputError> errors;
  for (std::size_t i = 0; i < source.size() && i < converted.size(); ++i) {
    const Tensor& a = source[i].second;
    const Tensor& b = converted[i].second;
    OutputError error{.name = source[i].first};
    if (!is_float(a.dtype()) && !is_integer(a.dtype()) && a.dtype() != DType::boolean) continue;
    const std::vector<double> x = to_doubles(a), y = to_doubles(b);
    if (x.size() != y.size()) {  // a data-dependent shape differs
      error.max_error = error.mean_error = INFINITY;
      errors.push_back(std::move(error));
      continue;
    }
    for (std::size_t k = 0; k < x.size(); ++k) {
      const bool same = x[k] == y[k] || (std::isnan(x[k]) && std::isnan(y[k]));
      double difference = same ? 0 : std::abs(x[k] - y[k]);
      if (std::isnan(difference)) difference = INFINITY;
      error.non_finite += std::isfinite(x[k]) && !std::isfinite(y[k]);
      error.max_error = std::max(error.max_error, difference);
      error.mean_error += difference / static_cast<double>(x.size());
      if (std::isfinite(x[k])) error.max_value = std::max(error.max_value, std::abs(x[k]));
    }
    errors.push_back(std::move(error));
  }
  return errors;
}

double worst(const std::vector<OutputError>& errors) {
  double result = 0;
  for (const OutputError& error : errors) result = std::max(result, error.non_finite > 0 ? INFINITY : error.relative());
  return result;
}

// A regular expression that matches exactly this text.
std::string literal(const std::string& text) {
  std::string expression;
  for (char c : text) {
    if (std::strchr(R"(\^$.|?*+()[]{}/)", c)) expression += '\\';
    expression += c;
  }
  return expression;
}

class Search {
 public:
  Search(const ModelFile& model, const ConvertOptions& options, const NamedTensors& inputs, Executor& executor,
         const SearchOptions& search)
      : model_(model),
        options_(options),
        inputs_(inputs),
        executor_(executor),
        search_(search),
        reference_(run_model(graph_of(model), inputs, executor)) {}

  SearchResult run() {
    SearchResult best = attempt({});
    for (const NodeReport& node : best.conversion.report().nodes)
      if (node.half && node.op != "Cast") candidates_.push_back(node.name);
    if (within(best)) return finish(std::move(best), {}, true);
    std::vector<std::string> kept = candidates_;
    best = attempt(kept);
    if (!within(best))
      throw_failure(fmt::format("outputs within {:g} of f32", search_.max_error),
                    fmt::format("{:.3g} with every node in f32: the error comes from weights and inputs", best.error),
                    "allow a larger error, or keep the types of inputs and outputs");
    for (std::size_t group = std::max<std::size_t>(1, kept.size() / 2);; group = (group + 1) / 2) {
      for (std::size_t start = 0; start < kept.size();) {
        if (search_.stop && *search_.stop) return finish(std::move(best), std::move(kept), false);
        const std::size_t end = std::min(kept.size(), start + group);
        std::vector<std::string> fewer(kept.begin(), kept.begin() + static_cast<std::ptrdiff_t>(start));
        fewer.insert(fewer.end(), kept.begin() + static_cast<std::ptrdiff_t>(end), kept.end());
        SearchResult trial = attempt(fewer);
        if (within(trial)) {
          best = std::move(trial);
          kept = std::move(fewer);
        } else {
          start = end;
        }
        if (search_.on_trial)
          search_.on_trial(trials_, static_cast<int>(kept.size()), static_cast<int>(candidates_.size()), best.error);
      }
      if (group == 1) break;
    }
    return finish(std::move(best), std::move(kept), true);
  }

 private:
  // Overflow is not accepted even with an infinite bound.
  bool within(const SearchResult& result) const {
    return result.error <= search_.max_error && std::isfinite(result.error);
  }

  SearchResult attempt(const std::vector<std::string>& kept) {
    ++trials_;
    ConvertOptions options = options_;
    for (const std::string& name : kept) options.keep_f32.push_back({NodePattern::Kind::node, literal(name)});
    SearchResult result{.conversion = convert(model_, options)};
    const Outputs outputs = run_model(load_model_from_bytes(result.conversion.bytes()).graph, inputs_, executor_);
    result.error = worst(differences(reference_, outputs));
    return result;
  }

  SearchResult finish(SearchResult result, std::vector<std::string> kept, bool complete) const {
    result.trials = trials_;
    result.kept = std::move(kept);
    result.complete = complete;
    return result;
  }

  const ModelFile& model_;
  const ConvertOptions& options_;
  const NamedTensors& inputs_;
  Executor& executor_;
  const SearchOptions& search_;
  Outputs reference_;
  std::vector<std::string> candidates_;
  int trials_ = 0;
};

}  // namespace

ActivationRanges measure_ranges(const ModelFile& model, const NamedTensors& inputs, Executor& executor) {
  Graph graph = run_pipeline(graph_of(model), {bind_shapes(shapes_of(inputs)), to_inference_mode(), fold_constants()});
  std::set<ValueId> outputs(graph.outputs.begin(), graph.outputs.end());
  ActivationRanges ranges;
  for (const ValueId in : graph.inputs)
    if (graph[in].dtype == DType::f32) ranges[graph[in].name] = range_of(inputs.at(graph[in].name));
  for (const Node& node : graph.nodes)
    for (const ValueId out : node.outputs)
      if (out != kNoValue && graph[out].dtype == DType::f32 && outputs.insert(out).second) graph.outputs.push_back(out);
  for (const auto& [name, tensor] : run(graph, inputs, executor))
    if (tensor.dtype() == DType::f32) ranges[name] = range_of(tensor);
  return ranges;
}

std::vector<OutputError> compare_outputs(const ModelFile& model, const Conversion& conversion,
                                         const NamedTensors& inputs, Executor& executor) {
  return differences(run_model(graph_of(model), inputs, executor),
                     run_model(load_model_from_bytes(conversion.bytes()).graph, inputs, executor));
}

SearchResult search_precision(const ModelFile& model, const ConvertOptions& options, const NamedTensors& inputs,
                              Executor& executor, const SearchOptions& search) {
  return Search(model, options, inputs, executor, search).run();
}

}  // namespace halfstep
