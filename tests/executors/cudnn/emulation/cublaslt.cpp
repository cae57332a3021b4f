// cuBLASLt: column-major products of f32, f16 and bf16 matrices with the epilogues halfstep asks for.
#include <algorithm>
#include <cstring>

#include <cublasLt.h>

#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/numbers.h"

using halfstep::DType;

namespace {

constexpr std::size_t kWorkspace = 4096;  // every product wants that much

struct Operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  std::int32_t bias_type = -1;
  bool is_tf32 = false;
  bool has_bias() const { return epilogue == CUBLASLT_EPILOGUE_BIAS; }
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
  }
  if (a.type != b.type || c.type != d.type || (d.type != a.type && d.type != DType::f32))
    return refuse("types are not in the table", CUBLAS_STATUS_NOT_SUPPORTED);
  if (o.has_bias() && dtype_of(static_cast<cudaDataType_t>(o.bias_type)) != d.type)
    return refuse("the bias' type is not the result's", CUBLAS_STATUS_NOT_SUPPORTED);
  if (o.has_bias() && !o.bias) return refuse("the epilogue has no bias");
  return CUBLAS_STATUS_SUCCESS;
}

int products = 0;

}  // namespace

int emulation::products_launched() { return products; }

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
  if (emulation::fails("heuristic")) return CUBLAS_STATUS_INTERNAL_ERROR;
  const cublasStatus_t status = check(get(operation), get(a), get(b), get(c), get(d));
  if (status != CUBLAS_STATUS_SUCCESS) return status;
  if (requested < 1 || get(preference).workspace < kWorkspace) return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = std::min(requested, emulation::machine().algorithms);
  for (int i = 0; i < *found; ++i) {
    results[i] = {};
    // The algorithm remembers what it was chosen for.
    results[i].algo.data[0] = *std::ranges::max_element(get(preference).alignment);
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
  if (o.has_bias() && !emulation::is_device(o.bias, halfstep::bytes_of(ld.type, static_cast<std::size_t>(ld.rows))))
    return refuse("the bias does not lie in device memory");
  ++products;
  const float x = *static_cast<const float*>(alpha), y = *static_cast<const float*>(beta);
  emulation::submit(stream, [=] {
    std::memset(workspace, 0xee, workspace_bytes);
    const std::int64_t k = o.a == CUBLAS_OP_N ? la.columns : la.rows;
    for (std::int64_t z = 0; z < ld.batch; ++z)
      for (std::int64_t j = 0; j < ld.columns; ++j)
        for (std::int64_t i = 0; i < ld.rows; ++i) {
          double sum = 0;
          for (std::int64_t r = 0; r < k; ++r)
            sum += emulation::load(la.type, a, z * la.stride + (o.a == CUBLAS_OP_N ? r * la.ld + i : i * la.ld + r)) *
                   emulation::load(lb.type, b, z * lb.stride + (o.b == CUBLAS_OP_N ? j * lb.ld + r : r * lb.ld + j));
          sum *= x;
          if (y != 0) sum += y * emulation::load(lc.type, c, z * lc.stride + j * lc.ld + i);
          if (o.has_bias()) sum += emulation::load(ld.type, o.bias, i);
          emulation::store(ld.type, d, z * ld.stride + j * ld.ld + i, sum);
        }
  });
  return CUBLAS_STATUS_SUCCESS;
}
}
