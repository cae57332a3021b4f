// Dropout: Philox4x32-10 for as many counters at once as there are 64-bit lanes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "executors/onednn/simd/dropout.cpp"
#include "executors/onednn/simd/dropout.h"

#include <algorithm>

#include <hwy/foreach_target.h>  // must come before the other headers

#include "base/philox.h"
#include "executors/onednn/simd/math-inl.h"
#include "executors/onednn/simd/parallel.h"

HWY_BEFORE_NAMESPACE();
namespace halfstep::simd::HWY_NAMESPACE {
namespace {

/// Random words are made for this many elements at a time.
constexpr std::int64_t kChunk = 256;

/// words[0, kChunk) of elements first, first + 1, ...; first is a multiple of 4.
void random_words(std::int64_t first, const DropoutParams& params, std::int64_t counter, std::uint32_t* words) {
  PhiloxKey key = philox_key(static_cast<std::uint64_t>(params.seed));
  const auto low = static_cast<std::uint32_t>(counter), high = static_cast<std::uint32_t>(counter >> 32);
  const auto stream = static_cast<std::uint32_t>(params.stream);
#if HWY_TARGET == HWY_SCALAR
  for (std::int64_t i = 0; i < kChunk; i += 4) {
    const PhiloxCounter four = philox4x32_10({static_cast<std::uint32_t>((first + i) / 4), low, high, stream}, key);
    std::copy(four.begin(), four.end(), words + i);
  }
#else
  // Every word of a counter is the lower half of a 64-bit lane, as the widening multiplication wants it.
  const hn::Repartition<std::uint64_t, F32> d;
  const hn::Repartition<std::uint32_t, F32> d32;
  using Words = hn::Vec<decltype(d)>;
  const Words lower = hn::Set(d, 0xffffffffu);
  const auto product = [&](Words a, std::uint32_t b) { return hn::MulEven(hn::BitCast(d32, a), hn::Set(d32, b)); };
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < kChunk / 4; i += step) {
    Words c0 = hn::And(hn::Iota(d, static_cast<std::uint64_t>(first / 4 + i)), lower);
    Words c1 = hn::Set(d, low), c2 = hn::Set(d, high), c3 = hn::Set(d, stream);
    PhiloxKey k = key;
    for (int round = 0; round < 10; ++round) {
      const Words a = product(c0, 0xD2511F53u), b = product(c2, 0xCD9E8D57u);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(b), c1), hn::Set(d, k[0]));
      c1 = hn::And(b, lower);
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(a), c3), hn::Set(d, k[1]));
      c3 = hn::And(a, lower);
      k[0] += 0x9E3779B9u;
      k[1] += 0xBB67AE85u;
    }
    HWY_ALIGN std::uint32_t lanes_of[4][HWY_MAX_BYTES / sizeof(std::uint32_t)];
    const Words results[4] = {c0, c1, c2, c3};
    for (int word = 0; word < 4; ++word) hn::Store(hn::BitCast(d32, results[word]), d32, lanes_of[word]);
    for (std::int64_t lane = 0; lane < step; ++lane)
      for (int word = 0; word < 4; ++word) words[4 * (i + lane) + word] = lanes_of[word][2 * lane];
  }
#endif
}

/// All bits of a lane set where the byte is not 0; `count` as in for_vectors.
hn::Mask<F32> read_mask(const bool* mask, std::int64_t count) {
  const hn::Rebind<std::uint8_t, F32> d8;
  HWY_ALIGN std::uint8_t bytes[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(bytes, mask, static_cast<std::size_t>(count));
  const auto wide = hn::PromoteTo(U32(), hn::LoadU(d8, bytes));
  return hn::RebindMask(F32(), hn::Ne(wide, hn::Zero(U32())));
}
hn::Mask<F32> read_mask(const bool* mask, std::true_type) {
  const hn::Rebind<std::uint8_t, F32> d8;
  const auto wide = hn::PromoteTo(U32(), hn::LoadU(d8, reinterpret_cast<const std::uint8_t*>(mask)));
  return hn::RebindMask(F32(), hn::Ne(wide, hn::Zero(U32())));
}

template <class T>
void mask_scale(const void* x, const bool* mask, void* y, std::int64_t n, float scale) {
  const T* from = static_cast<const T*>(x);
  T* to = static_cast<T*>(y);
  for_vectors(n, [&](std::int64_t i, auto count) {
    const V scaled = hn::Mul(read(from + i, count), constant(scale));
    write(hn::IfThenElseZero(read_mask(mask + i, count), scaled), to + i, count);
  });
}

template <class T>
void dropout(const void* x, void* y, bool* mask, std::int64_t begin, std::int64_t end, float ratio,
             DropoutParams params, std::int64_t counter) {
  const float scale = ratio < 1 ? 1 / (1 - ratio) : 0;
  std::uint32_t words[kChunk];
  bool kept[kChunk];
  for (std::int64_t i = begin; i < end; i += kChunk) {
    const std::int64_t n = HWY_MIN(kChunk, end - i);
    random_words(i, params, counter, words);
    bool* flags = mask ? mask + i : kept;
    for (std::int64_t k = 0; k < n; ++k) flags[k] = uniform_float(words[k]) >= ratio;
    mask_scale<T>(static_cast<const T*>(x) + i, flags, static_cast<T*>(y) + i, n, scale);
  }
}

DropoutKernel::Fn find_dropout(DType dtype) {
  return by_type(dtype, []<class T>() { return &dropout<T>; });
}
MaskScaleKernel::Fn find_mask_scale(DType dtype) {
  return by_type(dtype, []<class T>() { return &mask_scale<T>; });
}

}  // namespace
}  // namespace halfstep::simd::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace halfstep::simd {
HWY_EXPORT(find_dropout);
HWY_EXPORT(find_mask_scale);

namespace {

constexpr std::int64_t kBlock = 8192;

}  // namespace

void DropoutKernel::operator()(const void* x, void* y, bool* mask, std::int64_t n, float ratio,
                               std::int64_t counter) const {
  const auto bytes = 4 * n * static_cast<std::int64_t>(element_bytes);
  parallel_for(blocks_of(n, kBlock), bytes, [&](std::int64_t block) {
    fn(x, y, mask, block * kBlock, std::min(n, (block + 1) * kBlock), ratio, params, counter);
  });
}

void MaskScaleKernel::operator()(const void* x, const bool* mask, void* y, std::int64_t n, float scale) const {
  const auto bytes = n * static_cast<std::int64_t>(2 * element_bytes + 1);
  parallel_for(blocks_of(n, kBlock), bytes, [&](std::int64_t block) {
    const std::int64_t begin = block * kBlock;
    fn(at(x, begin, element_bytes), mask + begin, at(y, begin, element_bytes), std::min(kBlock, n - begin), scale);
  });
}

DropoutKernel find_dropout(DType dtype, DropoutParams params) {
  return {HWY_DYNAMIC_DISPATCH(find_dropout)(dtype), bytes_of(dtype, 1), params};
}

MaskScaleKernel find_mask_scale(DType dtype) {
  return {HWY_DYNAMIC_DISPATCH(find_mask_scale)(dtype), bytes_of(dtype, 1)};
}

}  // namespace halfstep::simd
#endif
