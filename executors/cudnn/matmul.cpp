// Makers of matrix products, by cuBLASLt.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "executors/cudnn/chain.h"
#include "executors/cudnn/fastest.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "executors/cudnn/pending_failure.h"
#include "executors/cudnn/product.h"
#include "executors/cudnn/reduction.h"
#include "ops/epilogue_formula.h"

namespace halfstep::cudnn {
namespace {

std::string kernel_name(const Product& p) {
  std::string name = "cublaslt: matmul";
  if (p.bias) name += " + bias";
  if (p.beside == Beside::slope)
    name += " + slope";
  else if (has_sums(p))
    name += " + sums";
  else if (p.last)
    name += " + activation";
  return name;
}

/// A graph of one node, whose operands and result are alike.
Graph body_of(std::string_view op, std::string_view domain, std::size_t operands, const Value& like,
              Attributes attributes) {
  Graph body;
  std::vector<ValueId> from;
  for (std::size_t i = 0; i < operands; ++i) from.push_back(body.add_input("", like.dtype, like.shape));
  const ValueId to = body.add_value("", like.dtype, like.shape);
  body.define({to}, std::string(op), std::string(domain), from, std::move(attributes));
  body.outputs = {to};
  return body;
}

AfterProduct after_of(KernelContext& context, const Product& p) {
  if (p.beside == Beside::nothing) return {};
  if (has_sums(p)) {
    const std::size_t operand = p.beside == Beside::sums_a ? 0 : 1;
    const Value& x = context.in(operand);
    const bool first = operand == 0 ? p.a.transposed : !p.b.transposed;  // the axis that is summed over
    const auto rows = rows_along(x.shape, first ? 0 : 1);
    if (std::string reason = generation_refusal(); !reason.empty()) return {.refusal = reason};
    const RowKernel kernel(context, sum_function(x.dtype, p.to), *rows);
    return {.launch = [=](const Launch& l) { kernel.launch({l.in[operand]}, {l.out[1]}, l.scratch, l.stream); },
            .scratch_bytes = padded_bytes(kernel.scratch_bytes())};
  }
  const ops::FormulaRow& row = ops::row_of(*ops::formula_of(p.last));
  Attributes attributes;
  if (!row.variant.attribute.empty()) attributes.set(row.variant.attribute, std::string(row.variant.text));
  const bool is_slope = p.beside == Beside::slope;
  const std::string op(row.op);
  const Value& y = context.out(0);
  const ChainKernel chain = load_chain(context, is_slope ? body_of(op + "Grad", kOwnDomain, 2, y, std::move(attributes))
                                                         : body_of(op, kOnnxDomain, 1, y, std::move(attributes)));
  if (!chain.refusal.empty()) return {.refusal = chain.refusal};
  if (is_slope) return {.launch = [=](const Launch& l) { chain.launch({l.out[0], l.in[2]}, {l.out[0]}, l.stream); }};
  const std::size_t from = p.beside == Beside::operand ? 1 : 0;
  return {.launch = [=](const Launch& l) { chain.launch({l.out[from]}, {l.out[0]}, l.stream); }};
}

/// The same; a refusal, too, where NVRTC takes no text of it.
AfterProduct after_or_refusal(KernelContext& context, const Product& p) {
  try {
    return after_of(context, p);
  } catch (const Error& e) {
    if (context.is_touched()) throw;
    return {.refusal = e.without_hint()};
  }
}

/// Puts Gemm's C, broadcast and converted, where Y will be, for the product to be added to.
using Prepare = std::function<void(const Launch&)>;

Made finish(KernelContext& context, const Product& p, Prepare prepare = {}) {
  if (!is_multiplied(p.type))
    return refuse("cuBLASLt multiplies f32, f16 and bf16, not " + std::string(name_of(p.type)));
  if (p.to != p.type && p.to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const AfterProduct after = after_or_refusal(context, p);
  // Without a device cuBLASLt answers nothing.
  if (libraries(context).properties) {
    if (!after.refusal.empty()) return refuse(after.refusal);
    return on_device(context, {.name = kernel_name(p), .remark = "the algorithm is chosen on the device"});
  }
  // A stack of too many matrices goes in parts, without an epilogue.
  const bool is_cut = p.batch > kMostMatrices;
  const bool has_beside = p.beside != Beside::nothing;
  Product part = p;
  part.batch = std::clamp<std::int64_t>(p.batch, 1, kMostMatrices);
  const std::int64_t whole = p.batch / part.batch * part.batch;
  std::vector<ProductPlan> plans =
      is_cut ? plain_plans_of(part, libraries(context)) : plans_of(part, libraries(context));
  const auto is_apart = [](const ProductPlan& plan) { return !plan.form->is_whole; };
  if (!after.refusal.empty()) {
    std::erase_if(plans, is_apart);
    if (plans.empty()) return refuse(after.refusal);
  }
  std::optional<ProductPlan> rest;
  if (whole < p.batch) {
    Product last = p;
    last.batch = p.batch - whole;
    const std::vector<ProductPlan> found = plain_plans_of(last, libraries(context));
    if (!found.empty()) rest = found.front();
  }
  if (plans.empty() || (whole < p.batch && !rest)) return refuse("cuBLASLt has no algorithm for this product");
  const auto multiply = [=, handle = libraries(context).blas.get()](const ProductPlan& plan, const Launch& l) {
    const auto run = [&](const ProductPlan& taken, std::int64_t begin) {
      return run_product(taken, part, handle, l, l.scratch, begin);
    };
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (std::int64_t begin = 0; begin < whole && status == CUBLAS_STATUS_SUCCESS; begin += part.batch)
      status = run(plan, begin);
    if (rest && status == CUBLAS_STATUS_SUCCESS) status = run(*rest, whole);
    return status;
  };
  std::vector<Candidate> candidates;
  for (const ProductPlan& plan : plans) {
    const bool is_one = has_beside && plan.form->is_whole;
    // Where cuBLASLt refuses an epilogue when it runs, the product is apart from then on.
    std::optional<ProductPlan> apart;
    if (const auto found = std::ranges::find_if(plans, is_apart); is_one && found != plans.end()) apart = *found;
    const auto follow = [=](const Launch& l) {
      if (after.launch && !is_one) after.launch(l);
    };
    const auto launch = [=, is_refused = std::make_shared<bool>(false)](const Launch& l) {
      if (prepare) prepare(l);
      if (apart) {
        if (!*is_refused && multiply(plan, l) == CUBLAS_STATUS_SUCCESS) return;
        if (!std::exchange(*is_refused, true)) forget_failure();
        check(multiply(*apart, l), "cublasLtMatmul");
        after.launch(l);
        return;
      }
      check(multiply(plan, l), "cublasLtMatmul");
      follow(l);
    };
    const auto attempt = [=](const Launch& l) -> Attempt {
      return [=] {
        if (prepare) prepare(l);
        if (multiply(plan, l) != CUBLAS_STATUS_SUCCESS) return false;
        follow(l);
        return true;
      };
    };
    const std::size_t workspace = std::max({plan.workspace, rest ? rest->workspace : 0, apart ? apart->workspace : 0});
    candidates.push_back({.kernel = {.name = kernel_name(p),
                                     .remark = is_one ? "one kernel" : "",
                                     .launch = launch,
                                     .scratch_bytes = std::max(workspace, is_one && !apart ? 0 : after.scratch_bytes)},
                          .name = fmt::format("{} {}", is_one ? "epilogue" : "algorithm", candidates.size()),
                          .attempt = attempt});
  }
  return fastest(context, std::move(candidates));
}

/// The product added to C, which is broadcast and converted first to where Y will be.
Made finish_with_c(KernelContext& context, const Product& p) {
  const Shape& y = context.out(0).shape;
  const std::vector<std::int64_t> steps = broadcast_steps(context.in(2).shape, y);
  const Index index = collapse(y.dims(), {&steps, 1}).at(0);
  const std::int64_t count = y.count();
  return visit_float(context.in(2).dtype, [&]<class From> {
    return visit_float(context.out(0).dtype, [&]<class To> {
      return finish(context, p, [=](const Launch& l) {
        launch_elements(Copy<From, To>{l.input<From>(2), l.output<To>(0), index}, count, l.stream);
      });
    });
  });
}

/// Batch axes of the two operands of MatMul: equal, or one operand without any.
std::optional<std::string> set_batch(Product& p, const Shape& a, const Shape& b) {
  const auto batch_of = [](const Shape& s) { return s.rank() < 2 ? std::int64_t{1} : s.count(0, s.rank() - 2); };
  const std::int64_t a_batch = batch_of(a), b_batch = batch_of(b);
  if (b_batch == 1 && !p.a.transposed) {  // the left stack's matrices are just more rows
    p.a.rows *= a_batch;
    return std::nullopt;
  }
  if (a_batch != 1 && b_batch != 1) {
    const std::vector<std::int64_t> a_axes(a.begin(), a.end() - 2), b_axes(b.begin(), b.end() - 2);
    if (a_axes != b_axes) return "batch axes are broadcast on both sides";
  }
  p.batch = std::max(a_batch, b_batch);
  p.a.stride = a_batch == 1 ? 0 : p.a.rows * p.a.columns;
  p.b.stride = b_batch == 1 ? 0 : p.b.rows * p.b.columns;
  return std::nullopt;
}

Product product_of_matrices(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const Shape &a = context.in(0).shape, &b = context.in(1).shape;
  return {.a = {a[0], a[1], attributes.get_int("transA", 0) != 0},
          .b = {b[0], b[1], attributes.get_int("transB", 0) != 0},
          .alpha = attributes.get_float("alpha", 1),
          .type = context.in(0).dtype,
          .to = context.out(0).dtype};
}

}  // namespace

Made make_gemm(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  Product p = product_of_matrices(context);
  p.last = ops::epilogue_of(attributes);
  if (p.last) p.beside = Beside::activation;
  if (p.last.kind == ops::Epilogue::Kind::clip) return refuse("no kernel for Clip behind a product");
  const float beta = attributes.get_float("beta", 1);
  if (!context.has_input(2) || beta == 0) return finish(context, p);

  const Value& c = context.in(2);
  const bool is_row = c.shape.rank() >= 1 && c.shape.dim(-1) == p.columns() && c.shape.count() == p.columns();
  if (is_row && beta == 1 && c.dtype == p.to) {
    p.bias = true;
    return finish(context, p);
  }
  p.beta = beta;
  return finish_with_c(context, p);
}

Made make_gemm_activation(KernelContext& context) {
  Product p = product_of_matrices(context);
  p.last = ops::epilogue_of(context.node().attributes);
  p.beside = !p.last ? Beside::nothing : context.has_output(1) ? Beside::operand : Beside::activation;
  if (!p.last || p.last.kind == ops::Epilogue::Kind::clip) return refuse("an activation with bounds, or none");
  p.bias = context.has_input(2);
  if (p.bias && context.in(2).shape != Shape{p.columns()}) return refuse("a bias that is not one row");
  return finish(context, p);
}

Made make_gemm_activation_grad(KernelContext& context) {
  Product p = product_of_matrices(context);
  p.last = ops::epilogue_of(context.node().attributes);
  p.beside = Beside::slope;
  if (!p.last || p.last.kind == ops::Epilogue::Kind::clip) return refuse("an activation with bounds, or none");
  if (context.in(2).shape != context.out(0).shape) return refuse("operands that do not fit");
  return finish(context, p);
}

Made make_gemm_sums(KernelContext& context) {
  Product p = product_of_matrices(context);
  const bool is_a = context.node().attributes.get_string("operand", "B") == "A";
  if (context.has_output(1)) p.beside = is_a ? Beside::sums_a : Beside::sums_b;
  return finish(context, p);
}

Made make_matmul(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const Shape &a = context.in(0).shape, &b = context.in(1).shape;
  Product p{
      .a = {a.rank() == 1 ? 1 : a.dim(-2), a.dim(-1), attributes.get_int("transA", 0) != 0},
      .b = {b.rank() == 1 ? b[0] : b.dim(-2), b.rank() == 1 ? 1 : b.dim(-1), attributes.get_int("transB", 0) != 0},
      .alpha = attributes.get_float("alpha", 1),
      .type = context.in(0).dtype,
      .to = context.out(0).dtype};
  if (auto reason = set_batch(p, a, b)) return refuse(*reason);
  return finish(context, p);
}

}  // namespace halfstep::cudnn
