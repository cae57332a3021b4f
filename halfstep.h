// All of halfstep's public interface: from an .onnx file through passes, executors and training back to an .onnx file.
//
//   halfstep::LoadedModel model = halfstep::load_model("model.onnx");
//   auto executor = halfstep::make_executor("auto", {});
//   auto data = halfstep::open_dataset(halfstep::parse_data_spec("x.npy,y.npy"));
//   halfstep::Trainer trainer(model, *executor, data, {});
//   trainer.fit({});
//   halfstep::save_trained(*model.source, trainer.parameters(), "trained.onnx");
//
// Every function that fails throws halfstep::Error.
#pragma once

#include "conversion/calibrate.h"
#include "conversion/convert.h"
#include "data/dataset.h"
#include "data/row_transform.h"
#include "executors/executor.h"
#include "executors/registry.h"
#include "executors/versions.h"
#include "graph/dtype.h"
#include "graph/error.h"
#include "graph/graph.h"
#include "graph/shape.h"
#include "graph/tensor.h"
#include "onnx_io/load.h"
#include "onnx_io/save.h"
#include "passes/passes.h"
#include "passes/pipelines.h"
#include "training/checkpoint.h"
#include "training/evaluator.h"
#include "training/metrics.h"
#include "training/options.h"
#include "training/schedule.h"
#include "training/trainer.h"
