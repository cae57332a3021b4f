#include "executors/cudnn/product.h"

#include <array>
#include <optional>

#include "executors/cudnn/pending_failure.h"
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep::cudnn {
namespace {

// cuBLASLt thinks column-major, where a row-major matrix is its transpose. So Y = op(A) op(B) is asked for as
// Y' = op(B)' op(A)': operands swapped, rows and columns swapped, each operand's op unchanged.

constexpr std::size_t kMaxWorkspace = std::size_t{32} << 20;
constexpr int kProposals = 8;

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
  // Where the sum is split its parts stay in f32: in the type of the result they would be coarse, or overflow.
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  for (auto attribute : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                         CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    prefer(attribute, kOperandAlignment);
  return owned;
}

/// What cuBLASLt does in an epilogue. Its Gelu is the approximation by tanh, and nothing says how near its tanh is: f32
/// takes our own. Its Relu makes 0 of NaN, so that a run that has diverged would not show it: that one is never asked
/// for, nor is the slope by its mask. Nor does anything say whether sums are scaled as the product is.
std::optional<cublasLtEpilogue_t> whole_epilogue(const Product& p) {
  const bool is_gelu = p.last.kind == ops::Epilogue::Kind::gelu_tanh && is_half(p.to);
  const bool is_matrix = p.columns() % 8 == 0;  // rows of Z
  switch (p.beside) {
    case Beside::nothing:
      return std::nullopt;
    case Beside::activation:
      return !is_gelu ? std::nullopt : std::optional(p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU);
    case Beside::operand:
      if (!is_gelu || !is_matrix) return std::nullopt;
      return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Beside::slope:
      return is_gelu && is_matrix ? std::optional(CUBLASLT_EPILOGUE_DGELU) : std::nullopt;
    case Beside::sums_a:
    case Beside::sums_b:
      if (p.alpha != 1) return std::nullopt;
      return p.beside == Beside::sums_a ? CUBLASLT_EPILOGUE_BGRADB : CUBLASLT_EPILOGUE_BGRADA;  // operands are swapped
  }
  return std::nullopt;
}

std::shared_ptr<const ProductForm> make_form(const Product& p, cublasLtEpilogue_t epilogue, bool is_whole,
                                             const Arithmetic& arithmetic) {
  ProductForm form;
  const bool tf32 = arithmetic.tf32 && p.type == DType::f32;
  cublasLtMatmulDesc_t operation = nullptr;
  // Both accumulate in f32; CUBLAS_COMPUTE_32F multiplies f32 operands as f32, and is the only one for halves.
  const cublasComputeType_t compute = tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check(cublasLtMatmulDescCreate(&operation, compute, CUDA_R_32F), "cublasLtMatmulDescCreate");
  form.operation = MatmulDescriptor(operation);
  form.is_whole = is_whole;
  // The heuristic looks at the alignment of addresses alone; a launch puts the real ones.
  const auto* somewhere = reinterpret_cast<const void*>(std::uintptr_t{kOperandAlignment});
  set(form.operation, CUBLASLT_MATMUL_DESC_TRANSA, p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(form.operation, CUBLASLT_MATMUL_DESC_TRANSB, p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(form.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue);
  if (p.bias || (is_whole && has_sums(p))) {
    set(form.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<std::int32_t>(data_type(p.to).value()));
    set(form.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, somewhere);
  }
  if (is_whole && has_operand(p)) {
    set(form.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.columns());
    set(form.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, somewhere);
  }
  form.a = layout(p.type, p.a.rows, p.a.columns, p.batch, p.a.stride);
  form.b = layout(p.type, p.b.rows, p.b.columns, p.batch, p.b.stride);
  form.y = layout(p.to, p.rows(), p.columns(), p.batch, p.rows() * p.columns());
  return share(std::move(form));
}

/// What cuBLASLt proposes for a form, best first; nothing where it has no algorithm.
void append_plans(std::vector<ProductPlan>& plans, std::shared_ptr<const ProductForm> form, const Libraries& libraries,
                  bool has_other) {
  const MatmulPreference preferred = preference();
  std::array<cublasLtMatmulHeuristicResult_t, kProposals> proposals{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      libraries.blas.get(), form->operation.get(), form->b.get(), form->a.get(), form->y.get(), form->y.get(),
      preferred.get(), kProposals, proposals.data(), &found);
  // Whatever it says against an epilogue: there is another way.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status != CUBLAS_STATUS_SUCCESS && has_other)) return forget_failure();
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  for (int i = 0; i < found; ++i)
    if (proposals[i].state == CUBLAS_STATUS_SUCCESS)
      plans.push_back({form, proposals[i].algo, proposals[i].workspaceSize});
}

/// Where the plan's product goes.
void* result_of(const Product& p, const ProductPlan& plan, const Launch& l) {
  return p.beside == Beside::operand && !plan.form->is_whole ? l.out[1] : l.out[0];
}

}  // namespace

bool is_multiplied(DType dtype) { return data_type(dtype).has_value(); }

std::vector<ProductPlan> plain_plans_of(const Product& p, const Libraries& libraries) {
  const cublasLtEpilogue_t plain = p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  const bool is_whole = p.beside == Beside::nothing;
  std::vector<ProductPlan> plans;
  append_plans(plans, make_form(p, plain, is_whole, libraries.arithmetic), libraries, false);
  return plans;
}

std::vector<ProductPlan> plans_of(const Product& p, const Libraries& libraries) {
  constexpr int kLeastForEpilogues = 90;
  std::vector<ProductPlan> whole, apart = plain_plans_of(p, libraries);
  if (const auto epilogue = whole_epilogue(p))
    append_plans(whole, make_form(p, *epilogue, true, libraries.arithmetic), libraries, true);
  const bool whole_first = libraries.capability >= kLeastForEpilogues;
  std::vector<ProductPlan>&first = whole_first ? whole : apart, &second = whole_first ? apart : whole;
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

cublasStatus_t run_product(const ProductPlan& plan, const Product& p, cublasLtHandle_t handle, const Launch& l,
                           void* workspace, std::int64_t first) {
  const ProductForm& form = *plan.form;
  const auto skipped = [&](DType type, std::int64_t stride) {
    return bytes_of(type, static_cast<std::size_t>(first * stride));
  };
  if (p.bias) set(form.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, l.in[2]);
  if (form.is_whole && has_sums(p)) set(form.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, l.out[1]);
  if (form.is_whole && has_operand(p))
    set(form.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER,
        p.beside == Beside::operand ? static_cast<const void*>(l.out[1]) : l.in[2]);
  const auto* a = static_cast<const std::byte*>(l.in[0]) + skipped(p.type, p.a.stride);
  const auto* b = static_cast<const std::byte*>(l.in[1]) + skipped(p.type, p.b.stride);
  auto* y = static_cast<std::byte*>(result_of(p, plan, l)) + skipped(p.to, p.rows() * p.columns());
  return cublasLtMatmul(handle, form.operation.get(), &p.alpha, b, form.b.get(), a, form.a.get(), &p.beta, y,
                        form.y.get(), y, form.y.get(), &plan.algorithm, plan.workspace ? workspace : nullptr,
                        plan.workspace, l.stream);
}

}  // namespace halfstep::cudnn
