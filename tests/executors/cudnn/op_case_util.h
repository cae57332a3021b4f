// Shorthands for writing the tables of op_cases.
#pragma once

#include <utility>

#include "tests/executors/cudnn/op_cases.h"
#include <halfstep/ops/op_def.h>

namespace halfstep::cudnn::cases {

using Kind = Operand::Kind;
using Ints = std::vector<std::int64_t>;
inline constexpr std::int64_t kOne = 1;
inline const std::string kOwn(kOwnDomain);

inline Operand real(Shape shape) { return {Kind::real, std::move(shape)}; }
inline Operand positive(Shape shape) { return {Kind::positive, std::move(shape)}; }
inline Operand ties(Shape shape) { return {Kind::ties, std::move(shape)}; }
inline Operand log_prob(Shape shape) { return {Kind::log_prob, std::move(shape)}; }
inline Operand f32(Shape shape) { return {Kind::f32, std::move(shape)}; }
inline Operand positive_f32(Shape shape) { return {Kind::positive_f32, std::move(shape)}; }
inline Operand labels(Shape shape, std::int64_t high) { return {Kind::labels, std::move(shape), high}; }
inline Operand labels32(Shape shape, std::int64_t high) { return {Kind::labels32, std::move(shape), high}; }
inline Operand truth(Shape shape) { return {Kind::truth, std::move(shape)}; }
inline Operand constant(Ints values) { return {Kind::constant, {}, 0, std::move(values)}; }
inline Operand scalar_i64(std::int64_t value) { return {Kind::scalar_i64, {}, 0, {value}}; }
inline Operand scalar_f32(std::int64_t value) { return {Kind::scalar_f32, {}, 0, {value}}; }
inline const Operand kAbsent{Kind::absent, {}};
inline const std::vector<DType> kF32 = {DType::f32};
inline const std::int64_t kToF32 = static_cast<std::int64_t>(DType::f32);

inline void append(std::vector<OpTest>& all, std::vector<OpTest> more) {
  for (OpTest& t : more) all.push_back(std::move(t));
}

// The families.
std::vector<OpTest> matmul_tests();
std::vector<OpTest> convolution_tests();
std::vector<OpTest> pooling_tests();
std::vector<OpTest> elementwise_tests();
std::vector<OpTest> reduction_tests();
std::vector<OpTest> loss_tests();
std::vector<OpTest> optimizer_tests();

}  // namespace halfstep::cudnn::cases
