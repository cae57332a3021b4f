// Matrix products that each thread runs for itself, on memory it says then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "executors/onednn/kernel.h"

namespace halfstep::onednn {

/// A matrix in memory: element (i, j) lies at i row + j column.
struct ThreadMatrix {
  std::int64_t rows, columns, row, column;
  DType dtype = DType::f32;
  bool operator==(const ThreadMatrix&) const = default;
  ThreadMatrix transposed() const { return {columns, rows, column, row, dtype}; }
};

/// y = a b, or y += a b, in contiguous rows of y: oneDNN's product or a SIMD one.
class ThreadProduct {
 public:
  ThreadProduct() = default;
  /// Empty where oneDNN has only a slow one. Measured where the thread has a tuner.
  static ThreadProduct make(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds);
  explicit operator bool() const { return own_ || primitive_; }
  std::size_t scratch_bytes() const { return own_ ? own_scratch_ : scratch_.get_size(); }
  std::string kernel() const { return kernel_; }

 private:
  friend class ThreadRun;
  static ThreadProduct simd(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds);
  static ThreadProduct primitive(const ThreadMatrix& a, const ThreadMatrix& b, const ThreadMatrix& y, bool adds);

  dnnl::primitive primitive_;
  Desc a_, b_, y_, scratch_;
  std::string kernel_;
  /// In place of the primitive.
  using Own = std::function<void(const void* a, const void* b, void* y, void* scratch)>;
  Own own_;
  std::size_t own_scratch_ = 0;
};

/// One thread's way to run products: a stream, and for each product the memory it is given anew in every call.
class ThreadRun {
 public:
  ThreadRun(const std::vector<ThreadProduct>& products, void* scratch);
  ThreadRun(ThreadRun&&) = default;
  /// The product of that index. Failures are counted, for none may leave a parallel region.
  void operator()(std::size_t product, const void* a, const void* b, void* y);
  bool failed() const { return failed_; }

 private:
  struct Slot {
    dnnl::primitive primitive;
    dnnl::memory a, b, y, scratch;
    dnnl_exec_arg_t arguments[4];
    ThreadProduct::Own own;
  };
  void* scratch_;
  dnnl::stream stream_;
  std::vector<Slot> slots_;
  bool failed_ = false;
};

}  // namespace halfstep::onednn
