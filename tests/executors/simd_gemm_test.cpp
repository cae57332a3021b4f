// Products of matrices. Operands are small integers, whose sums every type holds exactly: results are compared bit by
// bit.
#include <limits>

#include "executors/onednn/simd/bf16_gemm.h"
#include "executors/onednn/simd/gemm.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

struct Extents {
  std::int64_t m, n, k;
};
// Around the extents of tiles and blocks.
const Extents kExtents[] = {{1, 1, 1},     {5, 7, 3},     {6, 16, 256}, {7, 17, 257}, {12, 32, 40},   {13, 33, 600},
                            {150, 40, 30}, {289, 65, 70}, {3, 2100, 9}, {64, 64, 64}, {7, 2049, 270}, {700, 5, 11}};

enum class Addend { none, row, column, element, matrix };

struct Layouts {
  bool a_transposed = false, b_transposed = false;
  std::int64_t gap = 0;  ///< elements between lines that are no part of the matrix
};

/// Integers of [-2, 2].
Array integers(DType dtype, std::int64_t n, unsigned seed) {
  Array array(dtype, n);
  std::mt19937 random(seed);
  for (std::size_t i = 0; i < array.size(); ++i) array.set(i, static_cast<float>(static_cast<int>(random() % 5) - 2));
  return array;
}

GemmMatrix matrix(DType dtype, std::int64_t rows, std::int64_t columns, bool transposed, std::int64_t gap) {
  return transposed ? GemmMatrix{dtype, 1, rows + gap} : GemmMatrix{dtype, columns + gap, 1};
}
std::int64_t reach(const GemmMatrix& m, std::int64_t rows, std::int64_t columns) {
  return (rows - 1) * m.row + (columns - 1) * m.column + 1;
}

struct Product {
  GemmProblem problem;
  Array a, b, addend;

  Product(const Extents& e, DType dtype, DType result, const Layouts& layouts, Addend kind, float alpha = 1)
      : problem{.m = e.m,
                .n = e.n,
                .k = e.k,
                .a = matrix(dtype, e.m, e.k, layouts.a_transposed, layouts.gap),
                .b = matrix(dtype, e.k, e.n, layouts.b_transposed, layouts.gap),
                .result = result,
                .y_row = e.n + layouts.gap,
                .alpha = alpha,
                .has_addend = kind != Addend::none,
                .addend_row = kind == Addend::column   ? 1
                              : kind == Addend::matrix ? e.n
                                                       : 0,
                .addend_column = kind == Addend::row || kind == Addend::matrix ? 1 : 0},
        a(integers(dtype, reach(problem.a, e.m, e.k), 1)),
        b(integers(dtype, reach(problem.b, e.k, e.n), 2)),
        addend(integers(DType::f32, e.m * e.n, 3)) {}

  Array run(int threads) {
    const Gemm gemm(problem, threads);
    Array y(problem.result, problem.m * problem.y_row),
        scratch(DType::f32, static_cast<std::int64_t>(gemm.scratch_bytes() / 4));
    const int before = omp_get_max_threads();
    omp_set_num_threads(threads);
    gemm(a.data(), b.data(), problem.has_addend ? addend.floats() : nullptr, y.data(), scratch.data());
    omp_set_num_threads(before);
    EXPECT_TRUE(y.guard_intact());
    EXPECT_TRUE(scratch.guard_intact());
    return y;
  }

  Array expected() {
    Array y(problem.result, problem.m * problem.y_row);
    for (std::int64_t i = 0; i < problem.m; ++i) {
      for (std::int64_t j = 0; j < problem.n; ++j) {
        double sum = 0;
        for (std::int64_t k = 0; k < problem.k; ++k)
          sum += a[static_cast<std::size_t>(i * problem.a.row + k * problem.a.column)] *
                 b[static_cast<std::size_t>(k * problem.b.row + j * problem.b.column)];
        sum *= problem.alpha;
        if (problem.has_addend)
          sum += addend[static_cast<std::size_t>(i * problem.addend_row + j * problem.addend_column)];
        y.set(static_cast<std::size_t>(i * problem.y_row + j), static_cast<float>(sum));
      }
    }
    return y;
  }
};

