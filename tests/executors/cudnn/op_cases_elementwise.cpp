// Elementwise operators and data movement.
#include "tests/executors/cudnn/op_case_util.h"

namespace halfstep::cudnn::cases {

std::vector<OpTest> elementwise_tests() {
  std::vector<OpTest> t;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Min", "Max"}) {
    t.push_back({"row", op, "", {real({3, 4}), positive({4})}});
    t.push_back({"both", op, "", {real({3, 1, 5}), positive({1, 4, 1})}});
    t.push_back({"integers", op, "", {labels({6}, 9), scalar_i64(4)}, {}, 1, kF32});
  }
  append(t, {
                {"broadcast", "Where", "", {truth({3, 1}), real({3, 4}), real({4})}},
                {"integers", "Where", "", {truth({}), scalar_i64(3), scalar_i64(5)}, {}, 1, kF32},
                {"truths", "Where", "", {truth({4}), truth({4}), truth({1})}, {}, 1, kF32},
                {"ties", "ReluGrad", kOwn, {real({3, 7}), ties({3, 7})}},
                {"batch", "Expand", "", {real({3, 1}), constant({2, 3, 4})}},
                {"matrix", "Transpose", "", {real({3, 4})}},
                {"axes", "Transpose", "", {real({2, 3, 4, 5})}, {{"perm", Ints{0, 3, 1, 2}}}},
                {"integers", "Transpose", "", {labels({2, 3}, 9)}, {}, 1, kF32},
                {"heads", "RotaryEmbedding", "", {real({2, 3, 5, 8}), real({2, 5, 4}), real({2, 5, 4})}},
                {"packed",
                 "RotaryEmbedding",
                 "",
                 {real({2, 5, 18}), real({9, 2}), real({9, 2}), labels({2, 5}, 9)},
                 {{"num_heads", std::int64_t{3}}, {"rotary_embedding_dim", std::int64_t{4}}, {"interleaved", kOne}}},
            });
  for (DType to : {DType::f32, DType::f16, DType::bf16, DType::i32, DType::i64, DType::boolean}) {
    const Attributes attributes = {{"to", static_cast<std::int64_t>(to)}};
    const std::string name = "to_" + std::string(name_of(to));
    t.push_back({name, "Cast", "", {real({3, 7})}, attributes});
    t.push_back({name + "_from_i64", "Cast", "", {labels({5}, 9)}, attributes, 1, kF32});
    t.push_back({name + "_from_i32", "Cast", "", {labels32({5}, 9)}, attributes, 1, kF32});
    t.push_back({name + "_from_bool", "Cast", "", {truth({5})}, attributes, 1, kF32});
  }
  for (OpTest& test : t) test.kernel = "generated";
  return t;
}

}  // namespace halfstep::cudnn::cases
