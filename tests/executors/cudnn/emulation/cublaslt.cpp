// cuBLASLt: column-major products of f32, f16 and bf16 matrices with the epilogues halfstep asks for.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <initializer_list>
#include <numbers>
#include <vector>

#include <cublasLt.h>

#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/numbers.h"
#include "tests/executors/cudnn/emulation/pending_error.h"

using halfstep::DType;

namespace {

constexpr std::size_t kWorkspace = 4096;  // every product wants that much

struct Operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  std::int32_t bias_type = -1;
  const void* aux = nullptr;
  std::int64_t aux_ld = 0;
  bool is_tf32 = false;

  bool is_one_of(std::initializer_list<cublasLtEpilogue_t> all) const { return std::ranges::count(all, epilogue) > 0; }
  bool has_bias() const {
    return is_one_of({CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX_BIAS});
  }
  bool has_sums() const { return is_one_of({CUBLASLT_EPILOGUE_BGRADA, CUBLASLT_EPILOGUE_BGRADB}); }
  bool is_gelu() const {
    return is_one_of({CUBLASLT_EPILOGUE_GELU, CUBLASLT_EPILOGUE_GELU_BIAS, CUBLASLT_EPILOGUE_GELU_AUX,
                      CUBLASLT_EPILOGUE_GELU_AUX_BIAS});
  }
  bool writes_aux() const { return is_one_of({CUBLASLT_EPILOGUE_GELU_AUX, CUBLASLT_EPILOGUE_GELU_AUX_BIAS}); }
  bool has_aux() const { return writes_aux() || epilogue == CUBLASLT_EPILOGUE_DGELU; }
  bool is_known() const {
    return epilogue == CUBLASLT_EPILOGUE_DEFAULT || has_bias() || has_sums() || is_gelu() || has_aux();
  }
};
struct Layout {
  DType type = DType::undefined;
  std::int64_t rows = 0, columns = 0, ld = 0, stride = 0;
  std::int32_t batch = 1;
  std::size_t bytes() const {
    return halfstep::bytes_of(type, static_cast<std::size_t>((batch - 1) * stride + (columns - 1) * ld + rows));
  }
};
struct Preference {
  std::size_t workspace = 0;
  std::uint32_t alignment[4] = {256, 256, 256, 256};
  std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
};

Operation& get(cublasLtMatmulDesc_t d) { return *reinterpret_cast<Operation*>(d); }
Layout& get(cublasLtMatrixLayout_t d) { return *reinterpret_cast<Layout*>(d); }
Preference& get(cublasLtMatmulPreference_t d) { return *reinterpret_cast<Preference*>(d); }

DType dtype_of(cudaDataType_t t) {
  return t == CUDA_R_32F    ? DType::f32
         : t == CUDA_R_16F  ? DType::f16
         : t == CUDA_R_16BF ? DType::bf16
                            : DType::undefined;
}

