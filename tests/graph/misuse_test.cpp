// Wrong calls of the public functions of graph/: each is an Error that names the fault, and no crash.
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/temporary_directory.h"
#include <halfstep/graph/graph.h>

namespace halfstep {
namespace {

using testing::HasSubstr;

struct Misuse {
  const char* says;
  std::function<void()> call;
};

void expect_errors(const std::vector<Misuse>& cases) {
  for (const Misuse& misuse : cases)
    EXPECT_THAT(error_of(Error::Kind::input, misuse.call), HasSubstr(misuse.says)) << misuse.says;
}

TEST(Misuse, OfTensors) {
  std::array<float, 4> four{};
  const Tensor f = Tensor::of<float>({1, 2, 3, 4}, {2, 2}), half(DType::f16, {2}), text(DType::string, {2});
  expect_errors({
      {"4 values for the shape [2, 2], got 100000",
       [] {
         Tensor::of(std::vector<float>(100000), Shape{2, 2});
       }},
      {"4 values for the shape [2, 2], got 3",
       [] {
         Tensor::of<float>({1, 2, 3}, {2, 2});
       }},
      {"0 values for the shape [0, 2], got 1",
       [] {
         Tensor::of<bool>({true}, {0, 2});
       }},
      {"a shape with every extent known", [] { Tensor::of<float>({1}, {Shape::kUnknown}); }},
      {"a shape of known rank", [] { Tensor::of<float>({1}, Shape::unranked()); }},
      {"an element type", [] { Tensor(DType::undefined, Shape{2}); }},
      {"a shape of known rank", [] { Tensor(DType::f32, Shape::unranked()); }},
      {"an element type", [&] { Tensor::view(DType::undefined, {4}, four.data()); }},
      {"a null pointer", [] { Tensor::view(DType::f32, {4}, nullptr); }},
      {"a shape with every extent known", [&] { Tensor::view(DType::f32, {Shape::kUnknown}, four.data()); }},
      {"a shape of 4 elements, got [3]", [&] { f.reshaped({3}); }},
      {"a shape of known rank", [&] { f.reshaped(Shape::unranked()); }},
      {"rows [1, 3)", [&] { f.rows(1, 3); }},
      {"rows [-1, 1)", [&] { f.rows(-1, 1); }},
      {"rows [2, 1)", [&] { f.rows(2, 1); }},
      {"rows [0, 1)", [] { Tensor::scalar(1.0F).rows(0, 1); }},
      {"whole bytes, got i4",
       [] {
         Tensor(DType::i4, {4, 2}).rows(1, 2);
       }},
      {"whole bytes, got string", [&] { text.rows(0, 1); }},
      {"a tensor of i64, got one of f32", [&] { f.data<std::int64_t>(); }},
      {"a tensor of i32, got one of f32", [&] { f.data<std::int32_t>(); }},
      {"a tensor of f32, got one of f16", [&] { half.span<float>(); }},
      {"a tensor whose elements have 16 bytes, got one of f32", [&] { f.data<std::array<std::uint64_t, 2>>(); }},
      {"a tensor of u8, got one of f16", [&] { half.data<std::uint8_t>(); }},
      {"a tensor of f32, got one of string", [&] { text.data<float>(); }},
      {"a tensor of string, got one of f32", [&] { f.data<std::string>(); }},
      {"a numeric element type, got string", [&] { convert(text, DType::f32); }},
      {"a numeric element type", [&] { convert(Tensor(), DType::f32); }},
      {"a numeric element type", [&] { to_doubles(text); }},
  });
}

TEST(Misuse, LeavesWhatIsRight) {
  std::array<float, 2> two{1, 2};
  EXPECT_EQ(Tensor::of<float>({}, {0, 3}).count(), 0);
  EXPECT_EQ(Tensor::view(DType::f32, {0}, nullptr).count(), 0);
  EXPECT_EQ(Tensor::view(DType::f32, {2}, two.data()).data<float>()[1], 2);
  EXPECT_EQ(Tensor().data<float>(), nullptr);
  // The bits of a number.
  EXPECT_EQ(Tensor::scalar(1.0F).data<std::uint32_t>()[0], 0x3f800000U);
  EXPECT_EQ(Tensor::scalar(true).data<std::uint8_t>()[0], 1);
  using Complex128 = std::array<std::uint64_t, 2>;
  EXPECT_EQ(Tensor(DType::c128, {1}).data<Complex128>()[0], Complex128());
  EXPECT_EQ(Tensor::scalar<std::string>("text").data<std::string>()[0], "text");
}

TEST(Misuse, OfShapes) {
  const Shape shape{2, 3};
  Shape changed = shape;
  expect_errors({
      {"an axis of the shape [2, 3], got axis 2", [&] { (void)shape[2]; }},
      {"an axis of the shape [2, 3], got axis 7", [&] { changed[7] = 1; }},
      {"an axis of the shape [2, 3], got axis 2", [&] { shape.dim(2); }},
      {"an axis of the shape [2, 3], got axis -1", [&] { shape.dim(-3); }},
      {"an axis of the shape [], got axis 0", [] { Shape().dim(0); }},
      {"axes [1, 3)", [&] { shape.count(1, 3); }},
      {"axes [2, 1)", [&] { shape.count(2, 1); }},
      {"a shape of known rank", [] { Shape::unranked().count(); }},
      {"shapes of known rank to broadcast", [&] { broadcast(shape, Shape::unranked()); }},
      {"shapes of known rank to broadcast", [&] { broadcast(Shape::unranked(), shape); }},
      {"an axis in [-2, 2), got 2", [] { normalize_axis(2, 2); }},
  });
}

TEST(Misuse, OfGraphs) {
  Graph graph;
  const ValueId x = graph.add_input("x", DType::f32, {2});
  graph.add_node("Neg", kOnnxDomain, {x}, 1);
  Graph broken = graph;
  broken.edit(0)->outputs[0] = ValueId(77);
  Graph broken_input = graph;
  broken_input.edit(0)->inputs[0] = ValueId(78);
  Graph broken_output = graph;
  broken_output.outputs.push_back(ValueId(79));
  expect_errors({
      {"the id of none", [&] { (void)graph[kNoValue]; }},
      {"the id 5", [&] { (void)graph[ValueId(5)]; }},
      {"the id 5", [&] { graph.rename(ValueId(5), "y"); }},
      {"the id 5", [&] { graph.replace_uses(ValueId(5), x); }},
      {"the id 6", [&] { graph.replace_uses(x, ValueId(6)); }},
      {"the id 9", [&] { graph.add_node("Neg", kOnnxDomain, {ValueId(9)}, 1); }},
      {"the id 9", [&] { graph.define({ValueId(9)}, "Neg", kOnnxDomain, {x}); }},
      {"a tensor for 'c', got an undefined tensor", [&] { graph.add_constant("c", Tensor()); }},
      {"a tensor for 's', got an undefined tensor", [&] { graph.add_state("s", Tensor(), StateRole::parameter); }},
      {"the id 77", [&] { broken.sort(); }},
      {"the id 6", [&] { graph.producer(ValueId(6)); }},
      {"the id 6", [&] { graph.users(ValueId(6)); }},
      {"the id 78", [&] { broken_input.sort(); }},
      {"the id 79", [&] { broken_output.remove_dead(); }},
  });
  EXPECT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.find("c"), kNoValue);
}

TEST(Misuse, OfAttributes) {
  const Attributes attributes{{"i", std::int64_t{1}},
                              {"f", 1.5F},
                              {"s", std::string("text")},
                              {"is", std::vector<std::int64_t>{1}},
                              {"fs", std::vector<float>{1}}};
  expect_errors({
      {"attribute 'f' of type int", [&] { attributes.get_int("f", 0); }},
      {"attribute 'i' of type float", [&] { attributes.get_float("i", 0); }},
      {"attribute 'i' of type string", [&] { attributes.get_string("i", ""); }},
      {"attribute 'i' of type ints", [&] { attributes.get_ints("i"); }},
      {"attribute 'is' of type floats", [&] { attributes.get_floats("is"); }},
  });
  EXPECT_EQ(attributes.get_int("none", 7), 7);
}

}  // namespace
}  // namespace halfstep
