// The communicator of MPI.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <mpi.h>
#include <unistd.h>

#include "distributed/mpi/check.h"
#include "distributed/mpi/progress.h"
#include <halfstep/base/error.h>
#include <halfstep/base/half.h>
#include <halfstep/distributed/plugin.h>

namespace halfstep::mpi {
namespace {

/// MPI counts in int.
constexpr std::size_t kMostElements = std::size_t{1} << 30;

template <class Half>
void add_halves(void* in, void* in_out, int* count, MPI_Datatype*) {
  const auto* from = static_cast<const Half*>(in);
  auto* to = static_cast<Half*>(in_out);
  for (int i = 0; i < *count; ++i) to[i] = Half(static_cast<float>(to[i]) + static_cast<float>(from[i]));
}

/// MPI lacks halves: two bytes, with a sum of their own.
struct Types {
  MPI_Datatype half = MPI_DATATYPE_NULL;
  MPI_Op f16_sum = MPI_OP_NULL, bf16_sum = MPI_OP_NULL;

  void make() {
    check(MPI_Type_contiguous(2, MPI_BYTE, &half), "MPI_Type_contiguous");
    check(MPI_Type_commit(&half), "MPI_Type_commit");
    check(MPI_Op_create(&add_halves<f16>, 1, &f16_sum), "MPI_Op_create");
    check(MPI_Op_create(&add_halves<bf16>, 1, &bf16_sum), "MPI_Op_create");
  }

  MPI_Datatype of(DType dtype) const {
    switch (dtype) {
      case DType::f64:
        return MPI_DOUBLE;
      case DType::f32:
        return MPI_FLOAT;
      case DType::i64:
        return MPI_INT64_T;
      case DType::i32:
        return MPI_INT32_T;
      case DType::f16:
      case DType::bf16:
        return half;
      default:
        throw_failure("elements of f64, f32, bf16, f16, i64 or i32 to reduce", std::string(name_of(dtype)), "");
    }
  }
  MPI_Op of(DType dtype, Reduction reduction) const {
    if (reduction == Reduction::sum) return dtype == DType::f16 ? f16_sum : dtype == DType::bf16 ? bf16_sum : MPI_SUM;
    if (is_half(dtype)) throw_failure("a sum of half numbers", "another reduction", "");
    return reduction == Reduction::least ? MPI_MIN : MPI_MAX;
  }
};

/// Calls `part(offset, count)` for parts that MPI can count.
template <class Part>
void in_parts(std::size_t count, const Part& part) {
  for (std::size_t done = 0; done < count; done += kMostElements)
    part(done, static_cast<int>(std::min(kMostElements, count - done)));
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(const CommunicatorOptions& options)
      : progress_(std::make_unique<Progress>(options, [this](MPI_Comm group) {
          check(MPI_Comm_rank(group, &rank_), "MPI_Comm_rank");
          check(MPI_Comm_size(group, &size_), "MPI_Comm_size");
          types_.make();
        })) {}

  ~MpiCommunicator() override;

  std::string_view name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    Operation operation = all_reduction(data, count, dtype, reduction);
    run(operation);
  }

  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return std::make_unique<Made>(*progress_, all_reduction(data, count, dtype, reduction));
  }

  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    require_int(count);
    const std::size_t bytes = bytes_of(dtype, count);
    Operation operation(
        {from, bytes * static_cast<std::size_t>(size_), to, bytes},
        [=, this](const void* parts, void* part, std::vector<MPI_Request>& requests) {
          check(MPI_Ireduce_scatter_block(parts, part, static_cast<int>(count), types_.of(dtype),
                                          types_.of(dtype, reduction), progress_->group(), &requests.emplace_back()),
                "MPI_Ireduce_scatter_block");
        });
    run(operation);
  }

  void all_gather(const void* from, void* to, std::size_t bytes) override {
    require_int(bytes);
    Operation operation({from, bytes, to, bytes * static_cast<std::size_t>(size_)},
                        [=, this](const void* part, void* parts, std::vector<MPI_Request>& requests) {
                          check(MPI_Iallgather(part, static_cast<int>(bytes), MPI_BYTE, parts, static_cast<int>(bytes),
                                               MPI_BYTE, progress_->group(), &requests.emplace_back()),
                                "MPI_Iallgather");
                        });
    run(operation);
  }

  void broadcast(void* data, std::size_t bytes, int root) override {
    Operation operation({data, bytes, data, bytes},
                        [=, this](const void*, void* to, std::vector<MPI_Request>& requests) {
                          in_parts(bytes, [&](std::size_t offset, int part) {
                            check(MPI_Ibcast(static_cast<std::byte*>(to) + offset, part, MPI_BYTE, root,
                                             progress_->group(), &requests.emplace_back()),
                                  "MPI_Ibcast");
                          });
                        });
    run(operation);
  }

  void barrier() override {
    Operation operation({}, [this](const void*, void*, std::vector<MPI_Request>& requests) {
      check(MPI_Ibarrier(progress_->group(), &requests.emplace_back()), "MPI_Ibarrier");
    });
    run(operation);
  }

  void abort(int exit_code) noexcept override { progress_->abort(exit_code); }
  void end() noexcept { progress_->end(); }

 private:
  class Made final : public AllReduce {
   public:
    Made(Progress& progress, Operation operation) : progress_(progress), operation_(std::move(operation)) {}
    ~Made() override { progress_.lose(operation_); }
    std::optional<std::chrono::steady_clock::time_point> done_at() const override { return operation_.done_at(); }

   private:
    void do_start() override { progress_.start(operation_); }
    void do_wait() override { progress_.wait(operation_); }

    Progress& progress_;
    Operation operation_;
  };

  Operation all_reduction(void* data, std::size_t count, DType dtype, Reduction reduction) {
    const std::size_t bytes = bytes_of(dtype, count);
    return Operation({data, bytes, data, bytes}, [=, this](const void*, void* to, std::vector<MPI_Request>& requests) {
      in_parts(count, [&](std::size_t offset, int part) {
        check(
            MPI_Iallreduce(MPI_IN_PLACE, static_cast<std::byte*>(to) + bytes_of(dtype, offset), part, types_.of(dtype),
                           types_.of(dtype, reduction), progress_->group(), &requests.emplace_back()),
            "MPI_Iallreduce");
      });
    });
  }

  static void require_int(std::size_t count) {
    if (count > kMostElements)
      throw_failure(fmt::format("at most {} elements", kMostElements), fmt::format("{}", count), "");
  }

  void run(Operation& operation) {
    progress_->start(operation);
    progress_->wait(operation);
  }

  int rank_ = 0, size_ = 1;
  Types types_;
  std::unique_ptr<Progress> progress_;
};

