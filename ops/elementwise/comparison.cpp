// Comparisons, logic and bit operations, element by element with broadcasting.

#include "ops/elementwise/formula.h"
#include "ops/family_parts.h"
#include "ops/onnx_row.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::ops {
namespace {

template <auto F>
void bits(KernelCall& call) {
  map_binary<std::uint64_t>(call, call.in[0].dtype(), F);
}

void equal(KernelCall& call) {
  const Tensor &a = call.in[0], &b = call.in[1];
  if (a.dtype() != DType::string) return run_formula(call);
  const Shape shape = broadcast(a.shape(), b.shape());
  const BroadcastOffsets a_offset(a.shape(), shape), b_offset(b.shape(), shape);
  bool* y = ensure_out(call, 0, DType::boolean, shape).data<bool>();
  for (std::int64_t i = 0; i < shape.count(); ++i)
    y[i] = a.data<std::string>()[a_offset(i)] == b.data<std::string>()[b_offset(i)];
}

void bit_shift(KernelCall& call) {
  const DType dtype = call.in[0].dtype();
  const auto width = static_cast<std::uint64_t>(bits_of(dtype));
  const std::string direction = call.node.attributes.get_string("direction", "");
  if (direction != "LEFT" && direction != "RIGHT")
    throw_input_error("BitShift's direction LEFT or RIGHT", "'" + direction + "'",
                      "check the node with the ONNX checker");
  visit_wide(dtype, [&]<class W>() {
    if constexpr (std::is_integral_v<W>) {
      map_binary<W>(call, dtype, [&](W x, W by) -> W {
        const bool all = static_cast<std::uint64_t>(by) >= width;  // negative shifts too
        if (direction == "LEFT") return all ? W{0} : static_cast<W>(static_cast<std::uint64_t>(x) << by);
        return all ? static_cast<W>(x < W{0} ? -1 : 0) : static_cast<W>(x >> by);
      });
    }
  });
}

}  // namespace

std::vector<OpDef> comparison_rows() {
  using enum PrecisionClass;
  constexpr OpTraits kBroadcast{.elementwise = Elementwise::broadcast};
  return {
      formula_row("And", neutral, kBroadcast, no_gradient,
                  {{"() => (bool[2,2] y) <bool[2,1] a = {0, 1}, bool[2] b = {1, 0}> { y = And(a, b) }"}}),
      formula_row("Or", neutral, kBroadcast, no_gradient,
                  {{"() => (bool[2,2] y) <bool[2,1] a = {0, 1}, bool[2] b = {1, 0}> { y = Or(a, b) }"}}),
      formula_row("Xor", neutral, kBroadcast, no_gradient,
                  {{"() => (bool[2,2] y) <bool[2,1] a = {0, 1}, bool[2] b = {1, 0}> { y = Xor(a, b) }"}}),
      onnx_row("Equal", follow, kBroadcast, equal, no_gradient,
               {{"(float[2,3] a, float[3] b) => (bool[2,3] y) { y = Equal(a, b) }", -2, 2, false},
                {"(float[2,3] a) => (bool[2,3] y) { y = Equal(a, a) }", -2, 2, false},
                {"() => (bool[2] y) <int64[2] a = {1, 2}, int64[2] b = {1, 3}> { y = Equal(a, b) }"}}),
      formula_row("Greater", follow, kBroadcast, no_gradient,
                  {{"(float[2,3] a, float[3] b) => (bool[2,3] y) { y = Greater(a, b) }", -2, 2, false},
                   {"() => (bool[2] y) <int8[2] a = {1, -2}, int8[2] b = {1, -3}> { y = Greater(a, b) }"}}),
      formula_row("GreaterOrEqual", follow, kBroadcast, no_gradient,
                  {{"(float[2,3] a, float[3] b) => (bool[2,3] y) { y = GreaterOrEqual(a, b) }", -2, 2, false},
                   {"() => (bool[2] y) <int8[2] a = {1, -2}, int8[2] b = {1, -3}> { y = GreaterOrEqual(a, b) }"}}),
      formula_row("Less", follow, kBroadcast, no_gradient,
                  {{"(float[2,3] a, float[3] b) => (bool[2,3] y) { y = Less(a, b) }", -2, 2, false},
                   {"() => (bool[2] y) <int8[2] a = {1, -4}, int8[2] b = {1, -3}> { y = Less(a, b) }"}}),
      formula_row("LessOrEqual", follow, kBroadcast, no_gradient,
                  {{"(float[2,3] a, float[3] b) => (bool[2,3] y) { y = LessOrEqual(a, b) }", -2, 2, false},
                   {"() => (bool[2] y) <int8[2] a = {1, -4}, int8[2] b = {1, -3}> { y = LessOrEqual(a, b) }"}}),
      onnx_row("BitShift", neutral, kBroadcast, bit_shift, no_gradient,
               {{"() => (uint8[3] y) <uint8[3] a = {16, 4, 255}, uint8[3] b = {1, 2, 9}>"
                 " { y = BitShift<direction=\"LEFT\">(a, b) }"},
                {"() => (uint32[3] y) <uint32[3] a = {16, 4, 255}, uint32[3] b = {1, 2, 40}>"
                 " { y = BitShift<direction=\"RIGHT\">(a, b) }"}}),
      onnx_row("BitwiseAnd", neutral, kBroadcast, bits<std::bit_and<>{}>, no_gradient,
               {{"() => (int32[3] y) <int32[3] a = {12, -1, 7}, int32[1] b = {10}> { y = BitwiseAnd(a, b) }"}}),
      onnx_row("BitwiseOr", neutral, kBroadcast, bits<std::bit_or<>{}>, no_gradient,
               {{"() => (int32[3] y) <int32[3] a = {12, -1, 7}, int32[1] b = {10}> { y = BitwiseOr(a, b) }"}}),
      onnx_row("BitwiseXor", neutral, kBroadcast, bits<std::bit_xor<>{}>, no_gradient,
               {{"() => (int32[3] y) <int32[3] a = {12, -1, 7}, int32[1] b = {10}> { y = BitwiseXor(a, b) }"}}),
  };
}

}  // namespace halfstep::ops