template <class T, class Handle>
cublasStatus_t make(Handle* handle, T value) {
  *handle = reinterpret_cast<Handle>(new T(value));
  emulation::count_object(1);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T, class Handle>
cublasStatus_t destroy(Handle handle) {
  delete reinterpret_cast<T*>(handle);
  emulation::count_object(-1);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t assign(T& member, const void* value, std::size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&member, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t refuse(const char* why, cublasStatus_t status = CUBLAS_STATUS_INVALID_VALUE) {
  emulation::refuse(why);
  return status;
}

/// As the manual's tables of cublasLtMatmul: extents fit, leading dimensions cover columns, types are a supported row.
cublasStatus_t check(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const std::int64_t m = o.a == CUBLAS_OP_N ? a.rows : a.columns, k = o.a == CUBLAS_OP_N ? a.columns : a.rows;
  const std::int64_t n = o.b == CUBLAS_OP_N ? b.columns : b.rows, kb = o.b == CUBLAS_OP_N ? b.rows : b.columns;
  if (o.is_tf32 && (a.type != DType::f32 || b.type != DType::f32)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (k != kb || d.rows != m || d.columns != n || c.rows != m || c.columns != n) return refuse("extents do not fit");
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (l->ld < l->rows) return refuse("a leading dimension is below the rows");
    if (l->batch != d.batch) return refuse("batch counts differ");
    if (l->batch > 65535) return refuse("more matrices than every algorithm takes", CUBLAS_STATUS_NOT_SUPPORTED);
  }
  if (a.type != b.type || c.type != d.type || (d.type != a.type && d.type != DType::f32))
    return refuse("types are not in the table", CUBLAS_STATUS_NOT_SUPPORTED);
  if (!o.is_known()) return refuse("an epilogue that is not emulated");
  const bool has_vector = o.has_bias() || o.has_sums();
  if (has_vector && dtype_of(static_cast<cudaDataType_t>(o.bias_type)) != d.type)
    return refuse("the bias' type is not the result's", CUBLAS_STATUS_NOT_SUPPORTED);
  if (has_vector && !o.bias) return refuse("the epilogue has no bias");
  if (o.has_aux() && !o.aux) return refuse("the epilogue has no auxiliary matrix");
  if (o.has_aux() && (o.aux_ld < d.rows || o.aux_ld % 8 != 0))
    return refuse("the auxiliary matrix' leading dimension is below the rows, or no multiple of 8");
  if (o.has_aux() && reinterpret_cast<std::uintptr_t>(o.aux) % 16 != 0)
    return refuse("the auxiliary matrix does not begin at a multiple of 16 bytes");
  if ((o.has_aux() || o.has_sums()) && d.batch != 1) return refuse("an auxiliary result of a batch is not emulated");
  if (!emulation::machine().has_epilogues && (o.has_aux() || o.has_sums() || o.is_gelu()))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

int products = 0, epilogues = 0;

/// The approximation by tanh, which is the only one that cuBLASLt has.
double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}
/// By its formula, without a care for limits: NaN where x is infinite.
float gelu_slope(float x) {
  const float c = std::sqrt(2 / std::numbers::pi_v<float>), cubic = 0.044715F;
  const float t = std::tanh(c * (x + cubic * x * x * x));
  return 0.5F * (1 + t) + 0.5F * x * (1 - t * t) * c * (1 + 3 * cubic * x * x);
}

}  // namespace

int emulation::products_launched() { return products; }
int emulation::epilogues_launched() { return epilogues; }

extern "C" {

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return make(handle, int{0}); }
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) { return destroy<int>(handle); }
std::size_t cublasLtGetVersion() { return 130000; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "a cuBLASLt status"; }

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* d, cublasComputeType_t compute, cudaDataType_t scale) {
  if ((compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_FAST_TF32) || scale != CUDA_R_32F)
    return refuse("only f32 accumulation is emulated");
  return make(d, Operation{.is_tf32 = compute == CUBLAS_COMPUTE_32F_FAST_TF32});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t d) { return destroy<Operation>(d); }
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, std::size_t bytes) {
  Operation& o = get(d);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign(o.a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign(o.b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign(o.epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign(o.bias, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE:
      return assign(o.bias_type, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return assign(o.aux, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return assign(o.aux_ld, value, bytes);
    default:
      return refuse("an attribute of the operation that is not emulated");
  }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* d, cudaDataType type, std::uint64_t rows,
                                          std::uint64_t columns, std::int64_t ld) {
  Layout l;
  l.type = dtype_of(type);
  l.rows = static_cast<std::int64_t>(rows);
  l.columns = static_cast<std::int64_t>(columns);
  l.ld = ld;
  return make(d, l);
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t d) { return destroy<Layout>(d); }
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t d, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, std::size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return assign(get(d).batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return assign(get(d).stride, value, bytes);
    default:
      return refuse("an attribute of a layout that is not emulated");
  }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* d) { return make(d, Preference{}); }
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t d) { return destroy<Preference>(d); }
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t d,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    std::size_t bytes) {
  Preference& p = get(d);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(p.workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(p.reductions, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return assign(p.alignment[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return assign(p.alignment[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return assign(p.alignment[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign(p.alignment[3], value, bytes);
    default:
      return refuse("an attribute of a preference that is not emulated");
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[], int* found) {
  *found = 0;
  if (emulation::fails("heuristic")) {
    emulation::leave_error(cudaErrorInvalidValue);
    return CUBLAS_STATUS_INTERNAL_ERROR;
  }
  const cublasStatus_t status = check(get(operation), get(a), get(b), get(c), get(d));
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (requested < 1 || get(preference).workspace < kWorkspace) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (get(preference).reductions & ~std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE})
    return refuse("parts of a sum may be rounded to the type of the result");
  *found = std::min(requested, emulation::machine().algorithms + 1);
  for (int i = 0; i < *found; ++i) {
    results[i] = {};
    results[i].state = i == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS;
    if (i == 0) continue;  // of an invalid proposal nothing else means anything
    // The algorithm remembers what it was chosen for.
    results[i].algo.data[0] = *std::ranges::max_element(get(preference).alignment);
    results[i].algo.data[1] = static_cast<std::uint64_t>(i - 1);
    results[i].workspaceSize = kWorkspace;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout,
                              const void* beta, const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              std::size_t workspace_bytes, cudaStream_t stream) {
  const Operation o = get(operation);
  const Layout la = get(a_layout), lb = get(b_layout), lc = get(c_layout), ld = get(d_layout);
  const cublasStatus_t status = check(o, la, lb, lc, ld);
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (workspace_bytes > 0 && reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0)
    return refuse("a workspace that does not begin at a multiple of 256 bytes");
  if (!algorithm || algorithm->data[0] == 0) return refuse("the algorithm was not chosen by the heuristic");
  for (const auto& [p, l] : {std::pair<const void*, const Layout&>{a, la}, {b, lb}, {c, lc}, {d, ld}}) {
    if (!emulation::is_device(p, l.bytes())) return refuse("a matrix does not lie in device memory");
    if (reinterpret_cast<std::uintptr_t>(p) % algorithm->data[0])
      return refuse("a matrix lies less aligned than was preferred");
  }
  if (workspace_bytes < kWorkspace || !emulation::is_device(workspace, workspace_bytes))
    return refuse("the workspace is too small");
  const bool sums_b = o.epilogue == CUBLASLT_EPILOGUE_BGRADB;
  const auto bytes = [&](std::int64_t count) { return halfstep::bytes_of(ld.type, static_cast<std::size_t>(count)); };
  if ((o.has_bias() || o.has_sums()) && !emulation::is_device(o.bias, bytes(sums_b ? ld.columns : ld.rows)))
    return refuse("the bias does not lie in device memory");
  if (o.has_aux() && !emulation::is_device(o.aux, bytes((ld.columns - 1) * o.aux_ld + ld.rows)))
    return refuse("the auxiliary matrix does not lie in device memory");
  const float x = *static_cast<const float*>(alpha), y = *static_cast<const float*>(beta);
  if (o.has_sums() && x != 1) return refuse("nothing says whether sums are scaled as the product is");
  ++products;
  if (o.has_aux() || o.has_sums() || o.is_gelu()) {
    ++epilogues;
    if (emulation::fails("epilogue")) {
      emulation::leave_error(cudaErrorLaunchFailure);
      return CUBLAS_STATUS_EXECUTION_FAILED;
    }
  }
  emulation::submit(stream, [=, number = static_cast<int>(algorithm->data[1])] {
    emulation::take_time("algorithm", number);
    std::memset(workspace, 0xee, workspace_bytes);
    const std::int64_t k = o.a == CUBLAS_OP_N ? la.columns : la.rows;
    const auto a_at = [&](std::int64_t z, std::int64_t i, std::int64_t r) {
      return emulation::load(la.type, a, z * la.stride + (o.a == CUBLAS_OP_N ? r * la.ld + i : i * la.ld + r));
    };
    const auto b_at = [&](std::int64_t z, std::int64_t r, std::int64_t j) {
      return emulation::load(lb.type, b, z * lb.stride + (o.b == CUBLAS_OP_N ? j * lb.ld + r : r * lb.ld + j));
    };
    for (std::int64_t i = 0; o.has_sums() && i < (sums_b ? ld.columns : ld.rows); ++i) {
      double sum = 0;
      for (std::int64_t r = 0; r < k; ++r) sum += sums_b ? b_at(0, r, i) : a_at(0, i, r);
      emulation::store(ld.type, const_cast<void*>(o.bias), i, sum);
    }
    std::vector<double> left(static_cast<std::size_t>(ld.rows * k)), column(static_cast<std::size_t>(k));
    for (std::int64_t z = 0; z < ld.batch; ++z) {
      for (std::int64_t i = 0; i < ld.rows; ++i)
        for (std::int64_t r = 0; r < k; ++r) left[i * k + r] = a_at(z, i, r);
      for (std::int64_t j = 0; j < ld.columns; ++j) {
        for (std::int64_t r = 0; r < k; ++r) column[r] = b_at(z, r, j);
        for (std::int64_t i = 0; i < ld.rows; ++i) {
          double sum = 0;
          for (std::int64_t r = 0; r < k; ++r) sum += left[i * k + r] * column[r];
          sum *= x;
          if (y != 0) sum += y * emulation::load(lc.type, c, z * lc.stride + j * lc.ld + i);
          if (o.has_bias()) sum += emulation::load(ld.type, o.bias, i);
          const std::int64_t beside = j * o.aux_ld + i;
          if (o.writes_aux()) emulation::store(ld.type, const_cast<void*>(o.aux), beside, sum);
          if (o.is_gelu()) sum = gelu(sum);
          if (o.epilogue == CUBLASLT_EPILOGUE_DGELU)
            sum *= gelu_slope(static_cast<float>(emulation::load(ld.type, o.aux, beside)));
          emulation::store(ld.type, d, z * ld.stride + j * ld.ld + i, sum);
        }
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}
}
