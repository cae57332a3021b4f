// Implementation of the public types of convert.h. Internal to conversion.
#pragma once

#include <memory>
#include <utility>

#include "onnx_io/detached.h"
#include <halfstep/conversion/convert.h>

namespace halfstep {

struct ModelFile::Content {
  explicit Content(DetachedModel model) : source(std::move(model)) {}
  DetachedModel source;  ///< sorted and checked
};

struct Conversion::Content {
  std::shared_ptr<const ModelFile::Content> source;
  onnx::ModelProto model;  ///< its large tensors are in source->source
  ConversionReport report;
};

}  // namespace halfstep
