// The whole public interface of halfstep: loading an .onnx file, passes, executors, training, saving an .onnx file.
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

#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>
#include <halfstep/conversion/calibrate.h>
#include <halfstep/conversion/convert.h>
#include <halfstep/data/batch_stream.h>
#include <halfstep/data/dataset.h>
#include <halfstep/data/row_transform.h>
#include <halfstep/executors/executor.h>
#include <halfstep/executors/registry.h>
#include <halfstep/executors/versions.h>
#include <halfstep/formats/npy.h>
#include <halfstep/graph/graph.h>
#include <halfstep/graph/named_tensors.h>
#include <halfstep/graph/precision.h>
#include <halfstep/graph/shape.h>
#include <halfstep/graph/tensor.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/onnx_io/save.h>
#include <halfstep/passes/passes.h>
#include <halfstep/passes/pipelines.h>
#include <halfstep/passes/step/parameter_group.h>
#include <halfstep/session/session.h>
#include <halfstep/training/callbacks.h>
#include <halfstep/training/checkpoint.h>
#include <halfstep/training/evaluator.h>
#include <halfstep/training/metrics.h>
#include <halfstep/training/options.h>
#include <halfstep/training/schedule.h>
#include <halfstep/training/trainer.h>
#include <halfstep/training/training_step.h>