/// The one of the process: two would take turns in one order on no rank.
struct Opened {
  std::mutex mutex;
  MpiCommunicator* communicator = nullptr;
  pid_t process = 0;
} opened;

MpiCommunicator::~MpiCommunicator() {
  // A fork lacks the thread, which may hold what would be destroyed, and the lock as well.
  if (progress_->is_fork()) {
    static_cast<void>(progress_.release());
    return;
  }
  const std::lock_guard lock(opened.mutex);
  progress_->end();
  opened.communicator = nullptr;
}

/// A process that exits without destroying its communicator leaves the others, too. Not a fork of it, nor while another
/// thread is about to open or destroy it.
void end_at_exit() {
  const std::unique_lock lock(opened.mutex, std::try_to_lock);
  if (lock && opened.communicator && opened.process == getpid()) opened.communicator->end();
}

Communicator* open(const CommunicatorOptions& options, std::string& reason) {
  const std::lock_guard lock(opened.mutex);
  if (opened.communicator) {
    reason = "the communicator of this process is open already: share it";
    return nullptr;
  }
  opened.communicator = new MpiCommunicator(options);
  opened.process = getpid();
  static const int registered = std::atexit(end_at_exit);
  static_cast<void>(registered);
  return opened.communicator;
}

}  // namespace
}  // namespace halfstep::mpi

extern "C" {

int halfstep_communicator_abi() { return halfstep::kCommunicatorAbi; }

halfstep::Communicator* halfstep_communicator(const halfstep::CommunicatorOptions* options, std::string* reason) {
  try {
    return halfstep::mpi::open(*options, *reason);
  } catch (const halfstep::Error& error) {
    *reason = error.without_hint();
  } catch (const std::exception& error) {
    *reason = error.what();
  }
  return nullptr;
}

}  // extern "C"
