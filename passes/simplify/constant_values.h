// Patterns in the elements of a constant that show its purpose. Each function reads a few elements before it reads all.
#pragma once

#include <halfstep/graph/tensor.h>

namespace halfstep {

bool all_equal(const Tensor& tensor);
/// The tensor has elements, and all are `value`.
bool all_equal_to(const Tensor& tensor, double value);
/// 0, 1, 2, …, four elements or more.
bool counts_up(const Tensor& tensor);
/// Every row (of the last axis) is made of sines beside their cosines, in turn or one half after the other.
bool is_sine_table(const Tensor& tensor);
/// Element by element the sine and the cosine of something.
bool are_sine_and_cosine(const Tensor& a, const Tensor& b);

}  // namespace halfstep
