// Copies between layouts against those of oneDNN.
#include <cstdint>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "executors/onednn/layout.h"
#include "executors/onednn/reorder.h"

namespace halfstep::onednn {
namespace {

using Tag = dnnl::memory::format_tag;

struct ReorderCase {
  const char* what;
  Dims dims;
  Tag from, to;
};

Desc desc(const ReorderCase& c, Tag tag) { return Desc(c.dims, DataType::f32, tag); }

/// What lies in memory after oneDNN has copied 1, 2, 3 ... (their padding zero).
std::vector<float> copied(const Desc& from, const Desc& to, std::vector<float>& source) {
  std::vector<float> rows(from.get_size() / sizeof(float), 0), target(to.get_size() / sizeof(float), -1);
  const Desc plain = row_major(from.get_dims(), DType::f32);
  std::iota(rows.begin(), rows.end(), 1.0F);
  source.assign(from.get_size() / sizeof(float), -1);
  dnnl::stream stream(engine());
  const auto copy = [&](const Desc& a, float* x, const Desc& b, float* y) {
    const dnnl::memory in(a, engine(), x), out(b, engine(), y);
    dnnl::reorder(in, out).execute(stream, const_cast<dnnl::memory&>(in), const_cast<dnnl::memory&>(out));
  };
  copy(plain, rows.data(), from, source.data());
  copy(from, source.data(), to, target.data());
  return target;
}

template <class T>
void check(const ReorderCase& c) {
  std::vector<float> source;
  const std::vector<float> expected = copied(desc(c, c.from), desc(c, c.to), source);
  const auto reorder = Reorder::find(c.dims, layout_of(desc(c, c.from)), layout_of(desc(c, c.to)), sizeof(T));
  ASSERT_TRUE(reorder);
  const std::vector<T> from(source.begin(), source.end());
  std::vector<T> to(expected.size(), T{77});
  (*reorder)(from.data(), to.data());
  EXPECT_EQ(to, std::vector<T>(expected.begin(), expected.end()));
}

TEST(OneDnnReorder, CopiesWhatOneDnnCopies) {
  const ReorderCase cases[] = {
      {"transposed", {37, 50}, Tag::ab, Tag::ba},
      {"transposed back", {64, 40}, Tag::ba, Tag::ab},
      {"channels last", {2, 19, 5, 7}, Tag::abcd, Tag::acdb},
      {"channels first", {2, 19, 5, 7}, Tag::acdb, Tag::abcd},
      {"in blocks of 8", {2, 16, 5, 3}, Tag::abcd, Tag::aBcd8b},
      {"out of blocks", {2, 16, 5, 3}, Tag::aBcd8b, Tag::abcd},
      {"from blocks to channels last", {2, 24, 5, 3}, Tag::aBcd8b, Tag::acdb},
      {"blocks of 8 to 16", {1, 32, 3, 3}, Tag::aBcd8b, Tag::aBcd16b},
      {"padded blocks", {2, 3, 5, 3}, Tag::abcd, Tag::aBcd8b},
      {"more padded blocks", {2, 21, 5, 3}, Tag::acdb, Tag::aBcd8b},
      {"out of padded blocks", {2, 21, 5, 3}, Tag::aBcd8b, Tag::abcd},
      {"padded blocks of 8 to 16", {1, 28, 3, 3}, Tag::aBcd8b, Tag::aBcd16b},
      {"padded blocks of 16 to 8", {1, 28, 3, 3}, Tag::aBcd16b, Tag::aBcd8b},
      {"weights", {24, 16, 3, 3}, Tag::abcd, Tag::ABcd8b8a},
      {"weights in another order", {24, 16, 3, 3}, Tag::ABcd8b8a, Tag::ABcd8a8b},
      {"padded weights", {20, 3, 3, 3}, Tag::abcd, Tag::Acdb8a},
      {"grouped weights", {16, 1, 1, 3, 3}, Tag::abcde, Tag::Abcde8a},
      {"weights in nested blocks", {32, 32, 3, 3}, Tag::abcd, Tag::ABcd8b16a2b},
      {"out of nested blocks", {32, 32, 3, 3}, Tag::ABcd8b16a2b, Tag::abcd},
      {"one axis", {5}, Tag::a, Tag::a},
  };
  for (const ReorderCase& c : cases) {
    SCOPED_TRACE(c.what);
    check<std::uint16_t>(c);
    check<std::uint32_t>(c);
  }
}

template <class T>
void check_shuffle(const ReorderCase& c) {
  std::vector<float> source;
  const std::vector<float> expected = copied(desc(c, c.from), desc(c, c.to), source);
  const auto shuffle = find_shuffle(layout_of(desc(c, c.from)), layout_of(desc(c, c.to)), sizeof(T));
  ASSERT_TRUE(shuffle);
  const std::vector<T> from(source.begin(), source.end());
  std::vector<T> to(expected.size() + 1, T{77});
  (*shuffle)(from.data(), to.data());
  EXPECT_EQ(to.back(), T{77});
  to.pop_back();
  EXPECT_EQ(to, std::vector<T>(expected.begin(), expected.end()));
}

// Orders of weights that kernels for bf16 read, and gradients that they write.
TEST(OneDnnReorder, ShufflesBlocks) {
  const ReorderCase pairs[] = {
      {"in pairs", {32, 48, 3, 3}, Tag::ABcd16b16a, Tag::ABcd8b16a2b},
      {"a block alone", {16, 16, 1, 1}, Tag::ABcd16b16a, Tag::ABcd8b16a2b},
      {"padded", {20, 30, 3, 1}, Tag::ABcd16b16a, Tag::ABcd8b16a2b},
      {"out of pairs", {32, 48, 3, 3}, Tag::ABcd8b16a2b, Tag::ABcd16b16a},
  };
  for (const ReorderCase& c : pairs) {
    SCOPED_TRACE(c.what);
    check_shuffle<std::uint32_t>(c);
  }
  const ReorderCase others[] = {
      {"the other channels in pairs", {32, 48, 3, 3}, Tag::ABcd8b16a2b, Tag::ABcd8a16b2a},
      {"and outermost", {32, 48, 3, 3}, Tag::ABcd8b16a2b, Tag::BAcd8a16b2a},
      {"padded", {20, 30, 3, 3}, Tag::ABcd8b16a2b, Tag::BAcd8a16b2a},
  };
  for (const ReorderCase& c : others) {
    SCOPED_TRACE(c.what);
    check_shuffle<std::uint16_t>(c);
  }
  const auto is_one = [](Tag from, Tag to) {
    const ReorderCase c{"", {32, 32, 3, 3}, from, to};
    return find_shuffle(layout_of(desc(c, from)), layout_of(desc(c, to)), 4).has_value();
  };
  EXPECT_FALSE(is_one(Tag::ABcd16b16a, Tag::ABcd16a16b)) << "four elements from four places";
  EXPECT_FALSE(is_one(Tag::ABcd16b16a, Tag::ABcd8b8a)) << "other blocks";
  EXPECT_FALSE(is_one(Tag::abcd, Tag::ABcd16b16a)) << "no blocks";
}

TEST(OneDnnReorder, LeavesWhatDoesNotFit) {
  const ReorderCase nested{"", {30, 32, 3, 3}, Tag::abcd, Tag::ABcd8b16a2b},
      whole{"", {32, 30, 3, 3}, Tag::abcd, Tag::ABcd8b16a2b};
  EXPECT_TRUE(Reorder::find(nested.dims, Layout(), layout_of(desc(nested, nested.to)), 2)) << "a is cut once";
  EXPECT_FALSE(Reorder::find(whole.dims, Layout(), layout_of(desc(whole, whole.to)), 2)) << "b is cut twice";
}

}  // namespace
}  // namespace halfstep::onednn
