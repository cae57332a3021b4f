// Formulas of elementwise operators: their rows, what they give in integers, and their text, which is compiled here.
#include "ops/elementwise/formula.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace halfstep::ops {
namespace {

namespace fs = std::filesystem;

TEST(Formula, BelongsToAnOperatorThatIsElementwise) {
  for (const FormulaDef& def : all_formulas()) {
    const OpDef* row = find_op(def.row.op, def.domain());
    ASSERT_TRUE(row) << def.row.op;
    EXPECT_TRUE(row->reference == &run_formula || def.formula == Formula::Equal) << def.row.op;  // it compares strings
    EXPECT_EQ(def.operands == 1 || def.operands == 2, true) << def.row.op;
    EXPECT_EQ(find_formula(def.row.op, def.domain(), {})->row.variant.attribute, "") << def.row.op;
  }
  for (const OpDef* row : op_table())
    if (row->reference == &run_formula) {
      EXPECT_TRUE(find_formula(row->name, row->domain, {})) << row->name;
    }
}

TEST(Formula, IsChosenByAnAttribute) {
  EXPECT_EQ(find_formula("Gelu", "", {{"approximate", std::string("tanh")}})->formula, Formula::GeluTanh);
  EXPECT_EQ(find_formula("Gelu", "", {{"approximate", std::string("none")}})->formula, Formula::Gelu);
  EXPECT_EQ(find_formula("Mod", "", {{"fmod", std::int64_t{1}}})->formula, Formula::Fmod);
  EXPECT_EQ(find_formula("Mod", "", {{"fmod", std::int64_t{0}}})->formula, Formula::Mod);
  EXPECT_EQ(find_formula("GeluGrad", "", {}), nullptr);
  EXPECT_EQ(find_formula("MatMul", "", {}), nullptr);
}

TEST(Formula, WrapsIntegersAround) {
  const auto of = [](Formula formula, std::int64_t a, std::int64_t b) {
    const std::int64_t arguments[] = {a, b, 0, 0};
    return def_of(formula).on_signed(arguments);
  };
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min(), kMost = ~kLeast;
  EXPECT_EQ(of(Formula::Add, kMost, 1), kLeast);
  EXPECT_EQ(of(Formula::Neg, kLeast, 0), kLeast);
  EXPECT_EQ(of(Formula::Abs, kLeast, 0), kLeast);
  EXPECT_EQ(of(Formula::Div, kLeast, -1), kLeast);
  EXPECT_EQ(of(Formula::Div, -7, 2), -3);
  EXPECT_EQ(of(Formula::Mod, -7, 2), 1);
  EXPECT_EQ(of(Formula::Mod, 7, -2), -1);
  EXPECT_EQ(of(Formula::Mod, kLeast, -1), 0);
  EXPECT_EQ(of(Formula::Fmod, -7, 2), -1);
  EXPECT_EQ(of(Formula::Pow, -3, 3), -27);
  EXPECT_EQ(of(Formula::Pow, -1, -3), -1);
  EXPECT_EQ(of(Formula::Pow, 2, -1), 0);
  EXPECT_EQ(of(Formula::Sign, -9, 0), -1);
}

/// The text of all formulas as a library, and each as a function of its arguments.
class CompiledText : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / fmt::format("halfstep_formula_text_{}", getpid());
    fs::create_directory(folder_);
    std::ofstream source(folder_ / "formulas.cpp");
    source << "#include <math.h>\n";
    for (const FormulaDef& def : all_formulas()) {
      const auto i = static_cast<int>(def.formula);
      source << formula_text(def.formula, fmt::format("formula{}", i));
      std::string arguments = "v[0]";
      for (std::size_t k = 1; k < def.operands + def.parameters; ++k) arguments += fmt::format(", v[{}]", k);
      source << fmt::format("extern \"C\" float call{0}(const float* v) {{ return formula{0}({1}); }}\n", i, arguments);
      if (!def.on_signed) continue;
      const FormulaNumber numbers[] = {{"long long", "unsigned long long"}, {"int", "unsigned int"}};
      for (const FormulaNumber& number : numbers) {
        const std::size_t bits = number.name == "int" ? 32 : 64;
        source << formula_text(def.formula, fmt::format("formula{}_{}", i, bits), "static inline", number)
               << fmt::format("extern \"C\" long long call{0}_{1}(const {2}* v) {{ return formula{0}_{1}({3}); }}\n", i,
                              bits, number.name, arguments);
      }
    }
    source.close();
    const std::string library = folder_ / "formulas.so";
    const std::string command =
        fmt::format("{} -std=c++17 -O0 -ffp-contract=off -Wall -Wextra -Werror -shared -fPIC -o {} {}", HALFSTEP_CXX,
                    library, (folder_ / "formulas.cpp").string());
    ASSERT_EQ(std::system(command.c_str()), 0);
    library_ = dlopen(library.c_str(), RTLD_NOW);
    ASSERT_TRUE(library_) << dlerror();
  }
  void TearDown() override {
    if (library_) dlclose(library_);
    fs::remove_all(folder_);
  }

  using Call = float (*)(const float*);
  Call call(Formula formula) const { return symbol<Call>(formula, ""); }
  template <class F>
  F symbol(Formula formula, const char* suffix) const {
    return reinterpret_cast<F>(dlsym(library_, fmt::format("call{}{}", static_cast<int>(formula), suffix).c_str()));
  }

 private:
  fs::path folder_;
  void* library_ = nullptr;
};

