#include "passes/step/sync_batchnorm.h"

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "ops/collective/all_reduce.h"
#include "passes/step/step_values.h"
#include <halfstep/base/error.h>
#include <halfstep/ops/builder.h>

namespace halfstep {
namespace {

struct Moments {
  Expr mean, variance;
};

class Writer {
 public:
  explicit Writer(Graph& graph) : b_(graph) {
    const ValueId shares = StepValues(graph).loss_shares;
    if (shares == kNoValue) throw_failure("a loss that is shared by ranks", "another", "");
    b_.set_context("sync_batchnorm");
    const auto last = static_cast<double>(graph[shares].shape.count() - 1);
    counts_ = b_.op("Gather", {b_.expr(shares), b_.scalar(last, DType::i64)});
  }

  /// The node that takes the place of `node`, whose results get other names.
  void replace(const Node& node) {
    Graph& graph = b_.graph();
    b_.set_context(node.name + ".");
    const auto in = [&](std::size_t i) { return b_.expr(node.inputs[i]); };
    const Moments batch = moments(in(0), in(3).dtype());
    const float epsilon = node.attributes.get_float("epsilon", 1e-5f);
    const double momentum = node.attributes.get_float("momentum", 0.9f);
    const Expr y =
        b_.op("BatchNormalization", {in(0), in(1), in(2), batch.mean, batch.variance}, {{"epsilon", epsilon}});
    const auto moved = [&](Expr before, Expr now) { return before * momentum + now * (1 - momentum); };
    take_place(graph, node.outputs[0], y);
    if (node.output(1) != kNoValue) take_place(graph, node.outputs[1], moved(in(3), batch.mean));
    if (node.output(2) != kNoValue) take_place(graph, node.outputs[2], moved(in(4), batch.variance));
  }

 private:
  static void take_place(Graph& graph, ValueId from, Expr to) {
    const std::string name = graph[from].name;
    graph.replace_uses(from, to.id());
    graph.rename(from, name + ".own");
    graph.rename(to.id(), name);
  }

  /// Over the rows of all ranks: first the mean, then the mean of squares around it. Squares around anything else would
  /// lose the variance where it is small beside them.
  Moments moments(Expr x, DType dtype) {
    const Shape shape = x.shape();
    std::vector<std::int64_t> axes, along_channels(shape.rank(), 1);
    std::int64_t elements = 1;
    for (std::size_t axis = 0; axis < shape.rank(); ++axis) {
      if (axis == 1) continue;
      axes.push_back(static_cast<std::int64_t>(axis));
      elements *= shape[axis];
    }
    if (shape.rank() > 1) along_channels[1] = shape[1];
    const Expr values = b_.cast(x, dtype);
    const Expr counts = b_.cast(counts_, dtype);
    const std::vector<Expr> sums =
        over_ranks({b_.reduce_sum(values, axes, false) * counts, counts * static_cast<double>(elements)});
    const Expr mean = sums[0] / sums[1];
    const Expr distance = values - b_.reshape(mean, Shape(along_channels));
    const Expr squares = over_ranks({b_.reduce_sum(distance * distance, axes, false) * counts})[0];
    return {mean, squares / sums[1]};
  }

  std::vector<Expr> over_ranks(std::vector<Expr> tensors) {
    std::vector<Shape> shapes;
    for (const Expr& tensor : tensors) shapes.push_back(tensor.shape());
    tensors.insert(tensors.begin(), last_);
    last_ = b_.own("StartAllReduce", std::move(tensors));
    return b_.multi("FinishAllReduce", kOwnDomain, {last_}, shapes.size(), {{"shapes", flattened(shapes)}});
  }

  Builder b_;
  Expr counts_;
  Expr last_;  // of all reductions so far
};

}  // namespace

Pass sync_batchnorm() {
  return {"sync_batchnorm", [](Graph& graph) {
            graph.opsets.try_emplace(std::string(kOwnDomain), 1);
            const std::vector<Node> nodes(graph.nodes.begin(), graph.nodes.end());
            std::vector<bool> gone;
            Writer writer(graph);
            for (const Node& node : nodes) {
              gone.push_back(node.is("BatchNormalization") && node.attributes.get_int("training_mode", 0) != 0);
              if (gone.back()) writer.replace(node);
            }
            gone.resize(graph.nodes.size(), false);
            graph.remove_nodes(gone);
            graph.sort();
          }};
}

}  // namespace halfstep
