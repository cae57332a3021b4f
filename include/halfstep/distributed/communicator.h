// Communication between the processes that train a model together.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include <halfstep/base/api.h>
#include <halfstep/base/dtype.h>
#include <halfstep/base/error.h>

namespace HALFSTEP_API halfstep {

enum class Reduction : std::uint8_t { sum, least, most };

/// An all-reduce of a fixed range of memory, created once and run in every step. The caller must not use the memory
/// between `start` and `wait`, and may compute meanwhile. Several may be in progress; all ranks must start them in the
/// same order. For those of a StreamRanks, the order of calls is the order of work on its stream.
class AllReduce {
 public:
  virtual ~AllReduce() = default;
  /// Throws Error(failure) if it is in progress, as after an error that has kept the caller from `wait`.
  void start();
  /// Returns when the result is available. Throws Error(failure) if it was not started.
  void wait();
  /// After `wait`: the time at which the result was available, which may be earlier. Unset if unknown.
  virtual std::optional<std::chrono::steady_clock::time_point> done_at() const { return std::nullopt; }

 protected:
  bool is_under_way() const { return is_under_way_; }

 private:
  virtual void do_start() = 0;
  virtual void do_wait() = 0;

  bool is_under_way_ = false;
};

/// An error that all ranks throw, or that another rank has caused.
class SharedError : public Error {
 public:
  using Error::Error;
};

/// A CUDA stream on which a program runs, and the number of its device in this process.
struct DeviceStream {
  void* stream = nullptr;  ///< a cudaStream_t
  int device = 0;
};

/// A group for tensors in device memory, ordered by a stream of the program: an operation starts after the work already
/// on the stream, and later work waits for it. Its functions are collective, in one order with those of the group,
/// which must outlive it. All but `synchronize` return immediately, unless the host is many operations ahead of the
/// device.
class StreamRanks {
 public:
  virtual ~StreamRanks() = default;
  /// As in Communicator, with addresses in device memory.
  virtual std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype,
                                                     Reduction reduction) = 0;
  virtual void all_gather(const void* from, void* to, std::size_t bytes) = 0;
  /// Returns when the stream's work is done. Throws SharedError(failure) if it waits for a rank that has left or does
  /// not respond within the group's time limit, and Error(failure) if the device fails.
  virtual void synchronize() = 0;
};

/// A group of processes, numbered by their ranks. Its functions are collective: every rank must call the same functions
/// in the same order, with the same counts, types and reductions. Each rank uses it from one thread only.
///
/// Results of a reduction are bit-identical on all ranks, and in every run with the same number of ranks.
///
/// Functions throw SharedError(failure) if a rank has left or does not respond within the group's time limit. Time in
/// which this process is stopped does not count.
class Communicator {
 public:
  virtual ~Communicator() = default;

  /// "mpi"
  virtual std::string_view name() const = 0;
  /// From 0 to size() - 1.
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Element types are f64, f32, bf16, f16, i64 and i32. `count` is a number of elements.

  /// Reduces `data` over all ranks, element by element, in place.
  virtual void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) = 0;
  virtual std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype,
                                                     Reduction reduction) = 0;
  /// Reduces `from`, which has size() parts of `count` elements; rank i receives part i.
  virtual void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) = 0;
  /// Concatenates `bytes` from every rank in `to`, in the order of ranks.
  virtual void all_gather(const void* from, void* to, std::size_t bytes) = 0;
  /// Copies the data of rank `root` to all ranks.
  virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
  /// Returns when every rank has called it.
  virtual void barrier() = 0;

  /// The group for the memory of the stream's device; nullptr if only host memory is supported. Not collective.
  virtual std::unique_ptr<StreamRanks> on_stream(const DeviceStream&) { return nullptr; }

  /// Ends all ranks, whatever they are doing: processes exit with this code; if ranks are threads of one process, their
  /// calls throw. Not collective. Report the error before.
  virtual void abort(int exit_code) noexcept = 0;
};

}  // namespace halfstep