TEST_F(CompiledText, ComputesWhatTheReferenceDoes) {
  const float values[] = {NAN, INFINITY, -INFINITY, 0, -0.0F, 1e-40F, 0.3F, -0.3F, 1, -1, 2.5F, -2.5F, 30, -30, 1e30F};
  for (const FormulaDef& def : all_formulas()) {
    const Call text = call(def.formula);
    ASSERT_TRUE(text) << def.row.op;
    for (const float a : values) {
      for (const float b : values) {
        float arguments[4] = {a, b};
        for (std::size_t p = 0; p < def.parameters; ++p) {
          const float fallback = def.row.parameters[p].fallback;
          arguments[def.operands + p] = std::isinf(fallback) ? std::copysign(0.5F, fallback) : fallback;
        }
        const float got = text(arguments);
        float want = 0;
        if (def.on_floats) {
          const double wide[] = {arguments[0], arguments[1], arguments[2], arguments[3]};
          want = static_cast<float>(def.on_floats(wide));
        } else {
          const std::uint64_t truths[] = {arguments[0] != 0, arguments[1] != 0};
          want = static_cast<float>(def.on_unsigned(truths));
        }
        const std::string what = fmt::format("{}({}, {})", def.row.op, a, b);
        if (std::isnan(want) || std::isinf(want)) {
          EXPECT_TRUE(std::isnan(want) ? std::isnan(got) : got == want) << what << ": " << got << " for " << want;
        } else {
          const float around = std::max(std::fabs(want), std::isfinite(a) && std::fabs(a) < 1e3F ? std::fabs(a) : 0.0F);
          EXPECT_NEAR(got, want, 1e-6F * around + 1e-35F) << what;
        }
      }
    }
  }
}

template <class T, class F>
void expect_integers(const F& text) {
  constexpr T kLeast = std::numeric_limits<T>::min(), kMost = std::numeric_limits<T>::max();
  for (const FormulaDef& def : all_formulas()) {
    if (!def.on_signed) continue;
    for (const T a : {T(0), T(1), T(-1), T(2), T(7), T(-7), T(46341), kLeast, kMost})
      for (const T b : {T(0), T(1), T(-1), T(2), T(-3), T(5), T(31), kLeast, kMost}) {
        const T arguments[4] = {a, b, 5, 9};
        const std::int64_t wide[] = {a, b, 5, 9};
        if (def.formula == Formula::Clip) continue;  // whose arguments are others
        const std::int64_t want = def.on_signed(wide);
        EXPECT_EQ(text(def.formula)(arguments), def.gives_truth ? want : static_cast<T>(want))
            << def.row.op << "(" << a << ", " << b << ")";
      }
    if (def.formula != Formula::Clip) continue;
    for (const T a : {T(3), T(7), T(12), kLeast, kMost}) {
      const T arguments[3] = {a, 5, 9};
      const std::int64_t wide[] = {a, 5, 9};
      EXPECT_EQ(text(def.formula)(arguments), def.on_signed(wide));
    }
  }
}

TEST_F(CompiledText, ComputesIntegersThatWrapAround) {
  expect_integers<long long>([&](Formula f) { return symbol<long long (*)(const long long*)>(f, "_64"); });
  expect_integers<int>([&](Formula f) { return symbol<long long (*)(const int*)>(f, "_32"); });
}

TEST(FormulaText, IsAFunctionOfItsOperandsAndParameters) {
  const std::string text = formula_text(Formula::LeakyRelu, "leaky_relu", "__device__");
  EXPECT_TRUE(text.starts_with("__device__ float leaky_relu(float a, float b) {\n  const ")) << text;
  EXPECT_NE(text.find("= b * a;\n"), std::string::npos) << text;
  EXPECT_NE(text.find("= a < 0.000000000e+00f;\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace halfstep::ops
