// Sequences and optional values taken apart while a model is read.
#include "onnx_io/containers.h"

#include <set>

#include <fmt/format.h>

#include "onnx_io/convert.h"
#include "onnx_io/lift.h"
#include "tests/onnx_io/node_lines.h"
#include "tests/onnx_io/test_util.h"
#include <halfstep/onnx_io/load.h>

namespace halfstep {
namespace {

using test::error_of;
using test::nodes_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Graph load(const std::string& body, const LoadOptions& options = {}) {
  return parse_model("<ir_version: 10, opset_import: [\"\": 20]> m " + body, options).graph;
}

std::vector<std::string> names_of(const Graph& graph, const std::vector<ValueId>& ids) {
  std::vector<std::string> names;
  for (ValueId id : ids) names.push_back(graph[id].name);
  return names;
}

struct ContainerCase {
  const char* name;
  const char* before;
  const char* after;  ///< the nodes: x, y, z, … are values of the model, %1, %2, … new ones
};

class Containers : public testing::TestWithParam<ContainerCase> {};

TEST_P(Containers, BecomeTensors) {
  const Graph graph = load(GetParam().before);
  EXPECT_NO_THROW(verify(graph));
  std::set<std::string> single;
  for (char c = 'a'; c <= 'z'; ++c) single.insert(std::string(1, c));
  EXPECT_EQ(nodes_of(graph, single), GetParam().after);
}

const ContainerCase kCases[] = {
    {"At",
     "(float[2] x, float[2] y) => (float[2] z) <int64 i = {-1}> "
     "{ s = SequenceConstruct(x, y) t = SequenceAt(s, i) z = Relu(t) }",
     "z = Relu(y)\n"},
    {"AtIsTheOutput",
     "(float[2] x, float[2] y) => (float[2] z) <int64 i = {0}> { s = SequenceConstruct(x, y) z = SequenceAt(s, i) }",
     "z = Identity(x)\n"},
    {"InsertAtTheEnd",
     "(float[2] x, float[3] y) => (float[5] z) "
     "{ s = SequenceConstruct(x) t = SequenceInsert(s, y) z = ConcatFromSequence<axis=0>(t) }",
     "z = Concat<axis=0>(x, y)\n"},
    {"InsertBeforeTheLast",
     "(float[2] x, float[3] y) => (float[7] z) <int64 i = {-1}> "
     "{ s = SequenceConstruct(x, y) t = SequenceInsert(s, x, i) z = ConcatFromSequence<axis=0>(t) }",
     "z = Concat<axis=0>(x, x, y)\n"},
    {"EraseTheLast",
     "(float[2] x, float[3] y) => (float[2] z) "
     "{ s = SequenceConstruct(x, y) t = SequenceErase(s) z = ConcatFromSequence<axis=0>(t) }",
     "z = Concat<axis=0>(x)\n"},
    {"Stack",
     "(float[2] x, float[2] y) => (float[2,2] z) "
     "{ s = SequenceConstruct(x, y) z = ConcatFromSequence<axis=-1, new_axis=1>(s) }",
     "%1 = Unsqueeze(x, i64[1]{-1})\n%2 = Unsqueeze(y, i64[1]{-1})\nz = Concat<axis=-1>(%1, %2)\n"},
    {"SplitBySizes",
     "(float[5] x) => (float[3] z) <int64[2] n = {2, 3}, int64 i = {1}> "
     "{ s = SplitToSequence(x, n) t = SequenceAt(s, i) z = Relu(t) }",
     "%1, %2 = Split<axis=0>(x, i64[2]{2 3})\nz = Relu(%2)\n"},
    {"SplitEqually",
     "(float[N,5] x) => (float[N,1] z) <int64 n = {2}, int64 i = {2}> "
     "{ s = SplitToSequence<axis=1>(x, n) t = SequenceAt(s, i) z = Relu(t) }",
     "%1, %2, %3 = Split<axis=1>(x, i64[3]{2 2 1})\nz = Relu(%3)\n"},
    {"Unbind",
     "(float[2,N] x) => (float[N] z) <int64 i = {0}> "
     "{ s = SplitToSequence<axis=0, keepdims=0>(x) t = SequenceAt(s, i) z = Relu(t) }",
     "%1, %2 = Split<axis=0>(x, i64[2]{1 1})\n%3 = Squeeze(%1, i64[1]{0})\n%4 = Squeeze(%2, i64[1]{0})\n"
     "z = Relu(%3)\n"},
    {"UnbindAsPyTorchWritesIt",
     "(float[N,1] x) => (float[N] z) <int64 n = {1}, int64 i = {0}> "
     "{ s = SplitToSequence<axis=1, keepdims=0>(x, n) t = SequenceAt(s, i) z = Relu(t) }",
     "%1 = Split<axis=1>(x, i64[1]{1})\n%2 = Squeeze(%1, i64[1]{1})\nz = Relu(%2)\n"},
    {"ListedSlicesKeepTheirAxis",
     "(float[N,1] x) => (float[N,1] z) <int64[1] n = {1}, int64 i = {0}> "
     "{ s = SplitToSequence<axis=1, keepdims=0>(x, n) t = SequenceAt(s, i) z = Relu(t) }",
     "%1 = Split<axis=1>(x, i64[1]{1})\nz = Relu(%1)\n"},
    {"LengthDecides",
     "(float[2] x, float[2] y) => (float[2] z) <int64 n = {2}> { s = SequenceConstruct(x, y) l = SequenceLength(s) "
     "c = Equal(l, n) i = Sub(l, n) t = SequenceAt(s, i) "
     "z = If(c) <then_branch = a () => (float[2] u) { u = Relu(t) }, else_branch = b () => (float[2] v) { v = Exp(t) "
     "}> }",
     "z = If<else_branch=, then_branch=>(bool[]{1}, x)\n"},
    {"LoopAppends",
     "(float[2] x) => (float[3,2] z) <int64 n = {3}, bool c = {1}> { e = SequenceEmpty() "
     "r, f = Loop(n, c, e, x) <body = b (int64 i, bool g, seq(float[2]) s, float[2] p) => (bool h, seq(float[2]) t, "
     "float[2] q) { h = Identity(g) q = Exp(p) t = SequenceInsert(s, q) }> z = ConcatFromSequence<axis=0, "
     "new_axis=1>(r) }",
     "%1 = Exp(x)\n%2 = Exp(%1)\n%3 = Exp(%2)\nf = Identity(%3)\n%4 = Unsqueeze(%1, i64[1]{0})\n"
     "%5 = Unsqueeze(%2, i64[1]{0})\n%6 = Unsqueeze(%3, i64[1]{0})\nz = Concat<axis=0>(%4, %5, %6)\n"},
    {"Map",
     "(float[2] x, float[3] y, float w) => (float[5] z) { s = SequenceConstruct(x, y) "
     "t = SequenceMap(s, w) <body = b (float[K] u, float v) => (float[K] p) { p = Mul(u, v) }> "
     "z = ConcatFromSequence<axis=0>(t) }",
     "%1 = Mul(x, w)\n%2 = Mul(y, w)\nz = Concat<axis=0>(%1, %2)\n"},
    {"BranchesGiveSequences",
     "(bool c, float[2] x, float[2] y) => (float[4] z) { s = SequenceConstruct(x, y) "
     "r = If(c) <then_branch = a () => (seq(float[2]) t) { t = Identity(s) }, "
     "else_branch = b () => (seq(float[2]) u) { u = SequenceConstruct(y, x) }> z = ConcatFromSequence<axis=0>(r) }",
     "%1, %2 = If<else_branch=, then_branch=>(c, x, y)\nz = Concat<axis=0>(%1, %2)\n"},
    {"OptionalThatIsThere",
     "(float[2] x) => (bool h, float[2] z) { o = Optional(x) h = OptionalHasElement(o) t = OptionalGetElement(o) "
     "z = Relu(t) }",
     "z = Relu(x)\n"},
};

INSTANTIATE_TEST_SUITE_P(OnnxIo, Containers, testing::ValuesIn(kCases),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ContainerOutputs, BecomeOneOutputAnElement) {
  const Graph graph = load("(float[2] x, float[3] y) => (seq(float[N]) z) { z = SequenceConstruct(y, x) }");
  EXPECT_THAT(names_of(graph, graph.outputs), ElementsAre("z.0", "z.1"));
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{3}));
}

