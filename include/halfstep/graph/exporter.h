// The exporter of a model file. Known conventions of exporters resolve what the file itself does not specify.
#pragma once

#include <cstdint>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {

enum class Exporter : std::uint8_t {
  unknown,
  pytorch,  ///< parameters are initializers named after modules; recurrent layers have two biases
  keras,    ///< via tf2onnx or keras2onnx: variables are named after reads; recurrent layers have one bias
  paddle,   ///< parameters may be Constant nodes; recurrent layers have two biases
};

}  // namespace halfstep
