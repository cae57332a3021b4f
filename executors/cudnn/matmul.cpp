// Makers of matrix products, by cuBLASLt.
//
// cuBLASLt thinks column-major, where a row-major matrix is its transpose. So Y = op(A) op(B) is asked for as
// Y' = op(B)' op(A)': operands swapped, rows and columns swapped, each operand's op unchanged.
#include <array>
#include <optional>
#include <span>
#include <string>

#include <fmt/format.h>

#include "executors/cudnn/chain.h"
#include "executors/cudnn/entry_cache.h"
#include "executors/cudnn/fastest.h"
#include "executors/cudnn/indexing.h"
#include "executors/cudnn/kernel_table.h"
#include "executors/cudnn/kernels/elementwise.h"
#include "executors/cudnn/kernels/launch.h"
#include "ops/epilogue_formula.h"

namespace halfstep::cudnn {
namespace {

constexpr std::size_t kMaxWorkspace = std::size_t{32} << 20;
/// What memory planning guarantees; cuBLASLt would assume 256 bytes.
constexpr std::uint32_t kAlignment = 64;
/// Algorithms that are timed.
constexpr int kProposals = 8;
constexpr std::uintptr_t kWorkspaceAlignment = 256;  // as cublasLtMatmul asks

/// One operand: a stack of row-major matrices, `stride` elements apart (0: the same one for the whole batch).
struct Operand {
  std::int64_t rows, columns;
  bool transposed;
  std::int64_t stride = 0;
};

struct Product {
  Operand a, b;
  std::int64_t batch = 1;
  float alpha = 1, beta = 0;
  DType type, to;
  bool bias = false;        ///< [columns of Y], added by the epilogue
  ops::Epilogue last = {};  ///< applied in place

  std::int64_t rows() const { return a.transposed ? a.columns : a.rows; }
  std::int64_t columns() const { return b.transposed ? b.rows : b.columns; }
};

std::optional<cudaDataType_t> data_type(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::f16:
      return CUDA_R_16F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return std::nullopt;
  }
}

MatrixLayout layout(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t batch, std::int64_t stride) {
  cublasLtMatrixLayout_t handle = nullptr;
  check(cublasLtMatrixLayoutCreate(&handle, data_type(dtype).value(), static_cast<std::uint64_t>(columns),
                                   static_cast<std::uint64_t>(rows), columns),
        "cublasLtMatrixLayoutCreate");
  MatrixLayout owned(handle);
  const auto set = [&](cublasLtMatrixLayoutAttribute_t attribute, const auto& value) {
    check(cublasLtMatrixLayoutSetAttribute(handle, attribute, &value, sizeof value),
          "cublasLtMatrixLayoutSetAttribute");
  };
  if (batch > 1) {
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, static_cast<std::int32_t>(batch));
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  return owned;
}

/// A product ready to launch.
struct Plan {
  MatmulDescriptor operation;
  MatrixLayout a, b, y;
  cublasLtMatmulAlgo_t algorithm{};
  std::size_t workspace = 0;
};

template <class T>
void set(const MatmulDescriptor& operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(operation.get(), attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}

MatmulPreference preference() {
  cublasLtMatmulPreference_t handle = nullptr;
  check(cublasLtMatmulPreferenceCreate(&handle), "cublasLtMatmulPreferenceCreate");
  MatmulPreference owned(handle);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(handle, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMaxWorkspace);
  for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, kAlignment);
  return owned;
}

/// All that decides about a product's algorithm.
std::string key_of(const Product& p, const Libraries& libraries) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, libraries.device), "cudaGetDeviceProperties");
  const auto operand = [](const Operand& o) {
    return fmt::format("{} {} {} {}", o.rows, o.columns, o.transposed, o.stride);
  };
  return fmt::format("halfstep product 2\ncuBLASLt {} {} {}.{} {} {} {} {}\n{} | {} | {} {} {} {} {} {} {}\n",
                     cublasLtGetVersion(), properties.name, properties.major, properties.minor,
                     properties.multiProcessorCount, kProposals, kAlignment, kMaxWorkspace, operand(p.a), operand(p.b),
                     p.batch, name_of(p.type), name_of(p.to), p.alpha, p.beta, p.bias, libraries.arithmetic.tf32);
}

/// The number of the algorithm that multiplies fastest, on operands of zeros; the first where there is no memory for
/// them.
std::size_t choose(const Product& p, const Plan& plan, std::span<const cublasLtMatmulHeuristicResult_t> proposals,
                   const Libraries& libraries) {
  if (proposals.size() < 2) return 0;
  constexpr std::size_t kMost = std::size_t{1} << 30;
  const auto bytes = [](DType type, std::int64_t rows, std::int64_t columns, std::int64_t matrices) {
    return bytes_of(type, static_cast<std::size_t>(rows * columns * matrices));
  };
  const auto matrices = [&](const Operand& o) { return o.stride == 0 ? std::int64_t{1} : p.batch; };
  const std::size_t a = bytes(p.type, p.a.rows, p.a.columns, matrices(p.a)),
                    b = bytes(p.type, p.b.rows, p.b.columns, matrices(p.b)),
                    y = bytes(p.to, p.rows(), p.columns(), p.batch), bias = bytes(p.to, 1, p.columns(), 1);
  if (a + b + y + bias + kMaxWorkspace > kMost) return 0;
  const cudaStream_t stream = libraries.stream.get();
  const auto seconds = [&](std::size_t i) {
    const DeviceBuffer as(a, stream), bs(b, stream), ys(y, stream), biases(bias, stream),
        workspace(proposals[i].workspaceSize, stream);
    if (p.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<const void*>(biases.get()));
    return seconds_of(
        [&] {
          return cublasLtMatmul(libraries.blas.get(), plan.operation.get(), &p.alpha, bs.get(), plan.b.get(), as.get(),
                                plan.a.get(), &p.beta, ys.get(), plan.y.get(), ys.get(), plan.y.get(),
                                &proposals[i].algo, workspace.get(), proposals[i].workspaceSize,
                                stream) == CUBLAS_STATUS_SUCCESS;
        },
        stream);
  };
  try {
    return fastest_known(kernel_cache_folder(), key_of(p, libraries), proposals.size(), seconds);
  } catch (const Error&) {  // of memory
    cudaGetLastError();     // which the next launch would report
    return 0;
  }
}