TEST(ContainerInputs, HaveAsManyElementsAsIsSaid) {
  const char* const text =
      "(seq(float[2]) s, float[2] x) => (float[N] z) { t = SequenceInsert(s, x) z = ConcatFromSequence<axis=0>(t) }";
  const Graph graph = load(text, {.sequence_lengths = {{"s", 2}}});
  EXPECT_THAT(names_of(graph, graph.inputs), ElementsAre("s.0", "s.1", "x"));
  EXPECT_EQ(graph[graph.outputs[0]].shape, (Shape{6}));
  const Graph empty = load(text, {.sequence_lengths = {{"s", 0}}});
  EXPECT_THAT(names_of(empty, empty.inputs), ElementsAre("x"));
  EXPECT_THAT(error_of([&] { load(text); }), HasSubstr("none for 's'"));
  EXPECT_THAT(error_of([&] { load(text, {.sequence_lengths = {{"s", -1}}}); }), HasSubstr("-1 for 's'"));
  EXPECT_THAT(error_of([&] {
                load(text, {.sequence_lengths = {{"x", 1}}});
              }),
              HasSubstr("an input that is a sequence"));
}

TEST(ContainerInputs, AreThereUnlessAbsent) {
  const char* const text =
      "(optional(float[2]) o, float[2] x) => (float[2] z) { c = OptionalHasElement(o) "
      "z = If(c) <then_branch = a () => (float[2] u) { u = OptionalGetElement(o) }, "
      "else_branch = b () => (float[2] v) { v = Identity(x) }> }";
  EXPECT_THAT(names_of(load(text), load(text).inputs), ElementsAre("o", "x"));
  EXPECT_EQ(nodes_of(load(text), {"o", "x", "z"}), "z = Identity(o)\n");
  const Graph absent = load(text, {.absent_inputs = {"o"}});
  EXPECT_THAT(names_of(absent, absent.inputs), ElementsAre("x"));
  EXPECT_EQ(nodes_of(absent, {"o", "x", "z"}), "z = Identity(x)\n");
  EXPECT_THAT(error_of([&] { load(text, {.absent_inputs = {"x"}}); }), HasSubstr("an input that is an optional value"));
}

