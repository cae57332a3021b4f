#include <fmt/format.h>

#include "ops/schema_util.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

using onnx::AttributeProto;
using onnx::OpSchema;

constexpr const char* kDoc =
    "Gradient of {0}. dY, dY_h{1} are the gradients with respect to its outputs, absent where none flows; the other "
    "inputs and the attributes are those of {0}. The gates are computed again from them, unless an executor kept them "
    "from the forward node.";

void recurrent_grad_schema(OpSchema& schema, const char* forward, bool has_cell) {
  schema.SetDoc(fmt::format(fmt::runtime(kDoc), forward, has_cell ? ", dY_c" : ""))
      .Attr("activation_alpha", "First parameters of the activations that have one.", AttributeProto::FLOATS,
            onnx::OPTIONAL_VALUE)
      .Attr("activation_beta", "Second parameters of the activations that have two.", AttributeProto::FLOATS,
            onnx::OPTIONAL_VALUE)
      .Attr("activations", "Names of the activations, one direction after the other.", AttributeProto::STRINGS,
            onnx::OPTIONAL_VALUE)
      .Attr("clip", "Bound of what activations are applied to; none when absent.", AttributeProto::FLOAT,
            onnx::OPTIONAL_VALUE)
      .Attr("direction", "forward, reverse or bidirectional.", AttributeProto::STRING, std::string("forward"))
      .Attr("hidden_size", "Elements of the state.", AttributeProto::INT, onnx::OPTIONAL_VALUE)
      .Attr("layout", "0: the axis of steps is first in X and Y; 1: the batch axis is, in the states too.",
            AttributeProto::INT, std::int64_t{0});

  // The input of the forward operator for each output.
  std::vector<std::size_t> sources = {0, 1, 2, 3, 5};
  constexpr auto optional = OpSchema::Optional;
  schema.Input(0, "X", "[steps, batch, inputs]", "T")
      .Input(1, "W", "[directions, gates * hidden, inputs]", "T")
      .Input(2, "R", "[directions, gates * hidden, hidden]", "T")
      .Input(3, "B", "[directions, 2 * gates * hidden]", "T", optional)
      .Input(4, "sequence_lens", "[batch]", "T1", optional)
      .Input(5, "initial_h", "[directions, batch, hidden]", "T", optional);
  if (has_cell) {
    schema.Input(6, "initial_c", "[directions, batch, hidden]", "T", optional)
        .Input(7, "P", "[directions, 3 * hidden]", "T", optional);
    sources.insert(sources.end(), {6, 7});
  }
  const int first = has_cell ? 8 : 6;
  schema.Input(first, "dY", "[steps, directions, batch, hidden]", "T", optional)
      .Input(first + 1, "dY_h", "[directions, batch, hidden]", "T", optional);
  if (has_cell) schema.Input(first + 2, "dY_c", "[directions, batch, hidden]", "T", optional);

  const char* const names[] = {"dX", "dW", "dR", "dB", "dinitial_h", "dinitial_c", "dP"};
  for (std::size_t i = 0; i < sources.size(); ++i)
    schema.Output(static_cast<int>(i), names[i], "Gradient with respect to the input of that name.", "T", optional);
  constrain_floats(schema, "T", "Any float type.");
  schema.TypeConstraint("T1", {"tensor(int32)"}, "Lengths of the sequences.")
      .TypeAndShapeInferenceFunction([sources](onnx::InferenceContext& ctx) {
        for (std::size_t i = 0; i < sources.size() && i < ctx.getNumOutputs(); ++i) {
          onnx::propagateElemTypeFromInputToOutput(ctx, 0, i);
          if (onnx::hasInputShape(ctx, sources[i])) onnx::propagateShapeFromInputToOutput(ctx, sources[i], i);
        }
      });
}

}  // namespace

void rnn_grad_schema(OpSchema& schema) { recurrent_grad_schema(schema, "RNN", false); }

void lstm_grad_schema(OpSchema& schema) {
  recurrent_grad_schema(schema, "LSTM", true);
  schema.Attr("input_forget", "1: the forget gate is one minus the input gate.", AttributeProto::INT, std::int64_t{0});
}

void gru_grad_schema(OpSchema& schema) {
  recurrent_grad_schema(schema, "GRU", false);
  schema.Attr("linear_before_reset", "1: the reset gate is applied after the recurrent product.", AttributeProto::INT,
              std::int64_t{0});
}

}  // namespace halfstep::ops
