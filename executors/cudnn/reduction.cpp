// Makers of operators that fold rows or order them: Reduce*, ArgMax, TopK, RMSNormalization. Additions and the like are
// formulas.
#include "executors/cudnn/reduction.h"

#include <algorithm>

#include <fmt/format.h>

#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/row_functions.h"
#include "executors/cudnn/tensor_order.h"
#include "ops/normalization/one_row.h"
#include <halfstep/ops/kernel_util.h>

namespace halfstep::cudnn {
namespace {

using ops::Formula;

/// An operator that folds elements by a formula of two operands. {Name} is that formula's function, {type} the type.
struct Fold {
  std::string_view op;
  Formula join;
  std::string_view identity = "0", take = "x0", finish = "acc.value";
  bool on_integers = true;
};
constexpr Fold kFolds[] = {
    {"ReduceSum", Formula::Add},
    {"ReduceMean", Formula::Add, "0", "x0", "{Div}(acc.value, ({type})a.length)"},
    {"ReduceSumSquare", Formula::Add, "0", "{Mul}(x0, x0)"},
    {"ReduceL1", Formula::Add, "0", "{Abs}(x0)"},
    {"ReduceLogSum", Formula::Add, "0", "x0", "{Log}(acc.value)", false},
    {"ReduceProd", Formula::Mul, "1"},
    {"ReduceMax", Formula::Max, "{lowest}"},
    {"ReduceMin", Formula::Min, "{highest}"},
};

struct Number {
  ops::FormulaNumber formula = {};
  std::string_view lowest = "bits_to_float(0xff800000u)", highest = "bits_to_float(0x7f800000u)";
};
std::optional<Number> number_of(DType t) {
  if (t == DType::i32) return Number{{"int", "u32"}, "(-0x7fffffff - 1)", "0x7fffffff"};
  if (t == DType::i64) return Number{{"i64", "u64"}, "(-0x7fffffffffffffffll - 1)", "0x7fffffffffffffffll"};
  return float_name(t).empty() ? std::nullopt : std::optional(Number{});
}

RowFunction fold_function(const Fold& fold, const Number& number, DType dtype, DType result) {
  FormulaFunctions functions;
  const auto written = [&](std::string_view text) {
    std::string program =
        filled(text, {{"type", number.formula.name}, {"lowest", number.lowest}, {"highest", number.highest}});
    const std::pair<std::string_view, Formula> names[] = {{"Abs", Formula::Abs},
                                                          {"Div", Formula::Div},
                                                          {"Log", Formula::Log},
                                                          {"Mul", Formula::Mul},
                                                          {"join", fold.join}};
    for (const auto& [name, formula] : names)
      if (program.find(fmt::format("{{{}}}", name)) != std::string::npos)
        program = filled(program, {{name, functions.call(ops::def_of(formula), number.formula)}});
    return program;
  };
  RowFunction f{.name = "reduce", .elements = {dtype}};
  f.accumulator =
      written(
          "struct Accumulator { {type} value; };\n"
          "static __device__ __forceinline__ Accumulator of({type} x) { Accumulator acc; acc.value = x; return acc; }\n"
          "static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) { return "
          "of({join}(a.value, "
          "b.value)); }\n"
          "static __device__ __forceinline__ Accumulator identity() { return of(") +
      written(fold.identity) + "); }\n";
  f.accumulator_bytes = dtype == DType::i64 ? 8 : 4;
  f.gather = "acc = join(acc, of(" + written(fold.take) + "));";
  f.finish =
      fmt::format("static_cast<{0}*>(a.out[0])[row] = round_to<{0}>({1});", element_name(result), written(fold.finish));
  f.functions = functions.text();
  return f;
}

/// In double: f32 does not hold the squares of all its numbers.
constexpr std::string_view kNormText = R"text(
struct Accumulator { double squares; };
static __device__ __forceinline__ Accumulator identity() { Accumulator none; none.squares = 0; return none; }
static __device__ __forceinline__ Accumulator join(Accumulator a, Accumulator b) { a.squares += b.squares; return a; }
)text";
RowFunction norm(DType dtype) {
  return {.name = "reduce",
          .elements = {dtype},
          .accumulator = std::string(kNormText),
          .accumulator_bytes = 8,
          .gather = "acc.squares += (double)x0 * x0;",
          .finish = fmt::format("static_cast<{0}*>(a.out[0])[row] = round_to<{0}>((float)sqrt(acc.squares));",
                                element_name(dtype))};
}

RowFunction log_sum_exp(DType dtype) {
  return {.name = "reduce",
          .elements = {dtype},
          .accumulator = std::string(kScaledSumText),
          .accumulator_bytes = 8,
          .gather = std::string(kGatherLogSumExp),
          .finish = fmt::format("static_cast<{0}*>(a.out[0])[row] = round_to<{0}>(log_of(acc));", element_name(dtype))};
}

Made fold_rows(KernelContext& context, const RowFunction& function, const std::optional<RowShape>& rows,
               const core::Layout& layout = {}) {
  if (!rows) return refuse("more than 8 axes remain after merging");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const RowKernel kernel(context, function, *rows);
  return on_device(context,
                   {.name = "generated: reduction",
                    .launch = [=](const Launch& l) { kernel.launch({l.in[0]}, {l.out[0]}, l.scratch, l.stream); },
                    .scratch_bytes = kernel.scratch_bytes(),
                    .in_layouts = {layout}});
}

/// The layout that operand 0 is reduced in: the one it lies in, where the results come in row-major order all the same.
core::Layout layout_to_reduce(KernelContext& context, const std::vector<bool>& is_reduced) {
  const core::Layout layout = context.layout(0);
  if (layout.is_row_major()) return {};
  std::vector<std::size_t> kept = layout.axis_order();
  std::erase_if(kept, [&](std::size_t axis) { return is_reduced[axis] || context.in(0).shape[axis] == 1; });
  return std::ranges::is_sorted(kept) ? layout : core::Layout();
}

}  // namespace

