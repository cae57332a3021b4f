// Rows of RNN, LSTM, GRU and of their gradients.
#include "ops/families.h"
#include "ops/recurrent/recurrent_kernels.h"
#include "ops/schemas.h"

namespace halfstep::ops {
namespace {

/// The gradient operator reads the inputs of the forward one, and the gradients of its outputs. Gradients that are not
/// needed are absent outputs, so that a kernel can omit their products.
template <class Cell>
std::vector<Expr> recurrent_gradient(GradientContext& g) {
  constexpr const char* name = Cell::kStates == 2 ? "LstmGrad" : Cell::kGates == 3 ? "GruGrad" : "RnnGrad";
  constexpr std::size_t inputs = kRecurrentInputs<Cell>;
  std::vector<Expr> operands;
  for (std::size_t i = 0; i < inputs; ++i) operands.push_back(g.in(i));
  for (std::size_t i = 0; i <= Cell::kStates; ++i) operands.push_back(g.dy(i));

  constexpr auto sources = kRecurrentDifferentiated<Cell>;
  const std::vector<Expr> gradients = g.b.multi(name, kOwnDomain, operands, sources.size(), g.node.attributes);
  const Graph::Edit node = g.b.graph().edit(g.b.graph().nodes.size() - 1);
  std::vector<ValueId>& outputs = node->outputs;
  std::vector<Expr> result(inputs);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (g.wants(sources[i]))
      result[sources[i]] = gradients[i];
    else
      outputs[i] = kNoValue;
  }
  while (outputs.back() == kNoValue) outputs.pop_back();
  return result;
}

// Of long sequences with larger weights roundings grow with every step.
const std::vector<OpCase> kRnnCases = {
    {"(float[3,2,4] x, float[1,5,4] w, float[1,5,5] r, float[1,10] b, float[1,2,5] h) => (float[3,1,2,5] y, "
     "float[1,2,5] y_h) { y, y_h = RNN<hidden_size=5>(x, w, r, b, , h) }",
     -1, 1},
    {"(float[1,1,1] x, float[1,1,1] w, float[1,1,1] r) => (float[1,1,1,1] y) { y = RNN<hidden_size=1>(x, w, r) }"},
    {"(float[4,3,2] x, float[1,3,2] w, float[1,3,3] r) => (float[1,3,3] y_h) "
     "{ , y_h = RNN<hidden_size=3, direction=\"reverse\", activations=[\"Relu\"]>(x, w, r) }",
     -1, 1},
    {"(float[2,5,3] x, float[2,4,3] w, float[2,4,4] r, float[2,8] b, float[2,2,4] h) => (float[2,5,2,4] y, "
     "float[2,2,4] y_h) { y, y_h = RNN<hidden_size=4, direction=\"bidirectional\", layout=1, clip=0.75, "
     "activations=[\"Sigmoid\", \"Softsign\"]>(x, w, r, b, , h) }",
     -1, 1},
    {"(float[4,3,2] x, float[2,3,2] w, float[2,3,3] r, float[2,6] b, float[2,3,3] h) => (float[4,2,3,3] y, "
     "float[2,3,3] y_h) <int32[3] l = {2, 0, 4}> "
     "{ y, y_h = RNN<hidden_size=3, direction=\"bidirectional\">(x, w, r, b, l, h) }",
     -1, 1},
    {"(float[3,2,2] x, float[2,3,2] w, float[2,3,3] r) => (float[3,2,2,3] y) "
     "{ y = RNN<hidden_size=3, direction=\"bidirectional\", activations=[\"LeakyRelu\", \"ScaledTanh\"], "
     "activation_alpha=[0.2, 1.5], activation_beta=[0.5]>(x, w, r) }",
     -1, 1},
    {"(float[3,2,2] x, float[2,3,2] w, float[2,3,3] r) => (float[3,2,2,3] y) { y = RNN<hidden_size=3, "
     "direction=\"bidirectional\", activations=[\"Elu\", \"HardSigmoid\"], activation_alpha=[0.5]>(x, w, r) }",
     -1, 1},
    {"(float[3,2,2] x, float[2,3,2] w, float[2,3,3] r) => (float[3,2,2,3] y) { y = RNN<hidden_size=3, "
     "direction=\"bidirectional\", activations=[\"Affine\", \"ThresholdedRelu\"], activation_alpha=[0.5, 0.1], "
     "activation_beta=[0.25]>(x, w, r) }",
     -1, 1},
    {"(float[3,2,2] x, float[1,3,2] w, float[1,3,3] r) => (float[3,1,2,3] y) "
     "{ y = RNN<hidden_size=3, activations=[\"Softplus\"]>(x, w, r) }",
     -1, 1},
    {"(float[0,2,3] x, float[1,4,3] w, float[1,4,4] r, float[1,2,4] h) => (float[0,1,2,4] y, float[1,2,4] y_h) "
     "{ y, y_h = RNN<hidden_size=4>(x, w, r, , , h) }",
     -1, 1},
    {"(float[3,0,2] x, float[1,4,2] w, float[1,4,4] r) => (float[3,1,0,4] y) { y = RNN<hidden_size=4>(x, w, r) }"},
};

const std::vector<OpCase> kRnnGradCases = {
    {"(float[3,2,4] x, float[1,5,4] w, float[1,5,5] r, float[1,10] b, float[1,2,5] h, float[3,1,2,5] dy, "
     "float[1,2,5] dy_h) => (float[3,2,4] dx, float[1,5,4] dw, float[1,5,5] dr, float[1,10] db, float[1,2,5] dh) "
     "{ dx, dw, dr, db, dh = ai.halfstep.RnnGrad<hidden_size=5>(x, w, r, b, , h, dy, dy_h) }",
     -1, 1, false},
    {"(float[5,3,7] x, float[2,9,7] w, float[2,9,9] r, float[2,18] b, float[5,2,3,9] dy) => (float[2,9,7] dw, "
     "float[2,9,9] dr, float[2,18] db) { , dw, dr, db = ai.halfstep.RnnGrad<hidden_size=9, "
     "direction=\"bidirectional\", activations=[\"Relu\", \"Tanh\"]>(x, w, r, b, , , dy) }",
     -1, 1, false},
};

const std::vector<OpCase> kLstmCases = {
    {"(float[3,2,4] x, float[1,20,4] w, float[1,20,5] r, float[1,40] b, float[1,2,5] h, float[1,2,5] c) => "
     "(float[3,1,2,5] y, float[1,2,5] y_h, float[1,2,5] y_c) { y, y_h, y_c = LSTM<hidden_size=5>(x, w, r, b, , h, c) }",
     -1, 1},
    {"(float[1,1,1] x, float[1,4,1] w, float[1,4,1] r) => (float[1,1,1,1] y) { y = LSTM<hidden_size=1>(x, w, r) }"},
    {"(float[3,2,3] x, float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[1,2,4] h, float[1,2,4] c, float[1,12] p)"
     " => (float[3,1,2,4] y, float[1,2,4] y_c) "
     "{ y, , y_c = LSTM<hidden_size=4, direction=\"reverse\">(x, w, r, b, , h, c, p) }",
     -1, 1},
    {"(float[2,5,3] x, float[2,16,3] w, float[2,16,4] r, float[2,32] b, float[2,2,4] h, float[2,2,4] c, float[2,12] p)"
     " => (float[2,5,2,4] y, float[2,2,4] y_h, float[2,2,4] y_c) <int32[2] l = {5, 3}> "
     "{ y, y_h, y_c = LSTM<hidden_size=4, direction=\"bidirectional\", layout=1>(x, w, r, b, l, h, c, p) }",
     -1, 1},
    {"(float[4,3,2] x, float[1,12,2] w, float[1,12,3] r, float[1,24] b, float[1,3,3] c, float[1,9] p) => "
     "(float[1,3,3] y_h) <int32[3] l = {0, 4, 1}> "
     "{ , y_h = LSTM<hidden_size=3, input_forget=1>(x, w, r, b, l, , c, p) }",
     -1, 1},
    {"(float[3,2,2] x, float[1,12,2] w, float[1,12,3] r, float[1,2,3] c) => (float[3,1,2,3] y, float[1,2,3] y_c) "
     "{ y, , y_c = LSTM<hidden_size=3, clip=0.5>(x, w, r, , , , c) }",
     -1, 1},
    {"(float[3,2,2] x, float[2,12,2] w, float[2,12,3] r) => (float[3,2,2,3] y) "
     "{ y = LSTM<hidden_size=3, direction=\"bidirectional\", activations=[\"HardSigmoid\", \"Softsign\", \"Tanh\", "
     "\"Sigmoid\", \"ScaledTanh\", \"Affine\"], activation_alpha=[0.25, 1.5, 2.0], activation_beta=[0.4, 0.75]>"
     "(x, w, r) }",
     -1, 1},
    {"(float[0,2,3] x, float[1,16,3] w, float[1,16,4] r) => (float[0,1,2,4] y, float[1,2,4] y_c) "
     "{ y, , y_c = LSTM<hidden_size=4>(x, w, r) }"},
};

const std::vector<OpCase> kLstmGradCases = {
    {"(float[3,2,3] x, float[1,16,3] w, float[1,16,4] r, float[1,32] b, float[1,2,4] h, float[1,2,4] c, float[1,12] p,"
     " float[3,1,2,4] dy, float[1,2,4] dy_c) => (float[3,2,3] dx, float[1,16,3] dw, float[1,16,4] dr, float[1,32] db, "
     "float[1,2,4] dh, float[1,2,4] dc, float[1,12] dp) "
     "{ dx, dw, dr, db, dh, dc, dp = ai.halfstep.LstmGrad<hidden_size=4>(x, w, r, b, , h, c, p, dy, , dy_c) }",
     -1, 1, false},
    {"(float[5,3,7] x, float[2,36,7] w, float[2,36,9] r, float[2,72] b, float[5,2,3,9] dy, float[2,3,9] dy_h) => "
     "(float[5,3,7] dx, float[2,36,7] dw, float[2,36,9] dr, float[2,72] db) { dx, dw, dr, db = "
     "ai.halfstep.LstmGrad<hidden_size=9, direction=\"bidirectional\">(x, w, r, b, , , , , dy, dy_h) }",
     -1, 1, false},
};

const std::vector<OpCase> kGruCases = {
    {"(float[3,2,4] x, float[1,15,4] w, float[1,15,5] r, float[1,30] b, float[1,2,5] h) => (float[3,1,2,5] y, "
     "float[1,2,5] y_h) { y, y_h = GRU<hidden_size=5>(x, w, r, b, , h) }",
     -1, 1},
    {"(float[3,2,4] x, float[1,15,4] w, float[1,15,5] r, float[1,30] b, float[1,2,5] h) => (float[3,1,2,5] y, "
     "float[1,2,5] y_h) { y, y_h = GRU<hidden_size=5, linear_before_reset=1>(x, w, r, b, , h) }",
     -1, 1},
    {"(float[1,1,1] x, float[1,3,1] w, float[1,3,1] r) => (float[1,1,1,1] y) { y = GRU<hidden_size=1>(x, w, r) }"},
    {"(float[4,3,2] x, float[1,9,2] w, float[1,9,3] r) => (float[1,3,3] y_h) "
     "{ , y_h = GRU<hidden_size=3, direction=\"reverse\", linear_before_reset=1>(x, w, r) }",
     -1, 1},
    {"(float[2,5,3] x, float[2,12,3] w, float[2,12,4] r, float[2,24] b, float[2,2,4] h) => (float[2,5,2,4] y, "
     "float[2,2,4] y_h) <int32[2] l = {5, 3}> "
     "{ y, y_h = GRU<hidden_size=4, direction=\"bidirectional\", layout=1>(x, w, r, b, l, h) }",
     -1, 1},
    {"(float[4,3,2] x, float[2,9,2] w, float[2,9,3] r, float[2,18] b, float[2,3,3] h) => (float[4,2,3,3] y, "
     "float[2,3,3] y_h) <int32[3] l = {0, 4, 1}> { y, y_h = GRU<hidden_size=3, direction=\"bidirectional\", "
     "linear_before_reset=1, clip=0.75>(x, w, r, b, l, h) }",
     -1, 1},
    {"(float[3,2,2] x, float[2,9,2] w, float[2,9,3] r) => (float[3,2,2,3] y) { y = GRU<hidden_size=3, "
     "direction=\"bidirectional\", activations=[\"HardSigmoid\", \"Softsign\", \"Sigmoid\", \"ScaledTanh\"], "
     "activation_alpha=[0.25, 1.5], activation_beta=[0.4, 0.75]>(x, w, r) }",
     -1, 1},
    {"(float[0,2,3] x, float[1,12,3] w, float[1,12,4] r) => (float[0,1,2,4] y, float[1,2,4] y_h) "
     "{ y, y_h = GRU<hidden_size=4>(x, w, r) }"},
};

const std::vector<OpCase> kGruGradCases = {
    {"(float[3,2,4] x, float[1,15,4] w, float[1,15,5] r, float[1,30] b, float[1,2,5] h, float[3,1,2,5] dy, "
     "float[1,2,5] dy_h) => (float[3,2,4] dx, float[1,15,4] dw, float[1,15,5] dr, float[1,30] db, float[1,2,5] dh) "
     "{ dx, dw, dr, db, dh = ai.halfstep.GruGrad<hidden_size=5>(x, w, r, b, , h, dy, dy_h) }",
     -1, 1, false},
    {"(float[5,3,7] x, float[2,27,7] w, float[2,27,9] r, float[2,54] b, float[5,2,3,9] dy) => (float[5,3,7] dx, "
     "float[2,27,9] dr, float[2,54] db) { dx, , dr, db = ai.halfstep.GruGrad<hidden_size=9, "
     "direction=\"bidirectional\", linear_before_reset=1>(x, w, r, b, , , dy) }",
     -1, 1, false},
};

constexpr std::string_view kNote =
    "a sequence of length 0 gives its initial state; clip bounds what every activation is applied to, of LSTM the cell "
    "state, too, which ONNX Runtime does not bound, and lets gradients through at the bounds";

constexpr OpenNaN kFlat{false, true, "where Relu is flat, the gradient is multiplied by 0, or left out"};

}  // namespace

