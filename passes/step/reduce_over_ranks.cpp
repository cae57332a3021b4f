#include "passes/step/reduce_over_ranks.h"

#include <algorithm>
#include <map>
#include <utility>

#include "graph/placeholder.h"
#include "ops/collective/all_reduce.h"
#include "passes/step/step_values.h"
#include "passes/step/step_writing.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/builder.h>

namespace halfstep {
namespace {

Expr element(Expr vector, std::size_t i) {
  Builder& b = vector.builder();
  return b.op("Gather", {vector, b.scalar(static_cast<double>(i), DType::i64)});
}

void share(Graph& graph, const std::vector<double>& weights) {
  const StepValues step(graph);
  if (step.loss == kNoValue) throw_failure("a graph with a loss", "one without", "attach the loss first");
  Builder b(graph);
  b.set_context("shares");
  const std::size_t terms = std::max<std::size_t>(1, step.terms.size());
  const Expr shares =
      as(StepRole::loss_shares,
         b.expr(graph.add_input("loss_shares", DType::f32, Shape{static_cast<std::int64_t>(terms) + 1})));
  const auto replace = [&](ValueId from, Expr to) {
    const std::string name = graph[from].name;
    graph.replace_references(from, to.id());
    graph.rename(from, name + ".own");
    graph.rename(to.id(), name);
  };
  const auto shared = [&](ValueId id, std::size_t term) {
    const Expr value = b.expr(id);
    return value * b.cast(element(shares, term), value.dtype());
  };
  if (step.terms.empty()) return replace(step.loss, shared(step.loss, 0));
  Expr sum;
  for (std::size_t i = 0; i < terms; ++i) {
    const Expr term = shared(step.terms[i], i);
    const Expr weighted = weights[i] == 1 ? term : term * weights[i];
    sum = sum ? sum + b.cast(weighted, sum.dtype()) : weighted;
    replace(step.terms[i], term);
  }
  replace(step.loss, b.cast(sum, graph[step.loss].dtype));
}

/// What is reduced together.
struct Bucket {
  std::vector<std::size_t> states = {};  ///< of parameters
  std::ptrdiff_t last = -1;              ///< the node behind which all of their gradients are there
};

class Reduction {
 public:
  Reduction(Graph& graph, const RankOptions& options) : graph_(graph), options_(options), b_(graph) {}

  void write() {
    const StepValues step(graph_);
    std::vector<ValueId> numbers;  // the loss and its terms
    if (step.loss != kNoValue) numbers.push_back(step.loss);
    numbers.insert(numbers.end(), step.terms.begin(), step.terms.end());
    const std::vector<Bucket> buckets = options_.buckets.empty() ? chosen() : given();
    std::ptrdiff_t loss_at = -1;
    for (const ValueId id : numbers) loss_at = std::max(loss_at, graph_.producer_index(id));

    std::vector<Node> nodes = graph_.take_nodes();
    std::size_t next = 0;
    bool loss_started = numbers.empty();
    const auto start_due = [&](std::ptrdiff_t done) {
      if (!loss_started && loss_at <= done) {
        start_loss(numbers);
        loss_started = true;
      }
      // Every rank starts them in this order.
      for (; loss_started && next < buckets.size() && buckets[next].last <= done; ++next) start(buckets[next]);
    };
    start_due(-1);
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      const bool starts = starts_all_reduce(nodes[i]);
      if (starts) nodes[i].inputs[0] = last_.id();
      graph_.append(std::move(nodes[i]));
      if (starts) last_ = b_.expr(graph_.nodes.back().outputs[0]);
      start_due(static_cast<std::ptrdiff_t>(i));
    }
    finish(numbers, buckets);
  }

 private:
  struct Gradient {
    std::size_t state;
    std::ptrdiff_t at;
  };

  std::vector<Gradient> gradients() const {
    std::vector<Gradient> result;
    for (std::size_t i = 0; i < graph_.states.size(); ++i)
      if (graph_.states[i].gradient != kNoValue)
        result.push_back({i, graph_.producer_index(graph_.states[i].gradient)});
    std::ranges::stable_sort(result, {}, &Gradient::at);
    return result;
  }

  const Value& gradient_of(std::size_t state) const { return graph_[graph_.states[state].gradient]; }

  std::vector<Bucket> chosen() const {
    const std::vector<Gradient> all = gradients();
    std::vector<TensorInfo> types;
    for (const Gradient& one : all) {
      const Value& gradient = gradient_of(one.state);
      types.push_back({gradient.name, gradient.dtype, gradient.shape});
    }
    std::vector<Bucket> buckets;
    for (const std::vector<std::size_t>& numbers : in_buckets(types, options_.bucket_bytes)) {
      Bucket& bucket = buckets.emplace_back();
      for (const std::size_t i : numbers) {
        bucket.states.push_back(all[i].state);
        bucket.last = std::max(bucket.last, all[i].at);
      }
    }
    return buckets;
  }

  std::vector<Bucket> given() const {
    std::map<std::string, Gradient> by_name;
    for (const Gradient& gradient : gradients()) by_name[graph_[graph_.states[gradient.state].value].name] = gradient;
    std::vector<Bucket> buckets;
    for (const std::vector<std::string>& names : options_.buckets) {
      Bucket& bucket = buckets.emplace_back();
      for (const std::string& name : names) {
        const auto at = by_name.find(name);
        if (at == by_name.end()) continue;
        bucket.states.push_back(at->second.state);
        bucket.last = std::max(bucket.last, at->second.at);
        by_name.erase(at);
      }
      if (bucket.states.empty()) buckets.pop_back();
    }
    if (!by_name.empty())
      throw_failure("a bucket for each parameter that has a gradient", "none for '" + by_name.begin()->first + "'", "");
    return buckets;
  }

