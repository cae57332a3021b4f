// Running a model that was exported for one batch size with another. Internal to passes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include <halfstep/passes/passes.h>

namespace halfstep {

/// Shapes written down in a model that have the batch it was exported for as an extent.
struct BatchShapes {
  std::map<ValueId, std::size_t> axes;  ///< of which axis, by the first output of the node that has the shape
  std::string obstacle;                 ///< what fixes the batch nevertheless; empty: nothing
};

/// Looks for them with another batch, which is an extent of nothing else in the model: no other extent is taken for it.
/// A shape that no operand with rows tells is one of them unless what reads its rows shows that they are none. The
/// inputs have shapes; of those in `batched` the first extent is the batch, which was `from`.
BatchShapes find_batch_shapes(const Graph& graph, std::span<const ValueId> batched, std::int64_t from);

/// The searches of one model, each made once however many batches the model is bound to, and whatever for. May be used
/// by several threads.
class BatchSearches {
 public:
  /// As find_batch_shapes. The values of all graphs are those of one model: passes may have added others.
  const BatchShapes& find(const Graph& graph, std::span<const ValueId> batched, std::int64_t from);
  std::size_t made() const { return made_.size(); }

 private:
  struct Made {
    std::int64_t from;
    std::vector<ValueId> batched;
    std::vector<Shape> inputs;  ///< with `from` as the batch
    BatchShapes found;
  };
  std::mutex mutex_;
  std::list<Made> made_;
};

/// As bind_shapes(shapes), with what is known of the model's shapes with other batches.
Pass bind_shapes(InputShapes shapes, std::shared_ptr<BatchSearches> searches);

/// For `fold_constants`: gives these shapes the batch `to`. Throws Error naming a node whose shape then does not fit.
NodeHook rewrite_batch(BatchShapes shapes, std::int64_t from, std::int64_t to);

/// A batch size other than `from` that is no extent in the model. It is prime, so no extent of -1 makes up for it by
/// dividing it.
std::int64_t probe_batch(const Graph& model, std::int64_t from);

/// `undo_batch_expansion` of a model that is to be trained: what would be a parameter, has equal elements everywhere,
/// and is read by elementwise operators alone keeps its rows. These may be as many as the batch by chance, and are
/// trained apart; an exporter has no reason to expand them there.
HALFSTEP_API Pass undo_batch_expansion_for_training();

/// `batch_obstacle` of a model that is to be trained.
HALFSTEP_API std::string batch_obstacle_in_training(const Graph& model);
/// `batch_obstacle` of a model whose expansions are undone already; `searches` keeps what was found.
std::string batch_obstacle_of_repaired(const Graph& model, const std::shared_ptr<BatchSearches>& searches);

/// The first output of `source` that had the batch `from` and does not have `to` in `graph`, with its shape; else
/// empty.
std::string output_without_batch(const Graph& source, const Graph& graph, std::int64_t from, std::int64_t to);

}  // namespace halfstep
