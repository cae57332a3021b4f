#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include <fmt/format.h>

#include "distributed/waiting.h"
#include <halfstep/base/error.h>
#include <halfstep/base/visit.h>
#include <halfstep/distributed/local.h>

namespace halfstep {
namespace {

enum class Kind : std::uint8_t { all_reduce, reduce_scatter, all_gather, broadcast, barrier };

/// What one rank gives to a call.
struct Part {
  Kind kind = Kind::barrier;
  const void* from = nullptr;
  void* to = nullptr;
  std::size_t count = 0;  ///< elements of a reduction, bytes of the others
  DType dtype = DType::u8;
  Reduction reduction = Reduction::sum;
  int root = 0;

  bool fits(const Part& other) const {
    return kind == other.kind && count == other.count && dtype == other.dtype && reduction == other.reduction &&
           root == other.root;
  }
};

template <class T>
T reduced(const std::vector<const T*>& from, std::size_t i, Reduction reduction) {
  using Wide = std::conditional_t<std::is_integral_v<T>, std::int64_t, double>;
  const auto wide = [&](const T* values) {
    if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
      return static_cast<double>(static_cast<float>(values[i]));
    else
      return static_cast<Wide>(values[i]);
  };
  Wide result = wide(from[0]);
  for (std::size_t rank = 1; rank < from.size(); ++rank) {
    const Wide next = wide(from[rank]);
    result = reduction == Reduction::sum     ? result + next
             : reduction == Reduction::least ? std::min(result, next)
                                             : std::max(result, next);
  }
  if constexpr (std::is_same_v<T, f16> || std::is_same_v<T, bf16>)
    return T(static_cast<float>(result));
  else
    return static_cast<T>(result);
}

/// `count` elements from element `first` on, of all ranks.
template <class T>
std::vector<T> reduced(const std::vector<Part>& parts, std::size_t first, std::size_t count) {
  std::vector<const T*> from;
  for (const Part& part : parts) from.push_back(static_cast<const T*>(part.from));
  std::vector<T> result(count);
  for (std::size_t i = 0; i < count; ++i) result[i] = reduced(from, first + i, parts[0].reduction);
  return result;
}

template <class T>
void reduce(const std::vector<Part>& parts) {
  const std::size_t count = parts[0].count;
  const bool scatters = parts[0].kind == Kind::reduce_scatter;
  std::vector<T> result = reduced<T>(parts, 0, scatters ? count * parts.size() : count);
  for (std::size_t rank = 0; rank < parts.size(); ++rank)
    std::memcpy(parts[rank].to, result.data() + (scatters ? rank * count : 0), count * sizeof(T));
}

void carry_out(const std::vector<Part>& parts) {
  const Part& first = parts[0];
  if (first.count == 0) return;  // their addresses may be null
  switch (first.kind) {
    case Kind::all_reduce:
    case Kind::reduce_scatter:
      return visit_dtype(first.dtype, [&]<class T>() {
        if constexpr (!std::is_same_v<T, bool>) reduce<T>(parts);
      });
    case Kind::all_gather:
      for (const Part& to : parts)
        for (std::size_t rank = 0; rank < parts.size(); ++rank)
          std::memcpy(static_cast<std::byte*>(to.to) + rank * first.count, parts[rank].from, first.count);
      return;
    case Kind::broadcast:
      for (std::size_t rank = 0; rank < parts.size(); ++rank)
        if (static_cast<int>(rank) != first.root) std::memcpy(parts[rank].to, parts[first.root].from, first.count);
      return;
    case Kind::barrier:
      return;
  }
}

/// Where the threads meet.
class Meeting {
 public:
  Meeting(int size, std::chrono::milliseconds limit) : size_(static_cast<std::size_t>(size)), limit_(limit) {}

  int size() const { return static_cast<int>(size_); }

