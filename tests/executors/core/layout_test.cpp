// Layouts against the addresses that they mean.
#include "executors/onednn/layout.h"

#include <map>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include <halfstep/executors/core/layout.h>

namespace halfstep::core {
namespace {

/// Where the element with these indices lies, by the definition of outer strides and inner blocks.
std::int64_t address(const Layout::Order& order, Dims index) {
  std::int64_t result = 0, inside = 1;
  for (std::size_t b = order.blocks.size(); b-- > 0;) {
    const auto axis = static_cast<std::size_t>(order.block_axes[b]);
    result += index[axis] % order.blocks[b] * inside;
    index[axis] /= order.blocks[b];
    inside *= order.blocks[b];
  }
  for (std::size_t axis = 0; axis < index.size(); ++axis) result += index[axis] * order.strides[axis];
  return result;
}

/// Addresses of all elements in row-major order of their indices.
Dims addresses(const Layout::Order& order) {
  Dims result, index(order.dims.size(), 0);
  const std::int64_t count =
      std::accumulate(order.dims.begin(), order.dims.end(), std::int64_t{1}, std::multiplies<>());
  for (std::int64_t i = 0; i < count; ++i) {
    result.push_back(address(order, index));
    for (std::size_t axis = index.size(); axis-- > 0;) {
      if (++index[axis] < order.dims[axis]) break;
      index[axis] = 0;
    }
  }
  return result;
}

/// Axes in this order in memory, from the slowest.
Layout::Order permuted(const Dims& dims, const std::vector<std::size_t>& axes) {
  Dims strides(dims.size());
  std::int64_t stride = 1;
  for (auto axis = axes.rbegin(); axis != axes.rend(); ++axis) {
    strides[*axis] = stride;
    stride *= dims[*axis];
  }
  return {dims, dims, strides, {}, {}};
}

/// NCHW with the channels in blocks.
Layout::Order blocked(const Dims& dims, std::int64_t block) {
  Dims padded = dims;
  padded[1] = (dims[1] + block - 1) / block * block;
  Dims outer = padded;
  outer[1] /= block;
  Dims strides = row_major_strides(outer);
  for (std::int64_t& stride : strides) stride *= block;
  return {dims, padded, strides, {block}, {1}};
}

bool is_sequence(const Dims& values) {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i] != static_cast<std::int64_t>(i)) return false;
  return true;
}

TEST(Layout, IsRowMajorWhenEveryElementLiesWhereRowMajorPutsIt) {
  std::mt19937 random(3);
  int row_major = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    Dims dims;
    for (int axis = 0; axis < 4; ++axis) dims.push_back(static_cast<std::int64_t>(random() % 3 + (axis == 1 ? 2 : 1)));
    std::vector<std::size_t> axes{0, 1, 2, 3};
    std::shuffle(axes.begin(), axes.end(), random);
    const Layout::Order order =
        trial % 2 ? permuted(dims, axes) : blocked(dims, static_cast<std::int64_t>(random() % 3 + 1));
    const bool expected = order.dims == order.padded && is_sequence(addresses(order));
    EXPECT_EQ(Layout(order).is_row_major(), expected) << Shape(dims).to_string();
    row_major += expected;
  }
  EXPECT_GT(row_major, 100);
  EXPECT_LT(row_major, 1500);
}

TEST(Layout, OfAPermutationKnowsItsOrder) {
  std::vector<std::size_t> axes{0, 1, 2, 3};
  do {
    const Layout layout(permuted({2, 3, 4, 5}, axes));
    EXPECT_TRUE(layout.is_permutation());
    EXPECT_FALSE(layout.is_padded());
    EXPECT_EQ(layout.stored(120), 120);
    if (!layout.is_row_major()) {
      EXPECT_EQ(layout.axis_order(), axes);
      EXPECT_EQ(strides_like(layout, {7, 1, 2, 3}), permuted({7, 1, 2, 3}, axes).strides);
    }
    EXPECT_EQ(layout, Layout(permuted({2, 3, 4, 5}, axes)));
  } while (std::next_permutation(axes.begin(), axes.end()));
}

