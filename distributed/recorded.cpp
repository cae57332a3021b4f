#include "distributed/recorded.h"

#include <utility>

namespace halfstep {
namespace {

class RecordedAllReduce final : public AllReduce {
 public:
  RecordedAllReduce(std::unique_ptr<AllReduce> reduction, std::size_t bytes,
                    std::shared_ptr<RecordedReductions> records)
      : reduction_(std::move(reduction)), bytes_(bytes), records_(std::move(records)) {}

  std::optional<std::chrono::steady_clock::time_point> done_at() const override { return reduction_->done_at(); }

 private:
  void do_start() override {
    place_ = records_->size();
    records_->push_back({.start = std::chrono::steady_clock::now(), .end = {}, .bytes = bytes_});
    reduction_->start();
  }
  void do_wait() override {
    reduction_->wait();
    (*records_)[place_].end = reduction_->done_at().value_or(std::chrono::steady_clock::now());
  }

  std::unique_ptr<AllReduce> reduction_;
  std::size_t bytes_, place_ = 0;
  std::shared_ptr<RecordedReductions> records_;
};

class RecordedCommunicator final : public Communicator {
 public:
  RecordedCommunicator(std::shared_ptr<Communicator> ranks, std::shared_ptr<RecordedReductions> records)
      : ranks_(std::move(ranks)), records_(std::move(records)) {}

  std::string_view name() const override { return ranks_->name(); }
  int rank() const override { return ranks_->rank(); }
  int size() const override { return ranks_->size(); }
  void all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    ranks_->all_reduce(data, count, dtype, reduction);
  }
  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return std::make_unique<RecordedAllReduce>(ranks_->make_all_reduce(data, count, dtype, reduction),
                                               bytes_of(dtype, count), records_);
  }
  void reduce_scatter(const void* from, void* to, std::size_t count, DType dtype, Reduction reduction) override {
    ranks_->reduce_scatter(from, to, count, dtype, reduction);
  }
  void all_gather(const void* from, void* to, std::size_t bytes) override { ranks_->all_gather(from, to, bytes); }
  void broadcast(void* data, std::size_t bytes, int root) override { ranks_->broadcast(data, bytes, root); }
  void barrier() override { ranks_->barrier(); }
  void abort(int exit_code) noexcept override { ranks_->abort(exit_code); }

 private:
  std::shared_ptr<Communicator> ranks_;
  std::shared_ptr<RecordedReductions> records_;
};

}  // namespace

std::shared_ptr<Communicator> recorded(std::shared_ptr<Communicator> ranks,
                                       std::shared_ptr<RecordedReductions> records) {
  return std::make_shared<RecordedCommunicator>(std::move(ranks), std::move(records));
}

}  // namespace halfstep
