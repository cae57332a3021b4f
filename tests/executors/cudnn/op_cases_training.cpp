// Losses and optimizers.
#include "tests/executors/cudnn/op_case_util.h"

namespace halfstep::cudnn::cases {

std::vector<OpTest> loss_tests() {
  const Operand y = log_prob({4, 6});
  std::vector<OpTest> t = {
      {"last", "Softmax", "", {real({3, 7})}},
      {"middle", "Softmax", "", {real({3, 7, 5})}, {{"axis", kOne}}},
      {"long", "Softmax", "", {real({2, 9001})}, {}, 1, kF32},
      {"last", "LogSoftmax", "", {real({3, 7})}},
      {"middle", "LogSoftmax", "", {real({3, 7, 5})}, {{"axis", kOne}}},
      {"middle", "SoftmaxGrad", kOwn, {real({3, 7, 5}), positive({3, 7, 5})}, {{"axis", kOne}}},
      {"last", "LogSoftmaxGrad", kOwn, {real({4, 6}), y}, {{"axis", kOne}}},
      {"long", "LogSoftmaxGrad", kOwn, {real({2, 9001}), log_prob({2, 9001})}, {{"axis", kOne}}, 1, kF32},
      {"many", "SoftmaxCrossEntropyLoss", "", {real({9001, 3}), labels({9001}, 3)}, {}, 1, kF32},
      {"many", "SoftmaxCrossEntropyGrad", kOwn, {real({}), log_prob({9001, 3}), labels({9001}, 3)}, {}, 1, kF32},
      {"long", "NegativeLogLikelihoodLoss", "", {log_prob({2, 9001}), labels({2}, 9001)}, {}, 1, kF32},
  };
  for (const char* reduction : {"mean", "sum", "none"}) {
    const Attributes plain = {{"reduction", std::string(reduction)}};
    const Attributes ignoring = {{"reduction", std::string(reduction)}, {"ignore_index", std::int64_t{2}}};
    // Of one class alone, 0.
    const Attributes all_ignored = {{"reduction", std::string(reduction)}, {"ignore_index", std::int64_t{0}}};
    const bool none = std::string(reduction) == "none";
    const std::vector<DType> dtypes = none ? kF32 : std::vector<DType>{DType::f32, DType::f16, DType::bf16};
    const Shape loss = none ? Shape{4} : Shape{}, image_loss = none ? Shape{2, 3, 3} : Shape{},
                one_loss = none ? Shape{1} : Shape{};
    const std::string loss_op = "SoftmaxCrossEntropyLoss", grad_op = "SoftmaxCrossEntropyGrad", r = reduction;
    append(
        t,
        {
            {r, loss_op, "", {real({4, 6}), labels({4}, 6)}, plain, 2, dtypes},
            {r + "_weights", loss_op, "", {real({4, 6}), labels32({4}, 6), positive({6})}, ignoring, 2, dtypes},
            {r + "_ignored", loss_op, "", {real({1, 1}), labels({1}, 1)}, all_ignored, 2, dtypes},
            {r + "_ignored", grad_op, kOwn, {real(one_loss), log_prob({1, 1}), labels({1}, 1)}, all_ignored, 1, dtypes},
            // The logarithms are not asked for, and rows are cut into chunks.
            {r + "_long", loss_op, "", {real({2, 20000}), labels({2}, 20000)}, plain, 1, kF32},
            {r + "_long_columns", loss_op, "", {real({1, 600, 3}), labels({1, 3}, 600)}, plain, 1, kF32},
            {r + "_image", loss_op, "", {real({2, 5, 3, 3}), labels({2, 3, 3}, 5)}, ignoring, 2, dtypes},
            {r, grad_op, kOwn, {real(loss), y, labels({4}, 6)}, plain, 1, dtypes},
            {r + "_weights", grad_op, kOwn, {real(loss), y, labels32({4}, 6), positive({6})}, ignoring, 1, dtypes},
            {r + "_image",
             grad_op,
             kOwn,
             {real(image_loss), log_prob({2, 5, 3, 3}), labels({2, 3, 3}, 5)},
             plain,
             1,
             dtypes},
        });
  }
  for (OpTest& test : t) test.kernel = "generated";
  return t;
}

namespace {

/// Lists of tensors: two small ones, or enough for several launches.
std::vector<Operand> tensors(std::size_t count, const std::vector<Operand>& kinds, std::vector<Operand> before) {
  for (const Operand& kind : kinds)
    for (std::size_t i = 0; i < count; ++i) {
      before.push_back(kind);
      before.back().shape = Shape{static_cast<std::int64_t>(3 + i % 5), 2};
    }
  return before;
}

}  // namespace

std::vector<OpTest> optimizer_tests() {
  std::vector<OpTest> t;
  for (std::size_t n : {std::size_t{2}, std::size_t{45}}) {
    const std::string many = "_of_" + std::to_string(n);
    for (std::int64_t step : {1, 7}) {
      for (bool apply : {true, false}) {
        const std::string name = std::string(apply ? "step_" : "skipped_") + std::to_string(step) + many;
        Operand applied{Kind::truth, {}, 0, {apply}};
        const std::vector<Operand> scalars = {positive_f32({}), scalar_i64(step), applied, positive_f32({})};
        t.push_back({name,
                     step == 1 ? "AdamWStep" : "AdamStep",
                     kOwn,
                     tensors(n, {f32({}), f32({}), f32({}), positive_f32({})}, scalars),
                     {{"beta1", 0.9f}, {"beta2", 0.999f}, {"epsilon", 1e-8f}, {"weight_decay", 0.1f}},
                     3 * n,
                     kF32});
        t.push_back({name,
                     "SgdStep",
                     kOwn,
                     tensors(n, {f32({}), f32({}), f32({})}, scalars),
                     {{"momentum", 0.9f}, {"dampening", 0.1f}, {"nesterov", std::int64_t{0}}, {"weight_decay", 0.1f}},
                     2 * n,
                     kF32});
        t.push_back({name + "_nesterov",
                     "SgdStep",
                     kOwn,
                     tensors(n, {f32({}), f32({}), f32({})}, scalars),
                     {{"momentum", 0.9f}, {"dampening", 0.0f}, {"nesterov", kOne}, {"weight_decay", 0.0f}},
                     2 * n,
                     kF32});
        t.push_back({name + "_plain",
                     "SgdStep",
                     kOwn,
                     tensors(n, {f32({}), f32({})}, scalars),
                     {{"momentum", 0.0f}, {"dampening", 0.0f}, {"nesterov", std::int64_t{0}}, {"weight_decay", 0.0f}},
                     n,
                     kF32});
      }
    }
    t.push_back({"finite" + many, "GlobalNorm", kOwn, tensors(n, {f32({})}, {}), {}, 2, kF32});
  }
  t.push_back({"long", "GlobalNorm", kOwn, {f32({40000}), f32({16384}), f32({1})}, {}, 2, kF32});
  for (std::int64_t good : {3, 1999})
    for (std::int64_t finite : {0, 1})
      for (std::int64_t scale : {1, 1024, 16777216})
        t.push_back(
            {"scale_" + std::to_string(scale) + "_good_" + std::to_string(good) + (finite ? "_finite" : "_overflow"),
             "LossScaleUpdate",
             kOwn,
             {scalar_f32(scale), scalar_i64(good), {Kind::truth, {}, 0, {finite}}},
             {{"growth_factor", 2.0f},
              {"backoff_factor", 0.5f},
              {"growth_interval", std::int64_t{2000}},
              {"min", 1.0f},
              {"max", 16777216.0f}},
             2,
             kF32});
  for (OpTest& test : t) test.kernel = "generated";
  return t;
}

}  // namespace halfstep::cudnn::cases
