// Kernels over rows of tensors: what each thread gathers of its elements is joined in one order, so that every run
// gives the same bits, and then something is written for each row, or for each of its elements.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "executors/cudnn/element_text.h"
#include "executors/cudnn/kernels/row_arguments.h"
#include "executors/cudnn/text_kernel.h"

namespace halfstep::cudnn {

/// Rows, and the elements of each: along the axes that stay, and along the others.
struct RowShape {
  std::int64_t rows = 1, length = 1;
  std::vector<std::int64_t> row_extents, row_steps, extents, steps;
};
/// Of a row-major tensor; nothing where too many axes remain after merging.
std::optional<RowShape> rows_along(const Shape& shape, const std::vector<bool>& is_reduced);
std::optional<RowShape> rows_along(const Shape& shape, std::size_t axis);

/// What is done with a row, as CUDA C++. Names in it: `a` (RowArguments), `row`, `base` (where it begins), `j`, the
/// elements x0, x1 ... of the row's operands, and `acc`.
struct RowFunction {
  std::string name;                  ///< of the kernel
  std::vector<DType> elements = {};  ///< operands in[0], in[1] ... that are read element by element
  std::string functions = {};        ///< what the other texts call
  std::string accumulator = {};      ///< Accumulator, identity(), join(a, b); empty where nothing is gathered
  std::size_t accumulator_bytes = 0;
  std::string gather = {};          ///< statements that add an element to `acc`
  std::string before = {};          ///< statements that every thread begins to write a row with
  std::string value = {};           ///< an expression, element j of out[0]; empty where no elements are written
  DType result = DType::undefined;  ///< of out[0]
  std::string each = {};            ///< statements for element j, in the place of `value`
  std::string finish = {};          ///< statements by one thread of the row
};

/// The texts of a function over rows, and all of their argument but the addresses.
struct RowKernelText {
  KernelText kernel;
  KernelText join;  ///< of what several blocks gathered of a row; its text is empty where there is none
  RowArguments arguments{};
  unsigned rows_per_block = 1;
  std::uint32_t alignment = 1;  ///< of in[k] and out[0], for vectors; bytes
  std::size_t partial_bytes = 0;
};
RowKernelText row_text(const RowFunction& function, const RowShape& shape);

/// The kernels, loaded.
class RowKernel {
 public:
  RowKernel(KernelContext& context, const RowFunction& function, const RowShape& shape);

  std::size_t scratch_bytes() const { return text_.partial_bytes; }
  /// `elements`: how many of `in` are read element by element.
  void launch(std::initializer_list<const void*> in, std::initializer_list<void*> out, void* scratch,
              cudaStream_t stream) const;

 private:
  RowKernelText text_;
  std::size_t elements_;
  bool writes_;
  std::shared_ptr<const LoadedKernel> kernel_, join_;
};

}  // namespace halfstep::cudnn
