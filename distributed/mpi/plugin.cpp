// The communicator of MPI.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <mpi.h>

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

/// Whether the process has one: two would take turns in one order on no rank.
std::atomic<bool> is_open = false;

class MpiCommunicator final : public Communicator {
 public:
  // The thread of `progress_` runs `after` before it is made whole, and calls nothing of it but `group`.
  explicit MpiCommunicator(const CommunicatorOptions& options)
      : progress_(options, [this] {
          check(MPI_Comm_rank(progress_.group(), &rank_), "MPI_Comm_rank");
          check(MPI_Comm_size(progress_.group(), &size_), "MPI_Comm_size");
          types_.make();
        }) {}

  ~MpiCommunicator() override { is_open = false; }

  std::string_view name() const override { return "mpi"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    Operation operation = all_reduction(data, count, dtype, reduction);
    run(operation);
  }

  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return std::make_unique<Made>(progress_, all_reduction(data, count, dtype, reduction));
  }

  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    require_int(count);
    Operation operation([=, this](std::vector<MPI_Request>& requests) {
      check(MPI_Ireduce_scatter_block(from, to, static_cast<int>(count), types_.of(dtype), types_.of(dtype, reduction),
                                      progress_.group(), &requests.emplace_back()),
            "MPI_Ireduce_scatter_block");
    });
    run(operation);
  }

  void all_gather(const void* from, void* to, std::size_t bytes) override {
    require_int(bytes);
    Operation operation([=, this](std::vector<MPI_Request>& requests) {
      check(MPI_Iallgather(from, static_cast<int>(bytes), MPI_BYTE, to, static_cast<int>(bytes), MPI_BYTE,
                           progress_.group(), &requests.emplace_back()),
            "MPI_Iallgather");
    });
    run(operation);
  }

  void broadcast(void* data, std::size_t bytes, int root) override {
    Operation operation([=, this](std::vector<MPI_Request>& requests) {
      in_parts(bytes, [&](std::size_t offset, int part) {
        check(MPI_Ibcast(static_cast<std::byte*>(data) + offset, part, MPI_BYTE, root, progress_.group(),
                         &requests.emplace_back()),
              "MPI_Ibcast");
      });
    });
    run(operation);
  }

  void barrier() override {
    Operation operation([this](std::vector<MPI_Request>& requests) {
      check(MPI_Ibarrier(progress_.group(), &requests.emplace_back()), "MPI_Ibarrier");
    });
    run(operation);
  }

  void abort(int exit_code) noexcept override { progress_.abort(exit_code); }

 private:
  class Made final : public AllReduce {
   public:
    Made(Progress& progress, Operation operation) : progress_(progress), operation_(std::move(operation)) {}
    ~Made() override { progress_.lose(operation_); }
    void start() override { progress_.start(operation_); }
    void wait() override { progress_.wait(operation_); }
    std::optional<std::chrono::steady_clock::time_point> done_at() const override { return operation_.done_at(); }

   private:
    Progress& progress_;
    Operation operation_;
  };

  Operation all_reduction(void* data, std::size_t count, DType dtype, Reduction reduction) {
    return Operation([=, this](std::vector<MPI_Request>& requests) {
      in_parts(count, [&](std::size_t offset, int part) {
        check(
            MPI_Iallreduce(MPI_IN_PLACE, static_cast<std::byte*>(data) + bytes_of(dtype, offset), part,
                           types_.of(dtype), types_.of(dtype, reduction), progress_.group(), &requests.emplace_back()),
            "MPI_Iallreduce");
      });
    });
  }

  static void require_int(std::size_t count) {
    if (count > kMostElements)
      throw_failure(fmt::format("at most {} elements", kMostElements), fmt::format("{}", count), "");
  }

  void run(Operation& operation) {
    progress_.start(operation);
    progress_.wait(operation);
  }

  int rank_ = 0, size_ = 1;
  Types types_;
  Progress progress_;
};

}  // namespace
}  // namespace halfstep::mpi

extern "C" {

int halfstep_communicator_abi() { return halfstep::kCommunicatorAbi; }

halfstep::Communicator* halfstep_communicator(const halfstep::CommunicatorOptions* options, std::string* reason) {
  if (halfstep::mpi::is_open.exchange(true)) {
    *reason = "the communicator of this process is open already: share it";
    return nullptr;
  }
  try {
    return new halfstep::mpi::MpiCommunicator(*options);
  } catch (const std::exception& error) {
    halfstep::mpi::is_open = false;
    *reason = error.what();
    return nullptr;
  }
}

}  // extern "C"