  void start(std::vector<Expr> tensors, std::vector<std::string> names) {
    b_.set_context("all_reduce");
    tensors.insert(tensors.begin(), last_);
    Attributes attributes;
    if (!names.empty()) attributes.set("parameters", std::move(names));
    started_.push_back(b_.own("StartAllReduce", std::move(tensors), std::move(attributes)));
    last_ = started_.back();
  }

  void start(const Bucket& bucket) {
    std::vector<Expr> tensors;
    std::vector<std::string> names;
    for (const std::size_t state : bucket.states) {
      names.push_back(graph_[graph_.states[state].value].name);
      const Expr gradient = b_.expr(graph_.states[state].gradient);
      tensors.push_back(is_half(options_.gradient_dtype) ? rounded(gradient, names.back()) : gradient);
    }
    start(std::move(tensors), std::move(names));
  }

  /// The gradient and what is left of former ones, in the type that travels; what that lacks of it is left for the
  /// next. It is kept without the loss scale, which may change in between.
  Expr rounded(Expr gradient, const std::string& parameter) {
    b_.set_context("gradient_residual");
    const StateSlot residual = add_state(b_, std::string(kResidualPrefix) + parameter,
                                         zeros_of(gradient.dtype(), gradient.shape()), StateRole::residual);
    const ValueId scale = graph_.find(StepRole::loss_scale);
    const Expr factor = scale == kNoValue ? Expr() : b_.cast(b_.expr(scale), gradient.dtype());
    const Expr sum = gradient + (factor ? residual.now * factor : residual.now);
    const Expr sent = b_.cast(sum, options_.gradient_dtype);
    const Expr left = sum - b_.cast(sent, gradient.dtype());
    set_next(b_, residual, factor ? left / factor : left);
    return sent;
  }

  void start_loss(const std::vector<ValueId>& numbers) {
    const DType dtype = graph_[numbers[0]].dtype == DType::f64 ? DType::f64 : DType::f32;
    std::vector<Expr> tensors;
    for (const ValueId id : numbers) tensors.push_back(b_.cast(b_.expr(id), dtype));
    start(std::move(tensors), {});
  }

  std::vector<Expr> finish(Expr joined, const std::vector<Shape>& shapes) {
    return b_.multi("FinishAllReduce", kOwnDomain, {joined}, shapes.size(), {{"shapes", flattened(shapes)}});
  }

  void finish(const std::vector<ValueId>& numbers, const std::vector<Bucket>& buckets) {
    std::size_t next = 0;
    if (!numbers.empty()) {
      std::vector<Shape> shapes;
      for (const ValueId id : numbers) shapes.push_back(graph_[id].shape);
      const std::vector<Expr> sums = finish(started_[next++], shapes);
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        const Expr sum = b_.cast(sums[i], graph_[numbers[i]].dtype);
        const std::string name = graph_[numbers[i]].name;
        graph_.replace_references(numbers[i], sum.id());
        graph_.rename(numbers[i], name + ".share");
        graph_.rename(sum.id(), name);
      }
    }
    for (const Bucket& bucket : buckets) {
      std::vector<Shape> shapes;
      for (const std::size_t state : bucket.states) shapes.push_back(gradient_of(state).shape);
      const std::vector<Expr> sums = finish(started_[next++], shapes);
      for (std::size_t i = 0; i < bucket.states.size(); ++i)
        graph_.states[bucket.states[i]].gradient = b_.cast(sums[i], gradient_of(bucket.states[i]).dtype).id();
    }
  }

  Graph& graph_;
  const RankOptions& options_;
  Builder b_;
  std::vector<Expr> started_;  // the loss and the buckets
  Expr last_;                  // of all reductions so far
};

}  // namespace

Pass share_loss(const LossOptions& loss) {
  std::vector<double> weights;
  for (const LossTerm& term : loss.terms) weights.push_back(term.weight);
  return {"share_loss", [weights = std::move(weights)](Graph& graph) { share(graph, weights); }};
}

Pass reduce_over_ranks(RankOptions options) {
  return {"reduce_over_ranks", [options = std::move(options)](Graph& graph) {
            graph.opsets.try_emplace(std::string(kOwnDomain), 1);
            Reduction(graph, options).write();
          }};
}

std::vector<std::vector<std::size_t>> in_buckets(std::span<const TensorInfo> gradients, std::size_t bucket_bytes) {
  std::vector<std::vector<std::size_t>> buckets;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < gradients.size(); ++i) {
    const TensorInfo& gradient = gradients[i];
    if (buckets.empty() || bytes >= bucket_bytes || gradients[buckets.back()[0]].dtype != gradient.dtype) {
      buckets.emplace_back();
      bytes = 0;
    }
    buckets.back().push_back(i);
    bytes += bytes_of(gradient.dtype, gradient.shape);
  }
  return buckets;
}

std::vector<std::vector<std::string>> buckets_of(const Graph& step) {
  std::vector<std::vector<std::string>> buckets;
  for (const Node& node : step.nodes) {
    if (!starts_all_reduce(node)) continue;
    if (const Attribute* names = node.attributes.find("parameters"))
      buckets.push_back(std::get<std::vector<std::string>>(*names));
  }
  return buckets;
}

}  // namespace halfstep