/// Nothing when cuBLASLt has no algorithm for the product.
std::shared_ptr<const Plan> make_plan(const Product& p, const Libraries& libraries) {
  Plan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  // Both accumulate in f32; CUBLAS_COMPUTE_32F multiplies f32 operands as f32, and is the only one for halves.
  const bool tf32 = libraries.arithmetic.tf32 && p.type == DType::f32;
  const cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  plan.operation = MatmulDescriptor(operation);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT);
  if (p.bias) {
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(data_type(p.to).value()));
    // The heuristic looks at the address' alignment alone; launch puts the real one.
    set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, reinterpret_cast<const void*>(std::uintptr_t{kAlignment}));
  }
  plan.a = layout(p.type, p.a.rows, p.a.columns, p.batch, p.a.stride);
  plan.b = layout(p.type, p.b.rows, p.b.columns, p.batch, p.b.stride);
  plan.y = layout(p.to, p.rows(), p.columns(), p.batch, p.rows() * p.columns());

  const MatmulPreference preferred = preference();
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposals{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(libraries.blas.get(), operation, plan.b.get(), plan.a.get(), plan.y.get(),
                                     plan.y.get(), preferred.get(), kProposals, proposals.data(), &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0)) return nullptr;
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  const auto& best = proposals[choose(p, plan, {proposals.data(), static_cast<std::size_t>(found)}, libraries)];
  plan.algorithm = best.algo;
  plan.workspace = best.workspaceSize;
  return share(std::move(plan));
}

std::string kernel_name(const Product& p) {
  std::string name = "cublaslt: matmul";
  if (p.bias) name += " + bias";
  if (p.last) name += " + activation";
  return name;
}

void run(const Plan& plan, const Product& p, cublasLtHandle_t handle, const Launch& l) {
  if (p.bias) set(plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, l.in[2]);
  const auto place =
      (reinterpret_cast<std::uintptr_t>(l.scratch) + kWorkspaceAlignment - 1) & ~(kWorkspaceAlignment - 1);
  check(cublasLtMatmul(handle, plan.operation.get(), &p.alpha, l.in[1], plan.b.get(), l.in[0], plan.a.get(), &p.beta,
                       l.out[0], plan.y.get(), l.out[0], plan.y.get(), &plan.algorithm,
                       plan.workspace ? reinterpret_cast<void*>(place) : nullptr, plan.workspace, l.stream),
        "cublasLtMatmul");
}

/// An activation in place by an own kernel: what cuBLASLt's make of NaN is not documented.
ChainKernel in_place(KernelContext& context, const ops::Epilogue& epilogue) {
  const ops::FormulaRow& row = ops::row_of(*ops::formula_of(epilogue));
  Attributes attributes;
  if (!row.variant.attribute.empty()) attributes.set(row.variant.attribute, std::string(row.variant.text));
  Graph body;
  const Value& y = context.out(0);
  const ValueId from = body.add_input("", y.dtype, y.shape), to = body.add_value("", y.dtype, y.shape);
  body.define({to}, std::string(row.op), "", {from}, std::move(attributes));
  body.outputs = {to};
  return load_chain(context, body);
}

/// Puts Gemm's C, broadcast and converted, where Y will be, for the product to be added to.
using Prepare = std::function<void(const Launch&)>;

Made finish(KernelContext& context, const Product& p, Prepare prepare = {}) {
  if (!data_type(p.type)) return refuse("cuBLASLt multiplies f32, f16 and bf16, not " + std::string(name_of(p.type)));
  if (p.to != p.type && p.to != DType::f32) return refuse("the result's type is neither the operands' nor f32");
  const cublasLtHandle_t handle = libraries(context).blas.get();
  // Without a device cuBLASLt answers nothing.
  const bool is_described = libraries(context).properties != nullptr;
  const auto plan = is_described ? std::make_shared<const Plan>() : make_plan(p, libraries(context));
  if (!plan) return refuse("cuBLASLt has no algorithm for this product");
  const ChainKernel after = p.last ? in_place(context, p.last) : ChainKernel();
  if (!after.refusal.empty()) return refuse(after.refusal);
  const auto launch = [=](const Launch& l) {
    if (prepare) prepare(l);
    run(*plan, p, handle, l);
    if (after.launch) after.launch({l.out[0]}, {l.out[0]}, l.stream);
  };
  return on_device(context, {.name = kernel_name(p),
                             .remark = is_described ? "the algorithm is chosen on the device" : "",
                             .launch = launch,
                             .scratch_bytes = plan->workspace ? plan->workspace + kWorkspaceAlignment : 0});
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

}  // namespace

Made make_gemm(KernelContext& context) {
  const Attributes& attributes = context.node().attributes;
  const Shape &a = context.in(0).shape, &b = context.in(1).shape;
  Product p{.a = {a[0], a[1], attributes.get_int("transA", 0) != 0},
            .b = {b[0], b[1], attributes.get_int("transB", 0) != 0},
            .alpha = attributes.get_float("alpha", 1),
            .type = context.in(0).dtype,
            .to = context.out(0).dtype};
  p.last = ops::epilogue_of(attributes);
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