TEST(SimdGemm, MultipliesEveryTypeAndOrderOfMemory) {
  for (const Extents& e : kExtents)
    for (DType dtype : kFloats)
      for (DType result : {DType::f32, dtype})
        for (const Layouts& layouts :
             {Layouts{}, Layouts{true, false, 3}, Layouts{false, true, 1}, Layouts{true, true}}) {
          SCOPED_TRACE(testing::PrintToString(std::vector{e.m, e.n, e.k}) + std::string(name_of(dtype)) + " " +
                       std::string(name_of(result)));
          Product product(e, dtype, result, layouts, Addend::none);
          ASSERT_EQ(product.run(2), product.expected());
        }
}

TEST(SimdGemm, AddsWhatIsSpreadAndScales) {
  for (const Extents& e : {Extents{5, 7, 3}, Extents{13, 33, 600}, Extents{7, 2049, 270}})
    for (DType dtype : kFloats)
      for (Addend addend : {Addend::row, Addend::column, Addend::element, Addend::matrix})
        for (float alpha : {1.0F, 0.5F}) {
          Product product(e, dtype, DType::f32, {}, addend, alpha);
          ASSERT_EQ(product.run(2), product.expected())
              << name_of(dtype) << " " << static_cast<int>(addend) << " " << alpha;
        }
}

TEST(SimdGemm, TakesAStack) {
  for (int count : {1, 2, 5}) {
    Product whole({20, 24, 300}, DType::bf16, DType::bf16, {}, Addend::none);
    whole.problem.stack.clear();
    // All read the same a; each has its own b and y.
    for (std::int64_t i = 0; i < count; ++i) whole.problem.stack.push_back({0, i * 300 * 24, i * 20 * 24});
    whole.b = integers(DType::bf16, count * 300 * 24, 5);
    const Gemm gemm(whole.problem, 2);
    Array y(DType::bf16, count * 20 * 24), scratch(DType::f32, static_cast<std::int64_t>(gemm.scratch_bytes() / 4));
    gemm(whole.a.data(), whole.b.data(), nullptr, y.data(), scratch.data());
    EXPECT_TRUE(scratch.guard_intact());
    for (std::int64_t i = 0; i < count; ++i) {
      Product one({20, 24, 300}, DType::bf16, DType::bf16, {}, Addend::none);
      for (std::size_t j = 0; j < one.b.size(); ++j)
        one.b.set(j, static_cast<float>(whole.b[static_cast<std::size_t>(i) * one.b.size() + j]));
      const Array expected = one.expected();
      for (std::size_t j = 0; j < expected.size(); ++j)
        ASSERT_EQ(y[static_cast<std::size_t>(i) * expected.size() + j], expected[j]) << count << " " << i << " " << j;
    }
  }
}

TEST(SimdGemm, AppliesAFunctionLast) {
  Product product({40, 70, 300}, DType::f32, DType::f16, {}, Addend::row);
  Array expected = product.expected();
  for (std::size_t i = 0; i < expected.size(); ++i) expected.set(i, std::max(0.0F, static_cast<float>(expected[i])));
  product.problem.last = find_unary(ops::Formula::Relu, DType::f16);
  EXPECT_EQ(product.run(2), expected);
}

// Sums of any numbers have the same bits for every number of threads.
TEST(SimdGemm, ThreadsDoNotChangeBits) {
  for (const Extents& e : {Extents{289, 65, 700}, Extents{20, 500, 300}}) {
    Product product(e, DType::f32, DType::f32, {}, Addend::none);
    std::mt19937 random(7);
    for (Array* array : {&product.a, &product.b})
      for (std::size_t i = 0; i < array->size(); ++i)
        array->set(i, std::uniform_real_distribution<float>(-1, 1)(random));
    const Array alone = product.run(1);
    for (int threads : {2, 3, 8}) EXPECT_EQ(product.run(threads), alone) << threads;
  }
}

