#include "executors/onednn/kernels/recurrent_problem.h"

#include <limits>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <omp.h>

#include "executors/onednn/kernels/product.h"
#include "ops/recurrent/recurrent.h"

namespace halfstep::onednn::recurrent {

Positions positions_of(bool lstm) { return lstm ? Positions{6, 7, 8} : Positions{99, 99, 6}; }

std::string make_problem(KernelContext& context, Problem& p) {
  const Node& node = context.node();
  const bool lstm = node.op == "LSTM" || node.op == "LstmGrad", gru = node.op == "GRU" || node.op == "GruGrad";
  if (data_type(context.in(0).dtype) == DataType::undef) return fmt::format("type {}", name_of(context.in(0).dtype));
  std::vector<std::string_view> defaults = {"Tanh"};
  if (lstm) defaults = {"Sigmoid", "Tanh", "Tanh"};
  if (gru) defaults = {"Sigmoid", "Tanh"};
  const ops::RecurrentAttributes attributes(node, defaults);
  if (attributes.batch_first) return "layout 1";
  if (attributes.clip != std::numeric_limits<double>::infinity()) return "clip";
  if (attributes.input_forget) return "input_forget";
  if (gru && !attributes.linear_before_reset) return "linear_before_reset 0";
  if (context.has_input(4)) return "sequence_lens";
  const Positions of = positions_of(lstm);
  if (context.has_input(of.peepholes)) return "peepholes";
  p.cell = lstm ? Cell::lstm : gru ? Cell::gru : Cell::rnn_tanh;
  const std::string_view first = attributes.directions[0].activations[0].name();
  if (p.cell == Cell::rnn_tanh && first == "Relu") p.cell = Cell::rnn_relu;
  for (const auto& direction : attributes.directions)
    for (std::size_t i = 0; i < defaults.size(); ++i)
      if (direction.activations[i].name() != (p.cell == Cell::rnn_relu ? "Relu" : defaults[i]))
        return fmt::format("activation {}", direction.activations[i].name());
  const ops::RecurrentExtents at(node, attributes, simd::gates_of(p.cell), context.in(0).shape, context.in(1).shape,
                                 context.in(2).shape);
  p.steps = at.steps;
  p.batch = at.batch;
  p.inputs = at.inputs;
  p.hidden = at.hidden;
  p.directions = at.directions;
  if (p.steps * p.batch * p.inputs == 0) return "an empty operand";
  const Shape state{p.directions, p.batch, p.hidden};
  const bool fit = context.fits(3, {p.directions, 2 * p.rows()}) && context.fits(5, state) &&
                   context.fits(of.initial_c, state) &&
                   context.fits(of.dy, {p.steps, p.directions, p.batch, p.hidden}) && context.fits(of.dy + 1, state) &&
                   context.fits(of.dy + 2, state);
  if (!fit) return "operands that do not fit";
  for (std::size_t d = 0; d < attributes.directions.size(); ++d) p.reverse[d] = attributes.directions[d].reverse;
  if (context.in(0).dtype == DType::bf16 && has_avx512_bf16() && simd::find_recurrent(p.shape(), DType::bf16))
    p.products = DType::bf16;
  const std::int64_t together = simd::find_recurrent(p.shape(), p.products).rows_together();
  const std::int64_t threads = simd::blocks_of(omp_get_max_threads(), p.directions);
  p.share = simd::blocks_of(simd::blocks_of(p.batch, threads), together) * together;
  return {};
}

}  // namespace halfstep::onednn::recurrent
