// The parts of make_task.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "training/task.h"
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/graph/graph.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/training/options.h>

namespace halfstep {

/// What a row of a model's input is.
RowType row_of(const Value& input);

/// The shapes of a task's inputs for a batch of `rows`.
std::map<std::string, Shape> input_shapes(const Task& task, std::int64_t rows);

/// Whether the data has an array of that name.
bool has_rows(const Dataset& data, const std::string& name);
/// The labels of that name; empty: y. Throws Error(input) where there is no y.
const DataArray& label_rows(const Dataset& data, const std::string& name, std::string_view loss);
void require_labels(const Dataset& data, std::string_view loss);

/// Throws Error(input) where the model's batch size is fixed and the data does not fill one of `rows`.
void require_full_batch(const Task& task, const Dataset& data, std::int64_t rows);

/// Sets the task's terms, their losses, metrics and notices. The task has its inputs and its batch.
void choose_losses(Task& task, const PreparedModel& model, const Dataset& data, const TrainerOptions& options);

}  // namespace halfstep
