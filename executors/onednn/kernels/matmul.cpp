// Gemm, MatMul and their fused forms as oneDNN matrix products.
#include <algorithm>
#include <memory>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <omp.h>

#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/kernels/measured.h"
#include "executors/onednn/kernels/product.h"
#include "executors/onednn/kernels/then_epilogue.h"

namespace halfstep::onednn {
namespace {

/// Two axes, the second one slower in memory.
Layout column_major(const Shape& shape) { return layout_of(Desc(dims_of(shape), DataType::f32, Dims{1, shape[0]})); }

/// Reads a matrix in any order of its two axes; other layouts are brought to row-major.
Layout matrix_layout(const Layout& layout, const Shape& shape) {
  return shape.rank() == 2 && !layout.is_row_major() && layout.is_permutation() ? column_major(shape) : Layout();
}
Matrices matrix_of(const Layout& layout, const Shape& shape) {
  Matrices m = row_major_matrices(dims_of(shape));
  if (!layout.is_row_major()) m.strides = {1, shape[0]};
  return m;
}

struct Product {
  Matrices a, b, y;
  Layout a_layout, b_layout, y_layout;
  float alpha = 1;
  ops::Epilogue last;
  bool has_addend = false;  ///< C of Gemm
  Dims addend;              ///< its extents, as many as the product's
  bool swapped = false;     ///< computes y^T = b^T a^T
};

struct Attempt {
  dnnl::matmul::primitive_desc pd;
  DType bias = DType::undefined, out = DType::undefined;
};

Desc bias_desc(const Product& p, DType dtype) {
  return p.has_addend && p.alpha == 1 ? row_major(p.addend, dtype) : Desc();
}

bool is_row(const Dims& dims, std::int64_t n) {
  return dims.back() == n && std::all_of(dims.begin(), dims.end() - 1, [](std::int64_t d) { return d == 1; });
}

dnnl::matmul::primitive_desc describe(const Product& p, DType dtype, DType out, DType addend) {
  dnnl::primitive_attr attr = user_scratchpad();
  dnnl::post_ops post;
  const bool as_bias = p.has_addend && p.alpha == 1 && is_row(p.addend, p.y.dims.back());
  if (p.alpha != 1) post.append_eltwise(dnnl::algorithm::eltwise_linear, p.alpha, 0);
  if (p.has_addend && !as_bias) post.append_binary(dnnl::algorithm::binary_add, row_major(p.addend, addend));
  attr.set_post_ops(post);
  return dnnl::matmul::primitive_desc(engine(), p.a.desc(dtype), p.b.desc(dtype),
                                      as_bias ? bias_desc(p, addend) : Desc(), p.y.desc(out), attr, true);
}

/// Whether an addend is one matrix, or part of one, for the whole stack.
bool is_matrix(const Dims& dims) {
  return std::all_of(dims.begin(), dims.end() - 2, [](std::int64_t d) { return d == 1; });
}

/// But for what follows the product.
simd::GemmProblem simd_problem(const Product& p, DType type, DType result) {
  simd::GemmProblem problem = gemm_problem(p.a, p.b, p.y, type, result);
  problem.alpha = p.alpha;
  if (p.has_addend) {
    const std::int64_t rows = p.addend.end()[-2], columns = p.addend.back();
    problem.has_addend = true;
    problem.addend_row = rows == 1 ? 0 : columns;
    problem.addend_column = columns == 1 ? 0 : 1;
  }
  return problem;
}

Made make_simd_product(KernelContext& context, const Product& p) {
  const DType result = context.out(0).dtype;
  simd::GemmProblem problem = simd_problem(p, context.in(0).dtype, result);
  problem.last = epilogue_kernel(p.last, result);
  const Operand first = context.read(0, p.a_layout), second = context.read(1, p.b_layout);
  const Operand addend = p.has_addend ? context.read(2, Layout(), DType::f32) : Operand();
  const Operand y = context.write(0, p.y_layout);
  auto product = std::make_shared<const simd::Gemm>(std::move(problem), omp_get_max_threads());
  const BufferId scratch = context.scratch(product->scratch_bytes());
  return {"simd", {}, [=, swapped = p.swapped](const Memory& memory) -> Run {
            const void *left = memory.at(swapped ? second : first), *right = memory.at(swapped ? first : second);
            return [=, plus = memory.as<const float>(addend), to = memory.at(y), space = memory.at(scratch)] {
              (*product)(left, right, plus, to, space);
            };
          }};
}

std::string key_of(const Product& p, DType type, DType result, DType addend) {
  return fmt::format("{} x {} plus {} {}", product_key(p.a, p.b, p.y, type, result), p.alpha, p.addend,
                     name_of(addend));
}

/// `product` has everything but the memory: choose types, ask for operands, bind.
Made make_product(KernelContext& context, const Product& p) {
  const DType type = context.in(0).dtype;
  const bool is_possible = (type == DType::f32 || is_half(type)) && (!p.has_addend || is_matrix(p.addend));
  const bool is_preferred = is_possible && prefers_simd_product(p.a, p.b, type);
  if (is_preferred && !tuner()) return make_simd_product(context, p);
  auto out_type = [&](DType computed) { return computed == type ? context.out(0).dtype : DType::f32; };
  // oneDNN's f16 kernels add a bias in f32 only.
  auto addend_type = [&](DType computed) {
    return p.has_addend && computed != DType::f16 && context.in(2).dtype == computed ? computed : DType::f32;
  };
  const auto key = [&] {
    return key_of(p, type, context.out(0).dtype, p.has_addend ? context.in(2).dtype : DType::undefined);
  };
  const auto chosen = choose_primitive(type, key, [&](DType t) { return describe(p, t, out_type(t), addend_type(t)); });
  if (tuner() && chosen && is_possible) {
    const auto stored = describe(p, type, out_type(type), addend_type(type));
    if (tuner()->takes_second(key() + ", maker", primitive_candidate(chosen.pd, stored.get(true) ? stored : chosen.pd),
                              simd_candidate(simd_problem(p, type, context.out(0).dtype), omp_get_max_threads()),
                              is_preferred))
      return make_simd_product(context, p);
  } else if (is_preferred) {
    return make_simd_product(context, p);
  }
  if (!chosen) return refuse(fmt::format("oneDNN has no {} matrix product of this form", name_of(type)));

  const Operand first = context.read(0, p.a_layout, chosen.dtype), second = context.read(1, p.b_layout, chosen.dtype);
  Operand addend;
  if (p.has_addend) addend = context.read(2, Layout(), addend_type(chosen.dtype));
  const Operand y = context.write(0, p.y_layout, out_type(chosen.dtype));
  const BufferId scratch = context.scratch(chosen.pd.scratchpad_desc().get_size());
  std::vector<Argument> arguments = {
      {DNNL_ARG_SRC, chosen.pd.src_desc(), p.swapped ? second.buffer : first.buffer},
      {DNNL_ARG_WEIGHTS, chosen.pd.weights_desc(), p.swapped ? first.buffer : second.buffer},
      {DNNL_ARG_DST, chosen.pd.dst_desc(), y.buffer},
      {DNNL_ARG_SCRATCHPAD, chosen.pd.scratchpad_desc(), scratch}};
  if (addend) {
    const bool as_bias = p.alpha == 1 && is_row(p.addend, p.y.dims.back());
    const int index = as_bias ? DNNL_ARG_BIAS : (DNNL_ARG_ATTR_MULTIPLE_POST_OP(p.alpha != 1 ? 1 : 0) | DNNL_ARG_SRC_1);
    arguments.push_back({index, row_major(p.addend, addend.dtype), addend.buffer});
  }
  Bind run = bind_primitive(dnnl::matmul(chosen.pd), std::move(arguments));
  return {kernel_name(chosen.pd), conversion_remark(type, chosen.dtype), then(std::move(run), p.last, y)};
}

}  // namespace

Made make_gemm(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const bool trans_a = attributes.get_int("transA", 0) != 0, trans_b = attributes.get_int("transB", 0) != 0;
  const float beta = attributes.get_float("beta", 1);
  const Shape &as = context.in(0).shape, &bs = context.in(1).shape;
  Product p;
  p.alpha = attributes.get_float("alpha", 1);
  p.last = ops::epilogue_of(attributes);
  p.has_addend = context.has_input(2) && beta != 0;
  if (p.has_addend && beta != 1) return refuse("beta is neither 0 nor 1");

  p.a_layout = matrix_layout(context.layout(0), as);
  p.b_layout = matrix_layout(context.layout(1), bs);
  // A weight that lies [N, K] is read faster, and its gradient made faster, when it lies [K, N].
  if (trans_b && context.is_free(1)) p.b_layout = column_major(bs);
  p.a = matrix_of(p.a_layout, as);
  p.b = matrix_of(p.b_layout, bs);
  if (trans_a) p.a.transpose();
  if (trans_b) p.b.transpose();
  const Shape& ys = context.out(0).shape;
  if (context.has_input(2) && broadcast(context.in(2).shape, ys) != ys) return refuse("an addend that does not fit");
  p.y = row_major_matrices(dims_of(ys));
  if (p.has_addend) {
    p.addend = dims_of(context.in(2).shape);
    p.addend.insert(p.addend.begin(), 2 - p.addend.size(), 1);
  } else if (!p.last && matrix_layout(context.preferred_layout(0), ys) != Layout()) {
    p.y_layout = column_major(ys);
    p.y.strides = {1, ys[0]};
    for (Matrices* m : {&p.a, &p.b, &p.y}) m->transpose();
    std::swap(p.a, p.b);
    p.swapped = true;
  }
  return make_product(context, p);
}

Made make_matmul(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const Shape &as = context.in(0).shape, &bs = context.in(1).shape;
  Product p;
  p.alpha = attributes.get_float("alpha", 1);
  p.a_layout = matrix_layout(context.layout(0), as);
  p.b_layout = matrix_layout(context.layout(1), bs);
  p.a = matrix_of(p.a_layout, as.rank() == 1 ? Shape{1, as[0]} : as);
  p.b = matrix_of(p.b_layout, bs.rank() == 1 ? Shape{bs[0], 1} : bs);
  const bool trans_a = attributes.get_int("transA", 0) != 0;
  if (trans_a) p.a.transpose();
  if (attributes.get_int("transB", 0) != 0) p.b.transpose();
  // One matrix on the right: the batch axes on the left are just more rows.
  if (p.b.dims.size() == 2 && p.a.dims.size() > 2 && !trans_a) {
    const std::int64_t columns = p.a.dims.back();
    p.a = row_major_matrices({as.count() / columns, columns});
  }
  const std::size_t rank = std::max(p.a.dims.size(), p.b.dims.size());
  for (Matrices* m : {&p.a, &p.b}) {
    const std::int64_t size = m->dims.size() == 2 ? m->dims[0] * m->dims[1] : m->dims[0] * m->strides[0];
    m->strides.insert(m->strides.begin(), rank - m->dims.size(), size);
    m->dims.insert(m->dims.begin(), rank - m->dims.size(), 1);
  }
  Dims y(rank);
  for (std::size_t i = 0; i + 2 < rank; ++i) y[i] = std::max(p.a.dims[i], p.b.dims[i]);
  y[rank - 2] = p.a.dims[rank - 2];
  y[rank - 1] = p.b.dims[rank - 1];
  p.y = row_major_matrices(y);
  return make_product(context, p);
}

}  // namespace halfstep::onednn
