// Running models by names.
#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"
#include <halfstep/base/error.h>
#include <halfstep/executors/registry.h>
#include <halfstep/onnx_io/load.h>
#include <halfstep/session/session.h>

namespace halfstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph model(const std::string& text) {
  return parse_model(R"(<ir_version: 10, opset_import: ["": 24]> m )" + text).graph;
}
const char* const kSum =
    "(float[N, 3] a, float[M] b) => (float[N] s, float[M] t) <int64[1] axis = {1}> "
    "{ s = ReduceSum<keepdims = 0>(a, axis) t = Neg(b) }";

Tensor ramp(const Shape& shape) {
  Tensor result(DType::f32, shape);
  for (std::int64_t i = 0; i < result.count(); ++i) result.data<float>()[i] = static_cast<float>(i);
  return result;
}

class Sessions : public ::testing::TestWithParam<const char*> {
 protected:
  const std::unique_ptr<Executor> executor = make_executor(GetParam(), {});
};
INSTANTIATE_TEST_SUITE_P(Executors, Sessions, ::testing::Values("reference", "onednn"),
                         [](const auto& of) { return std::string(of.param); });

TEST_P(Sessions, GiveOutputsByName) {
  Session session(model(kSum), *executor);
  const NamedTensors y = session.run({{"a", ramp({2, 3})}, {"b", ramp({2})}});
  EXPECT_THAT(to_doubles(y.at("s")), ElementsAre(3, 12));
  EXPECT_THAT(to_doubles(y.at("t")), ElementsAre(0, -1));
  EXPECT_EQ(session.inputs().at(1).to_string(), "b f32[?]");
  EXPECT_EQ(session.outputs().size(), 2U);
}

TEST_P(Sessions, TakeShapesAsTheyCome) {
  Session session(model(kSum), *executor, {.programs = 2});
  for (int again = 0; again < 2; ++again)
    for (const std::int64_t n : {1, 4, 0, 7}) {
      const NamedTensors y = session.run({{"a", ramp({n, 3})}, {"b", ramp({n + 1})}});
      EXPECT_EQ(y.at("s").shape(), (Shape{n}));
      if (n > 0) {
        EXPECT_EQ(y.at("s").data<float>()[n - 1], 9 * n - 6);
      }
    }
}

TEST_P(Sessions, TakeOtherBatchesThanTheModelWasExportedFor) {
  Session open(model("(float[2, 3] x) => (float[2, 3] y) { y = Neg(x) }"), *executor);
  EXPECT_EQ(open.run({{"x", ramp({5, 3})}}).at("y").shape(), (Shape{5, 3}));
  Session fixed(model("(float[2, 3] x) => (float[3, 2] y) <int64[2] s = {3, 2}> { y = Reshape(x, s) }"), *executor);
  EXPECT_THAT(error_of([&] { fixed.run({{"x", ramp({5, 3})}}); }), HasSubstr("x f32[2, 3], got f32[5, 3]"));
}

TEST_P(Sessions, KeepWhatTheyGave) {
  Session session(model(kSum), *executor);
  const NamedTensors first = session.run({{"a", ramp({1, 3})}, {"b", ramp({1})}});
  Tensor other = ramp({1, 3});
  other.data<float>()[0] = 100;
  const NamedTensors second = session.run_in_place({{"a", other}, {"b", ramp({1})}});
  EXPECT_EQ(*first.at("s").data<float>(), 3);
  EXPECT_EQ(*second.at("s").data<float>(), 103);
}

TEST_P(Sessions, ConvertWhatLosesNothingByType) {
  Session session(model("(float[N] x, int64[N] i) => (float[N] y, int64[N] j) { y = Neg(x) j = Identity(i) }"),
                  *executor);
  const NamedTensors y =
      session.run({{"x", convert(ramp({3}), DType::f64)}, {"i", Tensor::of<std::int32_t>({-1, 2, 3})}});
  EXPECT_THAT(to_doubles(y.at("y")), ElementsAre(0, -1, -2));
  EXPECT_THAT(to_int64s(y.at("j")), ElementsAre(-1, 2, 3));
}

TEST_P(Sessions, SayWhatIsWrong) {
  Session session(model("(float[N, 3] x, int32[2] i, bool flag) => (float[N, 3] y) "
                        "{ f = Cast<to = 1>(flag) a = Mul(x, f) g = Cast<to = 1>(i) s = ReduceSum<keepdims = 0>(g) "
                        "y = Mul(a, s) }"),
                  *executor);
  const Tensor x = ramp({2, 3}), i = Tensor::of<std::int32_t>({1, 2}), flag = Tensor::scalar(true);
  const struct {
    NamedTensors inputs;
    const char* says;
  } cases[] = {
      {{{"x", x}, {"i", i}}, "none for 'flag'"},
      {{{"x", x}, {"i", i}, {"flag", flag}, {"z", x}}, "'z'"},
      {{{"x", ramp({2, 4})}, {"i", i}, {"flag", flag}}, "x f32[?, 3], got f32[2, 4]"},
      {{{"x", ramp({6})}, {"i", i}, {"flag", flag}}, "f32[6]"},
      {{{"x", i}, {"i", i}, {"flag", flag}}, "f32"},
      {{{"x", x}, {"i", Tensor::of<std::int64_t>({1, 1LL << 40})}, {"flag", flag}}, "cannot hold, at element 1"},
      {{{"x", x}, {"i", i}, {"flag", Tensor::scalar(std::int64_t{2})}}, "'flag' as bool"},
      {{{"x", x}, {"i", i}, {"flag", Tensor()}}, "an undefined tensor"},
      {{{"x", Tensor(DType::string, {2, 3})}, {"i", i}, {"flag", flag}}, "string"},
  };
  for (const auto& c : cases) EXPECT_THAT(error_of([&] { session.run(c.inputs); }), HasSubstr(c.says));
  EXPECT_NO_THROW(session.run({{"x", x}, {"i", i}, {"flag", flag}})) << "it can still be used";
  EXPECT_THAT(error_of([&] { Session(model(kSum), *executor, {.programs = 0}); }), HasSubstr("at least 1"));
}

}  // namespace
}  // namespace halfstep