TEST(Layout, WithGapsOrBlocksIsNoPermutation) {
  EXPECT_FALSE(Layout({{2, 3}, {2, 3}, {4, 1}, {}, {}}).is_permutation());
  EXPECT_FALSE(Layout({{2, 3}, {2, 3}, {1, 4}, {}, {}}).is_permutation());
  EXPECT_FALSE(Layout(blocked({2, 32, 3, 3}, 16)).is_permutation());
}

TEST(Layout, StoresItsPadding) {
  const Layout layout(blocked({2, 20, 3, 3}, 16));
  EXPECT_TRUE(layout.is_padded());
  EXPECT_EQ(layout.stored(2 * 20 * 9), 2 * 32 * 9);
  EXPECT_EQ(Layout().stored(17), 17);
}

TEST(Layout, TellsHowManyChannelsLieTogether) {
  const Shape image{2, 32, 3, 4};
  struct Case {
    Layout layout;
    Shape shape;
    std::optional<std::int64_t> together;
  };
  const Case cases[] = {
      {Layout(), image, 1},
      {Layout(permuted(dims_of(image), {0, 2, 3, 1})), image, 32},
      {Layout(blocked(dims_of(image), 16)), image, 16},
      {Layout(blocked(dims_of(image), 8)), image, 8},
      {Layout(permuted(dims_of(image), {0, 3, 2, 1})), image, std::nullopt},
      {Layout(permuted(dims_of(image), {1, 0, 2, 3})), image, std::nullopt},
      {Layout(permuted(dims_of(image), {0, 2, 3, 1})), Shape{2, 32, 12}, std::nullopt},
      {Layout(permuted({4, 5}, {1, 0})), Shape{4, 5}, std::nullopt},
  };
  for (const Case& c : cases) EXPECT_EQ(c.layout.channels_together(c.shape), c.together) << &c - cases;
}

TEST(Layout, StridesOfAxesOfExtent1DoNotCount) {
  const Layout a({{4, 1, 6}, {4, 1, 6}, {1, 99, 4}, {}, {}}), b({{4, 1, 6}, {4, 1, 6}, {1, 3, 4}, {}, {}});
  EXPECT_EQ(a, b);
  EXPECT_TRUE(a.is_permutation());
  EXPECT_NE(a, Layout({{4, 1, 6}, {4, 1, 6}, {6, 6, 1}, {}, {}}));
  EXPECT_EQ(dims_of(Shape{}), Dims{1});
}

// What oneDNN calls an order comes back as that order, in every type it has descriptors for.
TEST(Layout, GoesThroughOneDnnsDescriptorsAndBack) {
  using Tag = dnnl::memory::format_tag;
  const Shape shape{2, 32, 3, 4};
  for (const Tag tag : {Tag::nchw, Tag::nhwc, Tag::nChw8c, Tag::nChw16c, Tag::hwio, Tag::OIhw8i8o}) {
    const onednn::Desc desc(dims_of(shape), onednn::DataType::f32, tag);
    const Layout layout = onednn::layout_of(desc);
    EXPECT_EQ(layout.is_row_major(), tag == Tag::nchw);
    EXPECT_EQ(onednn::desc_of(layout, shape, DType::f32), desc);
    const onednn::Desc half = onednn::desc_of(layout, shape, DType::bf16);
    EXPECT_EQ(onednn::layout_of(half), layout);
    EXPECT_EQ(half.get_data_type(), onednn::DataType::bf16);
    EXPECT_EQ(onednn::resized(layout, {2, 64, 5, 5}, DType::f32),
              onednn::Desc({2, 64, 5, 5}, onednn::DataType::f32, tag));
  }
}

}  // namespace
}  // namespace halfstep::core