std::span<const OpDef> recurrent_ops() {
  using enum OperandRole;
  using enum PrecisionClass;
  static const OpDef rows[] = {
      {.name = "RNN",
       .precision = half,
       .traits = {.operands = {data, weight, weight, bias, data, state}},
       .reference = recurrent<RnnCell>,
       .gradient = recurrent_gradient<RnnCell>,
       .cases = kRnnCases,
       .open_nan = kFlat,
       .note = kNote},
      {.name = "LSTM",
       .precision = half,
       .traits = {.operands = {data, weight, weight, bias, data, state, state, slope}},
       .reference = recurrent<LstmCell>,
       .gradient = recurrent_gradient<LstmCell>,
       .cases = kLstmCases,
       .note = kNote},
      {.name = "GRU",
       .precision = half,
       .traits = {.operands = {data, weight, weight, bias, data, state}},
       .reference = recurrent<GruCell>,
       .gradient = recurrent_gradient<GruCell>,
       .cases = kGruCases,
       .note = kNote},
      {.name = "RnnGrad",
       .domain = kOwnDomain,
       .precision = half,
       .reference = recurrent_grad<RnnCell>,
       .cases = kRnnGradCases,
       .open_nan = kFlat,
       .schema = rnn_grad_schema},
      {.name = "LstmGrad",
       .domain = kOwnDomain,
       .precision = half,
       .reference = recurrent_grad<LstmCell>,
       .cases = kLstmGradCases,
       .schema = lstm_grad_schema},
      {.name = "GruGrad",
       .domain = kOwnDomain,
       .precision = half,
       .reference = recurrent_grad<GruCell>,
       .cases = kGruGradCases,
       .schema = gru_grad_schema},
  };
  return rows;
}

}  // namespace halfstep::ops
