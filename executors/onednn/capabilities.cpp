#include "executors/onednn/capabilities.h"

#include <fmt/format.h>

#include "base/machine_memory.h"
#include "executors/onednn/cpu_features.h"
#include "executors/onednn/kernel_table.h"
#include "executors/onednn/kernels/chain.h"
#include "executors/onednn/kernels/kernels.h"

namespace halfstep::onednn {
namespace {

bool has_matmul(DType t) {
  const dnnl::matmul::primitive_desc pd(engine(), row_major(Dims{32, 64}, t), row_major(Dims{64, 128}, t),
                                        row_major(Dims{32, 128}, t), {}, true);
  return pd.get(true) && !is_slow(pd);
}

const Dims kImage = {8, 64, 16, 16}, kUnit = {1, 1}, kNone = {0, 0};

bool has_convolution(DType t) {
  const dnnl::convolution_forward::primitive_desc pd(
      engine(), dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, any_order(kImage, t),
      any_order({64, 64, 3, 3}, t), Desc(), any_order(kImage, t), kUnit, kUnit, kUnit, {}, true);
  return pd.get(true) && !is_slow(pd);
}

bool has_pooling(DType t) {
  const dnnl::pooling_forward::primitive_desc pd(
      engine(), dnnl::prop_kind::forward_training, dnnl::algorithm::pooling_max, row_major(kImage, t),
      any_order({8, 64, 8, 8}, t), Dims{2, 2}, Dims{2, 2}, kNone, kNone, kNone, {}, true);
  return pd.get(true) && !is_slow(pd);
}

bool has_normalization(DType t) {
  const Desc d = row_major(kImage, t);
  const dnnl::batch_normalization_forward::primitive_desc pd(
      engine(), dnnl::prop_kind::forward_training, d, d, 1e-5F,
      dnnl::normalization_flags::use_scale | dnnl::normalization_flags::use_shift, {}, true);
  return pd.get(true) && !is_slow(pd);
}

// Whether arithmetic in this type is the CPU's own, and oneDNN may use it; it emulates bf16 on any AVX-512.
bool has_arithmetic(const CpuFeatures& cpu, DType t) {
  const auto isa = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  auto allows = [isa](dnnl::cpu_isa wanted) {
    return (isa & static_cast<unsigned>(wanted)) == static_cast<unsigned>(wanted);
  };
  if (t == DType::bf16) return (cpu.avx512_bf16 || cpu.amx_bf16) && allows(dnnl::cpu_isa::avx512_core_bf16);
  if (t == DType::f16) return (cpu.avx512_fp16 || cpu.amx_fp16) && allows(dnnl::cpu_isa::avx512_core_fp16);
  return t == DType::f32;
}

/// The type `--precision auto` takes, and why. Emulated half types are slower than f32, so native units decide.
void choose_precision(const CpuFeatures& cpu, Capabilities& c) {
  if (c.is_native(OpClass::matmul, DType::bf16)) {
    c.auto_precision = DType::bf16;
    c.auto_reason = fmt::format("the CPU multiplies bf16 natively ({}) and bf16 needs no loss scale",
                                cpu.amx_bf16 ? "AMX-BF16" : "AVX512-BF16");
  } else if (c.is_native(OpClass::matmul, DType::f16)) {
    c.auto_precision = DType::f16;
    c.auto_reason = fmt::format("the CPU computes in fp16 natively ({}) and has no bf16 units",
                                cpu.amx_fp16 ? "AMX-FP16" : "AVX512-FP16");
  } else {
    c.auto_precision = DType::f32;
    c.auto_reason =
        "oneDNN finds no arithmetic in a half-precision type on this CPU "
        "(AVX512-BF16, AMX-BF16, AVX512-FP16 or AMX-FP16)";
  }
}

}  // namespace

Capabilities probe_capabilities(int threads) {
  const CpuFeatures cpu = detect_cpu();
  Capabilities c;
  c.device = fmt::format("{}, {} {}", cpu.model, threads, threads == 1 ? "thread" : "threads");
  c.features = cpu.names();
  const dnnl_version_t* version = dnnl::version();
  c.features.push_back(fmt::format("oneDNN {}.{}.{}", version->major, version->minor, version->patch));

  struct Probe {
    OpClass op_class;
    bool (*has)(DType);
  };
  const Probe probes[] = {{OpClass::matmul, has_matmul},
                          {OpClass::convolution, has_convolution},
                          {OpClass::pooling, has_pooling},
                          {OpClass::normalization, has_normalization}};
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    if (!has_arithmetic(cpu, t)) continue;
    for (const Probe& probe : probes)
      if (probe.has(t)) c.native.insert({probe.op_class, t});
  }
  // The SIMD kernels compute in f32 whatever the storage.
  c.native.insert({OpClass::elementwise, DType::f32});
  c.native.insert({OpClass::reduction, DType::f32});
  c.fusions = fusions();
  c.chains = chains();
  c.updates = core::optimizer_steps(kernel_table());
  c.memory = machine_memory();
  choose_precision(cpu, c);
  return c;
}

}  // namespace halfstep::onednn