RowFunction sum_function(DType element, DType result) {
  return fold_function(*std::ranges::find(kFolds, "ReduceSum", &Fold::op), Number{}, element, result);
}

Made make_reduction(KernelContext& context) {
  const Node& node = context.node();
  const Shape& shape = context.in(0).shape;
  const DType dtype = context.in(0).dtype;
  std::vector<std::int64_t> axes = node.attributes.get_ints("axes");
  if (context.has_input(1)) {
    const auto given = context.constant_ints(1);
    if (!given) return refuse("the axes are not constant");
    axes = *given;
  }
  const bool is_all = axes.empty() && node.attributes.get_int("noop_with_empty_axes", 0) == 0;
  std::vector<bool> is_reduced(shape.rank(), is_all);
  for (const std::int64_t axis : axes) is_reduced[normalize_axis(axis, shape.rank())] = true;

  const std::optional<Number> number = number_of(dtype);
  const auto fold = std::ranges::find(kFolds, node.op, &Fold::op);
  const bool is_fold = fold != std::end(kFolds);
  if (!number || (number->formula.is_integer() && !(is_fold && fold->on_integers)))
    return refuse("no kernel for " + std::string(name_of(dtype)));
  const RowFunction function = is_fold                 ? fold_function(*fold, *number, dtype, dtype)
                               : node.op == "ReduceL2" ? norm(dtype)
                                                       : log_sum_exp(dtype);
  const core::Layout layout = layout_to_reduce(context, is_reduced);
  if (layout.is_row_major()) return fold_rows(context, function, rows_along(shape, is_reduced));
  std::vector<bool> in_order;
  for (const std::size_t axis : layout.axis_order()) in_order.push_back(is_reduced[axis]);
  return fold_rows(context, function, rows_along(in_memory_order(layout, shape), in_order), layout);
}

Made make_arg_extremum(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  if (!number_of(x.dtype)) return refuse("no kernel for " + std::string(name_of(x.dtype)));
  const bool is_last = node.attributes.get_int("select_last_index", 0) != 0;
  RowFunction f{.name = "arg_extremum", .elements = {x.dtype}};
  f.accumulator = filled(kExtremumText, {{"type", value_name(x.dtype)},
                                         {"better", node.op == "ArgMax" ? ">" : "<"},
                                         {"last", is_last ? "true" : "false"}});
  f.accumulator_bytes = x.dtype == DType::i64 ? 24 : 16;
  f.gather = "Accumulator one; one.at = j; one.value = x0; one.unused = 0; acc = join(acc, one);";
  f.finish = "static_cast<i64*>(a.out[0])[row] = acc.at;";
  return fold_rows(context, f, rows_along(x.shape, normalize_axis(node.attributes.get_int("axis", 0), x.shape.rank())));
}