struct RefusalCase {
  const char* name;
  const char* body;
  const char* message;
};

class ContainerRefusals : public testing::TestWithParam<RefusalCase> {};

TEST_P(ContainerRefusals, SayWhatIsNotKnown) {
  EXPECT_THAT(error_of([] { load(GetParam().body); }), HasSubstr(GetParam().message));
}

const RefusalCase kRefusals[] = {
    {"PositionFromData", "(float[2] x, int64 i) => (float[2] z) { s = SequenceConstruct(x, x) z = SequenceAt(s, i) }",
     "a position that is a constant, got 'i', computed from data in SequenceAt"},
    {"PositionOutside",
     "(float[2] x) => (float[2] z) <int64 i = {1}> { s = SequenceConstruct(x) z = SequenceAt(s, i) }",
     "a position from -1 to 0, got 1 in SequenceAt"},
    {"ExtentLeftOpen", "(float[N] x) => (seq(float[1]) z) { z = SplitToSequence(x) }",
     "a known extent of axis 0 of 'x', got an unknown one"},
    {"NothingToErase", "(float[2] x) => (seq(float[2]) z) { s = SequenceEmpty() z = SequenceErase(s) }",
     "a sequence with an element, got an empty one"},
    {"NothingToConcatenate", "(float[2] x) => (float[2] z) { s = SequenceEmpty() z = ConcatFromSequence<axis=0>(s) }",
     "a sequence with an element, got an empty one"},
    {"NothingToGet", "(float[2] x) => (float[2] z) { o = Optional<type = float[2]>() z = OptionalGetElement(o) }",
     "an optional value that holds something, got an empty one"},
    {"PartsOfNothing", "(float[2] x) => (seq(float[0]) z) <int64 n = {0}> { z = SplitToSequence(x, n) }",
     "parts of at least one slice, got 0"},
    {"TooManyParts", "(float[1000000] x) => (seq(float[1]) z) { z = SplitToSequence(x) }",
     "at most 50000 parts, got 1000000"},
    {"TooManyListed",
     "(float[1] x) => (seq(float[0]) z) <int64[1] n = {50001}> { s = ConstantOfShape<value = int64[1] {0}>(n) "
     "z = SplitToSequence(x, s) }",
     "a split of at most 50000 numbers, got 50001"},
    {"TooManyCopies",
     "(float[40000] x) => (seq(float[1]) z) { s = SplitToSequence(x) z = SequenceMap(s) "
     "<body = b (float[1] u) => (float[1] p) { q = Exp(u) p = Exp(q) }> }",
     "copies of its body, got a sequence of 40000"},
    {"LoopOfUnknownLength",
     "(int64 n, float[2] x) => (seq(float[2]) z) <bool c = {1}> { e = SequenceEmpty() z = Loop(n, c, e) "
     "<body = b (int64 i, bool g, seq(float[2]) s) => (bool h, seq(float[2]) t) "
     "{ h = Identity(g) t = SequenceInsert(s, x) }> }",
     "a loop over sequences whose course is known, got its trip count or condition depends on data"},
    {"BranchesDiffer",
     "(bool c, float[2] x) => (seq(float[2]) z) { z = If(c) "
     "<then_branch = a () => (seq(float[2]) t) { t = SequenceConstruct(x) }, "
     "else_branch = b () => (seq(float[2]) u) { u = SequenceConstruct(x, x) }> }",
     "branches that give as many tensors each"},
    {"MapOverDifferentLengths",
     "(float[2] x) => (seq(float[2]) z) { s = SequenceConstruct(x) t = SequenceConstruct(x, x) z = SequenceMap(s, t) "
     "<body = b (float[2] u, float[2] v) => (float[2] p) { p = Mul(u, v) }> }",
     "sequences of 1 elements, got one of 2"},
    {"SequenceIntoTensorOperator", "(float[2] x) => (float[2] z) { s = SequenceConstruct(x) z = Relu(s) }", "Relu"},
};

// Each value that is a list has its own copy of it.
TEST(ContainerLimits, ElementsOfAllListsTogether) {
  std::string nodes = "s0 = SplitToSequence(x)";
  constexpr int kLists = 1000;
  for (int i = 1; i <= kLists; ++i) nodes += fmt::format(" s{} = Identity(s{})", i, i - 1);
  const std::string text =
      fmt::format("(float[50000] x) => (float[1] z) <int64 i = {{0}}> {{ {} z = SequenceAt(s{}, i) }}", nodes, kLists);
  EXPECT_THAT(error_of([&] { load(text); }), HasSubstr("elements in all sequences"));
}

INSTANTIATE_TEST_SUITE_P(OnnxIo, ContainerRefusals, testing::ValuesIn(kRefusals),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace halfstep
