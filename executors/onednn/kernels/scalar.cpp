// Arithmetic on single elements of the types SIMD kernels leave out: step counters, conditions of the update.
#include <array>
#include <string_view>

#include "executors/onednn/kernels/kernels.h"

namespace halfstep::onednn {
namespace {

using ScalarFn = void (*)(const void* a, const void* b, void* y);

template <class T, class R, class F>
void apply(const void* a, const void* b, void* y) {
  *static_cast<R*>(y) = F{}(*static_cast<const T*>(a), b ? *static_cast<const T*>(b) : T{});
}

/// Signed overflow wraps, as in the reference.
struct Plus {
  std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b));
  }
};
struct Minus {
  std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) - static_cast<std::uint64_t>(b));
  }
};
struct Times {
  std::int64_t operator()(std::int64_t a, std::int64_t b) const {
    return static_cast<std::int64_t>(static_cast<std::uint64_t>(a) * static_cast<std::uint64_t>(b));
  }
};

struct Row {
  std::string_view op;
  DType dtype;
  ScalarFn function;
};
constexpr auto i64 = DType::i64;
constexpr auto f32 = DType::f32;
constexpr auto boolean = DType::boolean;
constexpr Row kRows[] = {
    {"Add", i64, apply<std::int64_t, std::int64_t, Plus>},
    {"Sub", i64, apply<std::int64_t, std::int64_t, Minus>},
    {"Mul", i64, apply<std::int64_t, std::int64_t, Times>},
    {"Equal", i64, apply<std::int64_t, bool, std::equal_to<>>},
    {"Less", i64, apply<std::int64_t, bool, std::less<>>},
    {"Greater", i64, apply<std::int64_t, bool, std::greater<>>},
    {"LessOrEqual", i64, apply<std::int64_t, bool, std::less_equal<>>},
    {"GreaterOrEqual", i64, apply<std::int64_t, bool, std::greater_equal<>>},
    {"Equal", f32, apply<float, bool, std::equal_to<>>},
    {"Less", f32, apply<float, bool, std::less<>>},
    {"Greater", f32, apply<float, bool, std::greater<>>},
    {"LessOrEqual", f32, apply<float, bool, std::less_equal<>>},
    {"GreaterOrEqual", f32, apply<float, bool, std::greater_equal<>>},
    {"And", boolean, apply<bool, bool, std::logical_and<>>},
    {"Or", boolean, apply<bool, bool, std::logical_or<>>},
    {"Not", boolean,
     [](const void* a, const void*, void* y) { *static_cast<bool*>(y) = !*static_cast<const bool*>(a); }},
};

}  // namespace

Made make_scalar_arithmetic(KernelContext& context) {
  const Node& node = context.node();
  for (ValueId id : node.inputs)
    if (id == kNoValue || context.graph()[id].shape.count() != 1)
      return refuse("no SIMD kernel for more than one element");
  for (const Row& row : kRows) {
    if (row.op != node.op || row.dtype != context.in(0).dtype) continue;
    const Operand a = context.read(0, Layout()), b = context.read(1, Layout());
    const Operand y =
        context.out(0).dtype == context.in(0).dtype ? context.write_over(0, a) : context.write(0, Layout());
    return {"native", {}, [=, function = row.function](const Memory& memory) -> Run {
              return [=, x0 = memory.at(a), x1 = memory.at(b), to = memory.at(y)] { function(x0, x1, to); };
            }};
  }
  return refuse("no native kernel for single elements of this type");
}

}  // namespace halfstep::onednn
