// Masks that are known, and the guards around a Softmax that they make needless.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tests/passes/pass_testing.h"

namespace halfstep::testing {
namespace {

TEST(SimplifyMasks, DropsWhatAKnownMaskMakesNeedless) {
  struct Case {
    const char* what;
    const char* mask;
    const char* nodes;
    std::vector<std::string> wanted;
  };
  constexpr const char* kGuarded =
      "x = MatMul(q, k) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)";
  const std::vector<std::string> all{"MatMul", "Add", "Softmax", "IsNaN", "Where", "MatMul"};
  const Case cases[] = {
      {"a mask of zeros", "float[2,3] mask = {0, 0, 0, 0, 0, 0}", kGuarded, {"MatMul", "Softmax", "MatMul"}},
      {"a mask that leaves something of every row",
       "float[2,3] mask = {0, -1e30, -1e30, -1e30, -5, 0}",
       kGuarded,
       {"MatMul", "Add", "Softmax", "MatMul"}},
      {"a mask for all rows", "float[3] mask = {-1e30, 0, 1}", kGuarded, {"MatMul", "Add", "Softmax", "MatMul"}},
      {"a mask of whole rows", "float[2,3] mask = {0, -1e30, 0, -1e30, -1e30, -1e30}", kGuarded, all},
      {"a number for each row", "float[2,1] mask = {0, -1e30}", kGuarded, all},
      {"rows along another axis", "float[2,3] mask = {0, -1e30, 0, -1e30, -1e30, -1e30}",
       "x = MatMul(q, k) s = Add(x, mask) p = Softmax<axis = 0>(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)",
       all},
      {"columns that all have something",
       "float[2,3] mask = {0, -1e30, 0, -1e30, 0, -1e30}",
       "x = MatMul(q, k) s = Add(mask, x) p = Softmax<axis = 0>(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)",
       {"MatMul", "Add", "Softmax", "MatMul"}},
      {"another number than 0", "float[2,3] mask = {1, 0, 0, 0, 0, 0}",
       "x = MatMul(q, k) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, two, p) y = MatMul(g, v)", all},
      {"a mask that is computed", "float[3] mask = {0, 0, 0}",
       "x = MatMul(q, k) s = Add(x, x) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)", all},
      {"probabilities that are an output keep its name",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}",
       "x = MatMul(q, k) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) y = Where(n, zero, p)",
       {"MatMul", "Add", "Softmax", "IsNaN", "Where"}},
      {"scores that are scaled, moved and biased",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}, float[3] bias = {1, -2, 3}",
       "m = MatMul(q, k) d = Div(m, two) x = Add(d, bias) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) "
       "g = Where(n, zero, p) y = MatMul(g, v)",
       {"MatMul", "Div", "Add", "Add", "Softmax", "MatMul"}},
      {"another mask that is not known",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}",
       "m = MatMul(q, k) x = Add(m, pad) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) "
       "y = MatMul(g, v)",
       {"MatMul", "Add", "Add", "Softmax", "IsNaN", "Where", "MatMul"}},
      {"another mask that hides a row",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}, float[2,1] low = {0, -1e30}",
       "m = MatMul(q, k) x = Add(low, m) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) "
       "y = MatMul(g, v)",
       {"MatMul", "Add", "Add", "Softmax", "IsNaN", "Where", "MatMul"}},
      {"a condition below",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}, float low = {-1e30}",
       "m = MatMul(q, k) x = Where(shown, m, low) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) "
       "g = Where(n, zero, p) y = MatMul(g, v)",
       {"MatMul", "Where", "Add", "Softmax", "IsNaN", "Where", "MatMul"}},
      {"scores that are an input",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}",
       "s = Add(pad, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) y = MatMul(g, v)",
       {"Add", "Softmax", "IsNaN", "Where", "MatMul"}},
      {"scores that are divided by zeros",
       "float[2,3] mask = {1, 0, 0, 0, 0, 0}",
       "m = MatMul(q, k) x = Div(m, zero) s = Add(x, mask) p = Softmax(s) n = IsNaN(p) g = Where(n, zero, p) "
       "y = MatMul(g, v)",
       {"MatMul", "Div", "Add", "Softmax", "IsNaN", "Where", "MatMul"}},
  };
  for (const Case& c : cases) {
    const bool ends_in_product = std::string(c.nodes).find("y = MatMul") != std::string::npos;
    const std::string text = fmt::format(
        "(float[2,4] q, float[4,3] k, float[2,3] pad, bool[2,3] shown) => (float[2,{}] y) <{}, float zero = {{0}}, "
        "float two = {{2}}, float[3,1] v = {{1, 2, 3}}> "
        "{{ {} }}",
        ends_in_product ? 1 : 3, c.mask, c.nodes);
    EXPECT_EQ(ops_of(run_passes(text, {simplify_masks()})), c.wanted) << c.what;
  }
}

}  // namespace
}  // namespace halfstep::testing
