// Operators that fold rows: next to each other, beyond a vector's width and a block's elements, in one stage and in
// two.
#include "tests/executors/cudnn/op_case_util.h"

namespace halfstep::cudnn::cases {

std::vector<OpTest> reduction_tests() {
  std::vector<OpTest> t;
  for (const char* op : {"ReduceSum", "ReduceMax", "ReduceLogSumExp"})
    append(t, {
                  {"rows", op, "", {real({5, 37}), constant({1})}},
                  {"vectors", op, "", {positive({3, 1024}), constant({1})}, {{"keepdims", std::int64_t{0}}}},
                  {"short_rows", op, "", {real({70, 3}), constant({-1})}},
                  {"columns", op, "", {positive({70, 19}), constant({0})}},
                  {"long_columns", op, "", {positive({2100, 35}), constant({0})}, {}, 1, kF32},
                  {"all", op, "", {real({3, 5, 7})}},
                  {"long", op, "", {positive({2, 9001}), constant({1})}, {}, 1, kF32},
                  {"long_vectors", op, "", {positive({24, 512})}, {}, 1, kF32},
                  {"outer_and_inner", op, "", {real({3, 5, 7, 4}), constant({0, 2})}},
                  {"planes", op, "", {real({4, 3, 5, 5}), constant({0, 2, 3})}},
                  {"none", op, "", {real({3, 4})}, {{"noop_with_empty_axes", kOne}}},
              });
  for (const char* op : {"ReduceMean", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"})
    append(t, {
                  {"rows", op, "", {real({3, 40}), constant({1})}},
                  {"long", op, "", {positive({2, 9001}), constant({1})}, {}, 1, kF32},
              });
  for (const char* op : {"ReduceProd", "ReduceLogSum"})
    t.push_back({"rows", op, "", {positive({3, 9}), constant({1})}});
  for (const char* op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"})
    t.push_back({"integers", op, "", {labels({3, 4}, 9), constant({1})}, {}, 1, kF32});
  t.push_back({"narrow_integers", "ReduceSum", "", {labels32({3, 4}, 9), constant({1})}, {}, 1, kF32});
  for (const char* op : {"ArgMax", "ArgMin"})
    for (std::int64_t last : {0, 1}) {
      const std::string which = last ? "last" : "first";
      const auto with = [&](std::int64_t axis) {
        return Attributes{{"axis", axis}, {"select_last_index", last}, {"keepdims", axis}};
      };
      t.push_back({which + "_of_rows", op, "", {ties({5, 37})}, with(1)});
      t.push_back({which + "_of_columns", op, "", {ties({70, 19})}, with(0)});
      t.push_back({which + "_of_long", op, "", {ties({2, 9000})}, with(1), 1, kF32});
      t.push_back({which + "_of_integers", op, "", {labels({5, 37}, 9)}, with(1), 1, kF32});
    }
  for (std::int64_t largest : {0, 1}) {
    const std::string which = largest ? "largest" : "least";
    t.push_back({which, "TopK", "", {ties({5, 37}), constant({6})}, {{"largest", largest}}, 2});
    t.push_back({which + "_of_columns",
                 "TopK",
                 "",
                 {ties({19, 33}), constant({4})},
                 {{"largest", largest}, {"axis", std::int64_t{0}}},
                 2});
  }
  for (OpTest& test : t) test.kernel = "generated: reduction";
  append(t, {
                {"rows", "RMSNormalization", "", {real({5, 37}), real({37})}},
                {"vectors", "RMSNormalization", "", {real({3, 1024}), real({1024})}},
                {"long", "RMSNormalization", "", {real({2, 9001}), real({9001})}, {}, 1, kF32},
                {"planes", "RMSNormalization", "", {real({7, 3, 5}), real({3, 5})}, {{"axis", kOne}}},
                {"one_scale", "RMSNormalization", "", {real({5, 9}), real({1})}},
            });
  for (OpTest& test : t)
    if (test.op == "RMSNormalization") test.kernel = "generated: normalization";
  return t;
}

}  // namespace halfstep::cudnn::cases
