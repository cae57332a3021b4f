// Operators that draw numbers of a distribution, held against it. Internal to the statistics check.
#pragma once

#include <span>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/executors/executor.h>
#include <halfstep/ops/op_def.h>

namespace HALFSTEP_API halfstep {

/// What numbers should be draws of.
struct ExpectedDraws {
  double mean, deviation;
  double (*share_below)(double x) = nullptr;  ///< null where the mean and the deviation say all there is to say
};

/// What is wrong with numbers that should be independent draws: their mean, their variance, the largest difference of
/// the share of them below any number (Kolmogorov and Smirnov; `rounding` is what an element type adds to it), or their
/// correlation at distances of 1 to 1024. Empty when all are within five standard deviations.
std::string distribution_fault(std::span<const double> numbers, const ExpectedDraws& expected, double rounding);
/// The same for two lists that should have nothing to do with each other.
std::string correlation_fault(std::span<const double> a, std::span<const double> b, const ExpectedDraws& expected);

/// Whether the operator draws numbers: RandomNormal, RandomUniform, their Like, Bernoulli, Multinomial, and
/// ai.halfstep.PhiloxRandom.
bool draws_numbers(const OpDef& op);
/// Runs `op` on 65,535 elements. Empty when nothing is wrong. Throws Error as running does.
std::string number_fault(const OpDef& op, DType dtype, Executor& executor);

}  // namespace halfstep