// Rows and columns that fill up a tile take part in nothing: infinity times their zeros would be NaN.
TEST(SimdGemm, WhatIsNotFiniteStaysInItsRowAndColumn) {
  Product product({7, 17, 20}, DType::f32, DType::f32, {}, Addend::none);
  product.a.set(3 * 20 + 4, std::numeric_limits<float>::quiet_NaN());
  product.b.set(5 * 17 + 16, std::numeric_limits<float>::infinity());
  for (std::size_t i = 0; i < 7; ++i) product.a.set(i * 20 + 5, 1);
  const Array y = product.run(1);
  for (std::size_t i = 0; i < 7; ++i)
    for (std::size_t j = 0; j < 17; ++j) {
      const double value = y[i * 17 + j];
      if (i == 3)
        EXPECT_TRUE(std::isnan(value));
      else if (j == 16)
        EXPECT_EQ(value, std::numeric_limits<double>::infinity());
      else
        EXPECT_TRUE(std::isfinite(value));
    }
}

/// The CPU's own products of bf16, of the same operands; with `adds`, to what y holds.
Array run_bf16(const Product& product, const Array& y_before, bool adds) {
  const GemmProblem& p = product.problem;
  const Bf16Problem problem{.m = p.m, .n = p.n, .k = p.k, .a = p.a, .b = p.b, .y_row = p.y_row, .adds = adds};
  if (!Bf16Gemm::is_possible(problem)) return Array(DType::f32, 0);
  const Bf16Gemm gemm(problem);
  Array y = y_before, scratch(DType::bf16, static_cast<std::int64_t>(gemm.scratch_bytes() / 2));
  gemm(static_cast<const bf16*>(product.a.data()), static_cast<const bf16*>(product.b.data()), y.floats(),
       scratch.data());
  EXPECT_TRUE(y.guard_intact());
  EXPECT_TRUE(scratch.guard_intact());
  return y;
}

TEST(SimdBf16Gemm, MultipliesEveryOrderOfMemory) {
  for (const Extents& e : kExtents)
    for (const bool adds : {false, true})
      for (const Layouts& layouts :
           {Layouts{}, Layouts{true, false, 3}, Layouts{false, true, 1}, Layouts{true, true}}) {
        SCOPED_TRACE(testing::PrintToString(std::vector{e.m, e.n, e.k}));
        Product product(e, DType::bf16, DType::f32, layouts, Addend::none);
        Array expected = product.expected();
        const Array before = integers(DType::f32, static_cast<std::int64_t>(expected.size()), 4);
        const Array y = run_bf16(product, before, adds);
        if (y.size() == 0) GTEST_SKIP() << "this CPU has no AVX512-BF16";
        const auto width = static_cast<std::size_t>(product.problem.y_row);
        for (std::size_t i = 0; i < y.size(); ++i) {
          const bool is_written = i % width < static_cast<std::size_t>(e.n);
          ASSERT_EQ(y[i], !is_written ? before[i] : adds ? before[i] + expected[i] : expected[i]) << i;
        }
      }
}

// What fills up pairs and tiles takes part in nothing.
TEST(SimdBf16Gemm, WhatIsNotFiniteStaysInItsRowAndColumn) {
  constexpr std::int64_t kM = 7, kN = 17, kK = 21;
  for (const Layouts& layouts : {Layouts{}, Layouts{true, true}}) {
    Product product({kM, kN, kK}, DType::bf16, DType::f32, layouts, Addend::none);
    const auto at = [](const GemmMatrix& m, std::int64_t row, std::int64_t column) {
      return static_cast<std::size_t>(row * m.row + column * m.column);
    };
    product.a.set(at(product.problem.a, 3, kK - 1), std::numeric_limits<float>::quiet_NaN());
    product.b.set(at(product.problem.b, 5, 16), std::numeric_limits<float>::infinity());
    for (std::int64_t i = 0; i < kM; ++i) product.a.set(at(product.problem.a, i, 5), 1);
    const Array y = run_bf16(product, Array(DType::f32, kM * kN), false);
    if (y.size() == 0) GTEST_SKIP() << "this CPU has no AVX512-BF16";
    for (std::int64_t i = 0; i < kM; ++i)
      for (std::int64_t j = 0; j < kN; ++j) {
        const double value = y[static_cast<std::size_t>(i * kN + j)];
        if (i == 3)
          EXPECT_TRUE(std::isnan(value));
        else if (j == 16)
          EXPECT_EQ(value, std::numeric_limits<double>::infinity());
        else
          EXPECT_TRUE(std::isfinite(value));
      }
  }
}

}  // namespace
}  // namespace halfstep::simd
