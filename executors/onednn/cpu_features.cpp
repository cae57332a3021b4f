#include "executors/onednn/cpu_features.h"

#include <array>
#include <cstdint>
#include <cstring>

#include <cpuid.h>

namespace halfstep::onednn {
namespace {

struct Registers {
  std::uint32_t a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(std::uint32_t word, int i) { return ((word >> i) & 1U) != 0; }

// Which register files the operating system saves: XCR0.
std::uint64_t enabled_state() {
  if (!bit(cpuid(1).c, 27)) return 0;
  std::uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (std::uint64_t{high} << 32) | low;
}

std::string brand() {
  if (cpuid(0x80000000U).a < 0x80000004U) return "unknown CPU";
  std::array<char, 49> text{};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002U + i);
    std::memcpy(text.data() + i * 16, &r, 16);
  }
  std::string name(text.data());
  while (!name.empty() && name.back() == ' ') name.pop_back();
  return name.substr(name.find_first_not_of(' ') == std::string::npos ? 0 : name.find_first_not_of(' '));
}

}  // namespace

std::vector<std::string> CpuFeatures::names() const {
  const std::pair<bool, const char*> all[] = {{f16c, "f16c"},
                                              {avx2, "avx2"},
                                              {avx512, "avx512"},
                                              {avx512_bf16, "avx512_bf16"},
                                              {avx512_fp16, "avx512_fp16"},
                                              {amx_tile, "amx_tile"},
                                              {amx_bf16, "amx_bf16"},
                                              {amx_int8, "amx_int8"},
                                              {amx_fp16, "amx_fp16"}};
  std::vector<std::string> result;
  for (const auto& [has, name] : all)
    if (has) result.emplace_back(name);
  return result;
}

CpuFeatures detect_cpu() {
  CpuFeatures f;
  f.model = brand();
  const std::uint64_t state = enabled_state();
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tiles = (state & 0x60000) == 0x60000;
  const Registers basic = cpuid(1), extended = cpuid(7), more = cpuid(7, 1);
  f.f16c = ymm && bit(basic.c, 29);
  f.avx2 = ymm && bit(extended.b, 5);
  f.avx512 = zmm && bit(extended.b, 16) && bit(extended.b, 17) && bit(extended.b, 30) && bit(extended.b, 31);
  f.avx512_bf16 = f.avx512 && bit(more.a, 5);
  f.avx512_fp16 = f.avx512 && bit(extended.d, 23);
  f.amx_tile = tiles && bit(extended.d, 24);
  f.amx_bf16 = f.amx_tile && bit(extended.d, 22);
  f.amx_int8 = f.amx_tile && bit(extended.d, 25);
  f.amx_fp16 = f.amx_tile && bit(more.a, 21);
  return f;
}

}  // namespace halfstep::onednn