  void join(std::size_t call, int rank, const Part& part) {
    const std::lock_guard lock(mutex_);
    require_whole();
    Call& at = calls_[call];
    at.parts.resize(size_);
    at.parts[rank] = part;
    if (++at.arrived < size_) return;
    if (!std::ranges::all_of(at.parts, [&](const Part& other) { return other.fits(at.parts[0]); }))
      failure_ = "calls that differ";
    else
      carry_out(at.parts);
    at.is_done = true;
    changed_.notify_all();
  }

  void leave(std::size_t call) {
    std::unique_lock lock(mutex_);
    Call& at = calls_[call];
    if (!wait_running(changed_, lock, limit_, [&] { return at.is_done || failure_; }))
      failure_ = fmt::format("{} of {} ranks after {} s", at.arrived, size_, limit_.count() / 1000.0);
    require_whole();
    if (++at.left == size_) calls_.erase(call);
  }

  void fail(int rank) {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = fmt::format("the end of rank {}", rank);
    changed_.notify_all();
  }

 private:
  struct Call {
    std::vector<Part> parts = {};
    std::size_t arrived = 0, left = 0;
    bool is_done = false;
  };

  void require_whole() {
    if (!failure_) return;
    changed_.notify_all();
    throw SharedError(Error::Kind::failure, "the same call from every rank", *failure_, "");
  }

  const std::size_t size_;
  const std::chrono::milliseconds limit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::size_t, Call> calls_;
  std::optional<std::string> failure_;
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(std::shared_ptr<Meeting> meeting, int rank) : meeting_(std::move(meeting)), rank_(rank) {}

  std::string_view name() const override { return "local"; }
  int rank() const override { return rank_; }
  int size() const override { return meeting_->size(); }

  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    finish(start({Kind::all_reduce, data, data, count, dtype, reduction}));
  }
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return std::make_unique<Made>(*this, Part{Kind::all_reduce, data, data, count, dtype, reduction});
  }
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    finish(start({Kind::reduce_scatter, from, to, count, dtype, reduction}));
  }
  void all_gather(const void* from, void* to, std::size_t bytes) override {
    finish(start({Kind::all_gather, from, to, bytes}));
  }
  void broadcast(void* data, std::size_t bytes, int root) override {
    finish(start({Kind::broadcast, data, data, bytes, DType::u8, Reduction::sum, root}));
  }
  void barrier() override { finish(start({})); }
  void abort(int) noexcept override { meeting_->fail(rank_); }

 private:
  class Made final : public AllReduce {
   public:
    Made(LocalCommunicator& of, Part part) : of_(of), part_(part) {}
    ~Made() override {
      if (is_under_way()) of_.abort(1);  // its memory goes away
    }

   private:
    void do_start() override { call_ = of_.start(part_); }
    void do_wait() override { of_.finish(call_); }

    LocalCommunicator& of_;
    Part part_;
    std::size_t call_ = 0;
  };

  std::size_t start(const Part& part) {
    meeting_->join(calls_, rank_, part);
    return calls_++;
  }
  void finish(std::size_t call) { meeting_->leave(call); }

  std::shared_ptr<Meeting> meeting_;
  int rank_;
  std::size_t calls_ = 0;
};

}  // namespace

std::vector<std::shared_ptr<Communicator>> make_local_communicators(int size, std::chrono::milliseconds limit) {
  const auto meeting = std::make_shared<Meeting>(size, limit);
  std::vector<std::shared_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_shared<LocalCommunicator>(meeting, rank));
  return ranks;
}

void run_ranks(int size, const std::function<void(const std::shared_ptr<Communicator>&)>& work,
               std::chrono::milliseconds limit) {
  const auto ranks = make_local_communicators(size, limit);
  std::mutex mutex;
  std::exception_ptr first;
  const auto attempt = [&](Communicator& rank, const auto& action) {
    try {
      action();
    } catch (...) {
      {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
      rank.abort(1);
    }
  };
  std::vector<std::thread> threads;
  for (const auto& rank : ranks)  // a rank without a thread ends the others
    attempt(*rank, [&] { threads.emplace_back([&, rank] { attempt(*rank, [&] { work(rank); }); }); });
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace halfstep
