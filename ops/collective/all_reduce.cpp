#include "ops/collective/all_reduce.h"

#include <cstring>

#include <fmt/format.h>

#include "ops/collective/gather_from_ranks.h"
#include <halfstep/base/error.h>
#include <halfstep/graph/tensor_bytes.h>
#include <halfstep/ops/kernel_util.h>

namespace halfstep {

bool starts_all_reduce(const Node& node) { return node.is_own("StartAllReduce"); }
bool finishes_all_reduce(const Node& node) { return node.is_own("FinishAllReduce"); }
bool is_collective(const Node& node) {
  return starts_all_reduce(node) || finishes_all_reduce(node) || gathers_from_ranks(node);
}

std::vector<std::int64_t> flattened(const std::vector<Shape>& shapes) {
  std::vector<std::int64_t> list;
  for (const Shape& shape : shapes) {
    list.push_back(static_cast<std::int64_t>(shape.rank()));
    list.insert(list.end(), shape.begin(), shape.end());
  }
  return list;
}

std::vector<Shape> unflattened(const std::vector<std::int64_t>& list) {
  std::vector<Shape> shapes;
  for (auto at = list.begin(); at != list.end();) {
    const std::int64_t rank = *at++;
    if (rank < 0 || rank > list.end() - at)
      throw_input_error("shapes as a list of ranks and extents", fmt::format("a rank of {}", rank), "");
    std::vector<std::int64_t> extents(at, at + rank);
    for (const std::int64_t extent : extents)
      if (extent < 0) throw_input_error("extents from 0 on", fmt::format("{}", extent), "");
    shapes.emplace_back(std::move(extents));
    at += rank;
  }
  return shapes;
}

namespace ops {
namespace {

void start_all_reduce_kernel(KernelCall& call) {
  std::int64_t count = 0;
  for (std::size_t i = kFirstReduced; i < call.in.size(); ++i) count += call.in[i].count();
  auto* to = static_cast<std::byte*>(ensure_out(call, 0, call.in[kFirstReduced].dtype(), Shape{count}).raw());
  for (std::size_t i = kFirstReduced; i < call.in.size(); ++i) {
    if (call.in[i].bytes() > 0) std::memcpy(to, call.in[i].raw(), call.in[i].bytes());
    to += call.in[i].bytes();
  }
}

void finish_all_reduce_kernel(KernelCall& call) {
  const std::vector<Shape> shapes = unflattened(call.node.attributes.get_ints("shapes"));
  const Tensor& joined = call.in[0];
  std::int64_t count = 0;
  for (const Shape& shape : shapes) count += shape.count();
  if (count != joined.count() || shapes.size() != call.out.size())
    throw_input_error(fmt::format("{} elements for {} results", count, shapes.size()),
                      fmt::format("{} for {}", joined.count(), call.out.size()), "");
  const auto* from = static_cast<const std::byte*>(joined.raw());
  for (std::size_t i = 0; i < shapes.size(); ++i) {
    const std::size_t bytes = bytes_of(joined.dtype(), shapes[i]);
    if (call.has_out(i) && bytes > 0) std::memcpy(ensure_out(call, i, joined.dtype(), shapes[i]).raw(), from, bytes);
    from += bytes;
  }
}

// The sum over ranks of what each computes from a sum over ranks: its gradient is again such a sum.

std::vector<Expr> start_all_reduce_gradient(GradientContext& g) {
  std::vector<Shape> shapes;
  for (std::size_t i = kFirstReduced; i < g.node.inputs.size(); ++i) shapes.push_back(g.in(i).shape());
  std::vector<Expr> d =
      g.b.multi("FinishAllReduce", kOwnDomain, {g.dy()}, shapes.size(), {{"shapes", flattened(shapes)}});
  d.insert(d.begin(), Expr());
  return d;
}

std::vector<Expr> finish_all_reduce_gradient(GradientContext& g) {
  std::vector<Expr> tensors{Expr()};
  for (std::size_t i = 0; i < g.node.outputs.size(); ++i)
    tensors.push_back(g.dy(i) ? g.dy(i) : g.b.zeros_like(g.out(i)));
  return {g.b.own("StartAllReduce", std::move(tensors))};
}

}  // namespace

std::span<const OpDef> collective_ops() {
  static const std::vector<OpDef> rows{
      {.name = "StartAllReduce",
       .domain = kOwnDomain,
       .precision = PrecisionClass::neutral,
       .reference = start_all_reduce_kernel,
       .gradient = start_all_reduce_gradient,
       .cases = {{"(float[2,3] a, float b, float[4] c) => (float[11] y) { y = ai.halfstep.StartAllReduce(, a, b, c) }"},
                 {"(float[2] a, float[3] b) => (float[2] x, float[3] y) { x = ai.halfstep.StartAllReduce(, a) "
                  "y = ai.halfstep.StartAllReduce(x, b) }"}},
       .variations = {.fits = [](const Graph&, const Node&) { return false; }},
       .schema = start_all_reduce_schema,
       .note = "a sum over all ranks that train the model; on one rank its operands joined"},
      {.name = "FinishAllReduce",
       .domain = kOwnDomain,
       .precision = PrecisionClass::neutral,
       .reference = finish_all_reduce_kernel,
       .gradient = finish_all_reduce_gradient,
       .cases = {{"(float[11] x) => (float[2,3] a, float b, float[4] c) "
                  "{ a, b, c = ai.halfstep.FinishAllReduce<shapes = [2, 2, 3, 0, 1, 4]>(x) }"}},
       .variations = {.keep_integers = true, .fits = [](const Graph&, const Node&) { return false; }},
       .schema = finish_all_reduce_schema,
       .note = "the parts of what StartAllReduce has joined"},
      {.name = "GatherFromRanks",
       .domain = kOwnDomain,
       .precision = PrecisionClass::neutral,
       .reference = gather_from_ranks_kernel,
       .cases = {{"(float[2,3] a, float b, float[4] c) => (float y, float[4] z) "
                  "{ y, z = ai.halfstep.GatherFromRanks<owners = [0, 1]>(, a, b, c) }",
                  0.01, 1, false}},
       .variations = {.fits = [](const Graph&, const Node&) { return false; }},
       .schema = gather_from_ranks_schema,
       .note = "tensors that other ranks send; on one rank they stay as they are"},
  };
  return rows;
}

}  // namespace ops
}  // namespace halfstep
