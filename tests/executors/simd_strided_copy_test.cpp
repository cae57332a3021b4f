// Copies between orders in memory against an index at a time.
#include <numeric>

#include "executors/onednn/simd/strided_copy.h"
#include "tests/executors/simd_testing.h"

namespace halfstep::simd {
namespace {

using Steps = std::vector<std::int64_t>;

struct CopyCase {
  Steps extents, from, to;
};

const CopyCase kCases[] = {
    {{}, {}, {}},
    {{7}, {1}, {1}},
    {{7}, {3}, {2}},
    {{4, 5}, {5, 1}, {5, 1}},
    {{4, 5}, {1, 4}, {5, 1}},
    {{3, 4, 5}, {20, 5, 1}, {1, 3, 12}},
    {{2, 1, 6, 3}, {36, 100, 6, 2}, {18, 1, 3, 1}},
    {{5, 4}, {-4, 1}, {4, 1}},
    {{3, 0, 2}, {2, 2, 1}, {2, 2, 1}},
    {{300, 200}, {1, 300}, {200, 1}},
    {{2, 35, 3, 42}, {4410, 1, 1470, 35}, {4410, 126, 42, 1}},
    {{41, 2, 33}, {1, 1353, 41}, {33, 2000, 1}},
    {{4, 5}, {1, 1}, {5, 1}},
};

template <class T>
void check(const CopyCase& c) {
  auto reach = [&](const Steps& steps, bool forwards) {
    std::int64_t last = 0;
    for (std::size_t axis = 0; axis < steps.size(); ++axis)
      if ((steps[axis] > 0) == forwards)
        last += (std::max<std::int64_t>(c.extents[axis], 1) - 1) * std::abs(steps[axis]);
    return last;
  };
  const std::int64_t first = reach(c.from, false);
  std::vector<T> from(static_cast<std::size_t>(first + reach(c.from, true) + 1));
  std::iota(from.begin(), from.end(), T{1});
  std::vector<T> to(static_cast<std::size_t>(reach(c.to, true) + 1)), want = to;
  const std::int64_t count = std::accumulate(c.extents.begin(), c.extents.end(), std::int64_t{1}, std::multiplies<>());
  for (std::int64_t i = 0; i < count; ++i) {
    std::int64_t rest = i, a = first, b = 0;
    for (std::size_t axis = c.extents.size(); axis-- > 0;) {
      a += rest % c.extents[axis] * c.from[axis];
      b += rest % c.extents[axis] * c.to[axis];
      rest /= c.extents[axis];
    }
    want[static_cast<std::size_t>(b)] = from[static_cast<std::size_t>(a)];
  }
  const StridedCopy copy(c.extents, c.from, c.to, sizeof(T));
  copy(from.data() + first, to.data());
  EXPECT_EQ(to, want);
}

TEST(SimdStridedCopy, MovesEveryElement) {
  for (const CopyCase& c : kCases) {
    SCOPED_TRACE(testing::PrintToString(c.extents));
    check<std::uint8_t>(c);
    check<std::uint16_t>(c);
    check<std::uint32_t>(c);
    check<std::uint64_t>(c);
  }
}

}  // namespace
}  // namespace halfstep::simd
