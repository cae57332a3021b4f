#include "conformance/training_check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "conformance/attempt.h"
#include "conformance/cases.h"
#include "conformance/compare.h"
#include "conformance/run_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/pipelines.h>

namespace halfstep {

/// A model in ONNX's text form, whose first input is the batch; the other inputs are its parameters.
struct TrainedModel {
  std::string_view name;
  std::string_view text;
  std::int64_t classes;
  OptimizerOptions optimizer;
  bool meets_infinity;  ///< one batch holds an infinity, so that its update must be skipped
  double learning_rate;
};

namespace {

constexpr std::int64_t kBatch = 12, kLastBatch = 5;
constexpr int kSteps = 10, kInfiniteStep = 4;
// Both sides round each value of a step once to its type, from sums that are taken in another order; a path from a
// parameter to its gradient has about so many roundings. What comes of them is relative to how far a state has moved,
// and each step rounds the state itself to f32.
constexpr double kRoundings = 16;
// Adam divides by the size of a gradient. With its usual epsilon the rounding of one near 0 would move a parameter as
// far as any other gradient does.
constexpr double kEpsilon = 1e-2;

const TrainedModel kMlp{
    .name = "mlp",
    .text =
        "(float[N,19] x, float[19,70] w1, float[70] b1, float[70,33] w2, float[33] b2, float[33,5] w3, float[5] b3)"
        " => (float[N,5] y) "
        "{ h1 = Gemm(x, w1, b1) r1 = Relu(h1) h2 = Gemm(r1, w2, b2) r2 = Tanh(h2) y = Gemm(r2, w3, b3) }",
    .classes = 5,
    .optimizer = {.name = "adam", .numbers = {{"epsilon", kEpsilon}}, .clip_norm = 1},
    .meets_infinity = true,
    .learning_rate = 3e-3};

const TrainedModel kConvolutional{
    .name = "convolutional",
    .text =
        "(float[N,3,11,11] x, float[18,3,3,3] w1, float[18] s1, float[18] t1, float[18] m1, float[18] v1, "
        "float[18,1,3,3] w2, float[18] b2, float[18,7] w3, float[7] b3) => (float[N,7] y) "
        "{ c1 = Conv<pads = [1, 1, 1, 1]>(x, w1) n1 = BatchNormalization(c1, s1, t1, m1, v1) r1 = Relu(n1) "
        "p1 = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r1) c2 = Conv<group = 18>(p1, w2, b2) "
        "r2 = Sigmoid(c2) p2 = GlobalAveragePool(r2) f = Flatten(p2) y = Gemm(f, w3, b3) }",
    .classes = 7,
    .optimizer = {.name = "sgd", .numbers = {{"momentum", 0.9}}, .accumulate = 2},
    .meets_infinity = false,
    .learning_rate = 0.05};

const TrainedModel kLstm{
    .name = "lstm",
    .text =
        "(float[N,6,9] x, float[1,68,9] w, float[1,68,17] r, float[1,136] b, float[17] s1, float[17] t1, float[17,4] "
        "u, float[4] c) => "
        "(float[N,4] y) <int64[1] axes = {0}> "
        "{ t = Transpose<perm = [1, 0, 2]>(x) all, last, cell = LSTM<hidden_size = 17>(t, w, r, b) "
        "h = Squeeze(last, axes) n = LayerNormalization(h, s1, t1) y = Gemm(n, u, c) }",
    .classes = 4,
    .optimizer = {.name = "adamw", .numbers = {{"epsilon", kEpsilon}}},
    .meets_infinity = true,
    .learning_rate = 3e-3};

constexpr const TrainedModel* kModels[] = {&kMlp, &kConvolutional, &kLstm};

/// Scales and variances begin near 1, means at 0, the others within what a layer of their size would begin with.
Tensor first_values(const std::string& name, const Shape& shape, std::uint64_t seed) {
  if (name[0] == 's' || name[0] == 'v') return draw_uniform(DType::f32, shape, 0.8, 1.2, seed);
  if (name[0] == 'm') return Tensor(DType::f32, shape);
  const std::int64_t others = shape.rank() == 0 ? 1 : shape.count() / shape[shape.rank() == 4 ? 0 : shape.rank() - 1];
  const double bound = 1 / std::sqrt(static_cast<double>(std::max<std::int64_t>(others, 4)));
  return draw_uniform(DType::f32, shape, -bound, bound, seed);
}

Graph make_model(const TrainedModel& model) {
  Graph graph = parse_case(model.text);
  for (std::size_t i = 1; i < graph.inputs.size(); ++i) {
    Value& parameter = graph[graph.inputs[i]];
    parameter.constant = first_values(parameter.name, parameter.shape, 100 + i);
    parameter.is_initializer = true;
  }
  graph.inputs.resize(1);
  return graph;
}

StepOptions step_options(const TrainedModel& model, DType precision, std::int64_t rows) {
  StepOptions options;
  options.loss.terms[0].label_shape = {rows};
  options.precision = precision;
  options.optimizer = model.optimizer;
  options.optimizer.loss_scale.enabled = precision == DType::f16;
  options.shapes.batch = rows;
  return options;
}

/// Draws a batch; labels follow from the sign of x's first elements, so that there is something to learn.
void fill(Program& program, const Graph& graph, const TrainedModel& model, int step, bool update) {
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    Tensor to = program.input(i);
    const ValueId id = graph.inputs[i];
    if (id == graph.find(StepRole::learning_rate)) {
      *to.data<float>() = static_cast<float>(model.learning_rate);
    } else if (id == graph.find(StepRole::update)) {
      *to.data<bool>() = update;
    } else if (id == graph.find(StepRole::labels)) {
      const Tensor x = draw_uniform(DType::f32, {to.count(), 3}, -1, 1, static_cast<std::uint64_t>(step));
      for (std::int64_t row = 0; row < to.count(); ++row)
        to.data<std::int64_t>()[row] =
            (4 * (x.data<float>()[3 * row] > 0) + 2 * (x.data<float>()[3 * row + 1] > 0) + row % 2) % model.classes;
    } else {
      copy_elements(to, draw_uniform(to.dtype(), to.shape(), -1, 1, static_cast<std::uint64_t>(step)));
      if (model.meets_infinity && step == kInfiniteStep)
        to.data<float>()[to.count() / 2] = std::numeric_limits<float>::infinity();
    }
  }
}

struct History {
  std::vector<double> losses;  ///< of every step and of the evaluation
  Tensor prediction;
  std::map<std::string, Tensor> first, last;  ///< the states
  std::string kernels;
  std::string fault;  ///< what cannot be right, whatever another executor gives
};

std::map<std::string, Tensor> read_all(const StateStore& store) {
  std::map<std::string, Tensor> states;
  for (const std::string& name : store.names()) states.emplace(name, store.read(name));
  return states;
}

bool is_parameter_of(const Graph& graph, const std::string& name) {
  const std::ptrdiff_t state = graph.state_of(graph.find(name));
  return state >= 0 && graph.states[state].role == StateRole::parameter;
}

History train(const TrainedModel& model, DType precision, Executor& executor) {
  const Graph source = make_model(model);
  const auto step_for = [&](std::int64_t rows) {
    return run_pipeline(
        source, whole_pipeline(Purpose::training, step_options(model, precision, rows), executor.capabilities()));
  };
  const Graph full = step_for(kBatch), smaller = step_for(kLastBatch),
              evaluation = run_pipeline(
                  source,
                  whole_pipeline(Purpose::validation, step_options(model, precision, kBatch), executor.capabilities()));
  const auto store = executor.make_store();
  const auto step = executor.compile(full, *store), last_step = executor.compile(smaller, *store),
             evaluate = executor.compile(evaluation, *store);
  History history{.losses = {}, .prediction = {}, .first = read_all(*store), .last = {}, .kernels = {}, .fault = {}};
  history.kernels = kernel_families(step->plan());
  for (int i = 0; i < kSteps; ++i) {
    const bool is_last = i + 1 == kSteps;
    const bool update = (i + 1) % model.optimizer.accumulate == 0;
    const bool skipped = model.meets_infinity && i == kInfiniteStep;
    const std::map<std::string, Tensor> before = read_all(*store);
    Program& program = is_last ? *last_step : *step;
    fill(program, is_last ? smaller : full, model, i, update);
    program.run();
    history.losses.push_back(to_doubles(program.output(0))[0]);
    for (const auto& [name, value] : before)
      if (is_parameter_of(full, name) && identical(value, store->read(name)) != (skipped || !update) &&
          history.fault.empty())
        history.fault = fmt::format("step {}: parameter '{}' {}", i + 1, name,
                                    skipped  ? "moved by gradients that are not finite"
                                    : update ? "did not move"
                                             : "moved while gradients were to be accumulated");
  }
  fill(*evaluate, evaluation, model, 0, false);
  evaluate->run();
  history.losses.push_back(to_doubles(evaluate->output(0))[0]);
  history.prediction = evaluate->output(1).clone();
  history.last = read_all(*store);
  return history;
}

double norm(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += x * x;
  return std::sqrt(sum);
}

std::vector<double> minus(std::vector<double> a, const std::vector<double>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return a;
}

std::string compare(const History& found, const History& wanted, DType precision) {
  if (!found.fault.empty()) return found.fault;
  // Losses and states are f32 at least and at most.
  const double allowed = kRoundings * std::max(precision_of(precision), precision_of(DType::f32));
  for (std::size_t i = 0; i < wanted.losses.size(); ++i) {
    const double f = found.losses[i], w = wanted.losses[i];
    const bool agree = std::isfinite(w) ? std::fabs(f - w) <= allowed * std::fabs(w) : !std::isfinite(f);
    if (!agree)
      return fmt::format("loss {} of {}: {:.9g}, and {:.9g} on the reference executor (allowed: {:.3g})", i + 1,
                         wanted.losses.size(), f, w, allowed * std::fabs(w));
  }
  for (const auto& [name, last] : wanted.last) {
    const auto it = found.last.find(name);
    if (it == found.last.end()) return fmt::format("no state '{}'", name);
    const std::vector<double> w = to_doubles(last), f = to_doubles(it->second);
    if (f.size() != w.size()) return fmt::format("state '{}' has {} elements, and {}", name, f.size(), w.size());
    const double distance = norm(minus(f, w)), moved = norm(minus(w, to_doubles(wanted.first.at(name)))),
                 most = allowed * moved + kSteps * precision_of(DType::f32) * norm(w);
    if (!(distance <= most))
      return fmt::format(
          "state '{}' moved by {:.9g}, and ended {:.3g} from that on the reference executor "
          "(allowed: {:.3g})",
          name, moved, distance, most);
  }
  const std::vector<double> f = to_doubles(found.prediction), w = to_doubles(wanted.prediction);
  if (!(norm(minus(f, w)) <= allowed * norm(w)))
    return fmt::format("the evaluation's output is {:.3g} from that on the reference executor (allowed: {:.3g})",
                       norm(minus(f, w)), allowed * norm(w));
  return {};
}

bool computes_in(const Capabilities& capabilities, DType dtype) {
  return dtype == DType::f32 || capabilities.auto_precision == dtype ||
         std::any_of(capabilities.native.begin(), capabilities.native.end(),
                     [&](const auto& native) { return native.second == dtype; });
}

}  // namespace

std::span<const TrainedModel* const> trained_models() { return kModels; }
std::string_view name_of(const TrainedModel& model) { return model.name; }

CheckReport check_training(const TrainedModel& model, DType precision, Executor& executor) {
  const CheckReport empty{
      .op = {}, .case_name = fmt::format("training/{}", model.name), .kind = CheckKind::training, .dtype = precision};
  return attempt(empty, [&](CheckReport& report) {
    try {
      const History found = train(model, precision, executor);
      report.kernels = found.kernels;
      return compare(found, train(model, precision, *make_reference_executor()), precision);
    } catch (const Error& e) {
      if (computes_in(executor.capabilities(), precision)) throw;
      return leave_out(report, e.what());
    }
  });
}

}  // namespace halfstep
