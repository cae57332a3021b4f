// What the processes that train a model together exchange.
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

/// An all-reduce of one place in memory, made once and run in every step. Between `start` and `wait` the memory belongs
/// to it, while the caller computes something else. Several may be under way; they are started in the same order on
/// every rank. Of a StreamRanks, "before", "between" and "behind" are places in its stream.
class AllReduce {
 public:
  virtual ~AllReduce() = default;
  /// Throws Error(failure) where it is under way, as after an error that has kept the caller from `wait`.
  void start();
  /// Returns when the result is there. Throws Error(failure) where it was not started.
  void wait();
  /// After `wait`: when the result was there, which may have been earlier. Unset where that is not known.
  virtual std::optional<std::chrono::steady_clock::time_point> done_at() const { return std::nullopt; }

 protected:
  bool is_under_way() const { return is_under_way_; }

 private:
  virtual void do_start() = 0;
  virtual void do_wait() = 0;

  bool is_under_way_ = false;
};

/// An error that is not of the rank that throws it: all throw it, or another rank is the reason.
class SharedError : public Error {
 public:
  using Error::Error;
};

/// A stream of CUDA, to which a program gives its work, and its device, by the number that it has in this process.
struct DeviceStream {
  void* stream = nullptr;  ///< a cudaStream_t
  int device = 0;
};

/// A group for tensors in a device's memory, in the order of one stream of the program: what it does follows the work
/// that the stream was given before, and comes before the work that it is given behind. Its functions are collective,
/// and in one order with those of the group, which must outlive it. But for `synchronize` they return at once, unless
/// the host is many operations ahead of the device.
class StreamRanks {
 public:
  virtual ~StreamRanks() = default;
  /// As those of Communicator, with addresses of the device's memory.
  virtual std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype,
                                                     Reduction reduction) = 0;
  virtual void all_gather(const void* from, void* to, std::size_t bytes) = 0;
  /// Returns when the stream's work is done. Throws SharedError(failure) where that waits for a rank that has gone, or
  /// does not answer within the group's time limit, and Error(failure) where the device fails.
  virtual void synchronize() = 0;
};

/// A group of processes, each of which has a number in it, its rank. Its functions are collective: every rank calls the
/// same ones in the same order, with the same counts, types and reductions. To be used by one thread of each rank.
///
/// The results of a reduction are the same bits on all ranks, and the same in each run with as many ranks.
///
/// Where a rank does not answer within the group's time limit, or has gone, functions throw SharedError(failure). Time
/// in which this process is stopped does not count.
class Communicator {
 public:
  virtual ~Communicator() = default;

  /// "mpi"
  virtual std::string_view name() const = 0;
  /// From 0 to size() - 1.
  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Element types are f64, f32, bf16, f16, i64 and i32. `count` is of elements.

  /// The reduction of the elements in the same place of all ranks takes their place on each.
  virtual void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) = 0;
  virtual std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype,
                                                     Reduction reduction) = 0;
  /// Of `from`, size() parts of `count` elements, each rank gets the part of its number reduced.
  virtual void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) = 0;
  /// `to` becomes what all ranks give, `bytes` of each, in the order of ranks.
  virtual void all_gather(const void* from, void* to, std::size_t bytes) = 0;
  /// Every rank gets what `root` has.
  virtual void broadcast(void* data, std::size_t bytes, int root) = 0;
  /// Returns when every rank has called it.
  virtual void barrier() = 0;

  /// The group for the memory of the stream's device; nullptr where it takes that of the host alone. Not collective.
  virtual std::unique_ptr<StreamRanks> on_stream(const DeviceStream&) { return nullptr; }

  /// Ends the work of all ranks, whatever they do: processes exit with this code, threads of one process find that
  /// their calls throw. Not collective. What went wrong is to be told before.
  virtual void abort(int exit_code) noexcept = 0;
};

}  // namespace halfstep