Made make_top_k(KernelContext& context) {
  const Node& node = context.node();
  const Value& x = context.in(0);
  if (!number_of(x.dtype)) return refuse("no kernel for " + std::string(name_of(x.dtype)));
  const auto k = context.constant_ints(1);
  if (!k || k->size() != 1) return refuse("a number of elements that is not constant");
  const std::size_t axis = normalize_axis(node.attributes.get_int("axis", -1), x.shape.rank());
  constexpr std::int64_t kMostElements = 1 << 14;
  if ((*k)[0] > x.shape[axis] || x.shape[axis] > kMostElements) return refuse("more than 16384 elements in a row");
  // An element's place is the number of those before it: the better ones, and equal ones with a lower index.
  RowFunction f{.name = "top_k", .elements = {x.dtype}};
  f.functions = filled(
      "static __device__ __forceinline__ bool is_before({type} x, i64 i, {type} y, i64 j) {\n"
      "  const bool x_is_nan = x != x, y_is_nan = y != y;\n"
      "  if (x_is_nan != y_is_nan) return x_is_nan == {largest};\n"
      "  return x_is_nan || x == y ? i < j : x {better} y;\n}\n",
      {{"type", value_name(x.dtype)},
       {"better", node.attributes.get_int("largest", 1) != 0 ? ">" : "<"},
       {"largest", node.attributes.get_int("largest", 1) != 0 ? "true" : "false"}});
  f.each = fmt::format(
      "i64 rank = 0; for (i64 i = 0; i < a.length; ++i) rank += is_before(load(static_cast<const {0}*>(a.in[0])[base + "
      "place<1>(i, a.extents, a.steps)]), i, x0, j); "
      "if (rank < {1}) {{ const i64 to = (row / {2} * {1} + rank) * {2} + row % {2}; "
      "if (a.out[0]) static_cast<{0}*>(a.out[0])[to] = round_to<{0}>(x0); "
      "if (a.out[1]) static_cast<i64*>(a.out[1])[to] = j; }}",
      element_name(x.dtype), (*k)[0], x.shape.count(axis + 1, x.shape.rank()));
  const auto rows = rows_along(x.shape, axis);
  if (!rows) return refuse("more than 8 axes remain after merging");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  const RowKernel kernel(context, f, *rows);
  return on_device(context,
                   {.name = "generated: reduction", .launch = [=](const Launch& l) {
                      kernel.launch({l.in[0]}, {l.out[0], l.out.size() > 1 ? l.out[1] : nullptr}, nullptr, l.stream);
                    }});
}

Made make_rms_normalization(KernelContext& context) {
  const Node& node = context.node();
  const Value &x = context.in(0), &scale = context.in(1);
  const std::size_t axis = normalize_axis(node.attributes.get_int("axis", -1), x.shape.rank());
  std::vector<bool> is_reduced(x.shape.rank(), false);
  std::fill(is_reduced.begin() + static_cast<std::ptrdiff_t>(axis), is_reduced.end(), true);
  const auto rows = rows_along(x.shape, is_reduced);
  const bool is_row = rows && ops::is_one_row(scale.shape, x.shape, axis);
  if (!rows || (!is_row && scale.shape.count() != 1)) return refuse("a scale that is not one row");
  if (float_name(x.dtype).empty() || float_name(scale.dtype).empty())
    return refuse("types that are not f32, f16 or bf16");
  if (std::string reason = generation_refusal(); !reason.empty()) return refuse(reason);
  RowFunction f = norm(x.dtype);
  f.name = "rms_normalization";
  f.finish = {};
  f.before = fmt::format("const float factor = (float)(1.0 / sqrt(acc.squares / (double)a.length + (double){}));",
                         float_text(node.attributes.get_float("epsilon", 1e-5F)));
  f.value = fmt::format("x0 * factor * load(static_cast<const {}*>(a.in[1])[{}])", element_name(scale.dtype),
                        is_row ? "j" : "0");
  f.result = context.out(0).dtype;
  const RowKernel kernel(context, f, *rows);
  return on_device(context, {.name = "generated: normalization", .launch = [=](const Launch& l) {
                               kernel.launch({l.in[0], l.in[1]}, {l.out[0]}, nullptr, l.stream);
                             }});
}

}  // namespace halfstep::cudnn
