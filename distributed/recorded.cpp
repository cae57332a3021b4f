#include "distributed/recorded.h"

#include <utility>

namespace halfstep {
namespace {

class RecordedAllReduce final : public AllReduce {
 public:
  /// `stream`: where the reduction is in its order; it is waited for then, too.
  RecordedAllReduce(std::unique_ptr<AllReduce> reduction, std::size_t bytes,
                    std::shared_ptr<RecordedReductions> records, StreamRanks* stream = nullptr)
      : reduction_(std::move(reduction)), bytes_(bytes), records_(std::move(records)), stream_(stream) {}

  std::optional<std::chrono::steady_clock::time_point> done_at() const override { return reduction_->done_at(); }

 private:
  void do_start() override {
    place_ = records_->size();
    records_->push_back({.start = std::chrono::steady_clock::now(), .end = {}, .bytes = bytes_});
    reduction_->start();
  }
  void do_wait() override {
    reduction_->wait();
    if (stream_) stream_->synchronize();
    (*records_)[place_].end = reduction_->done_at().value_or(std::chrono::steady_clock::now());
  }

  std::unique_ptr<AllReduce> reduction_;
  std::size_t bytes_, place_ = 0;
  std::shared_ptr<RecordedReductions> records_;
  StreamRanks* stream_;
};

class RecordedStream final : public StreamRanks {
 public:
  RecordedStream(std::unique_ptr<StreamRanks> ranks, std::shared_ptr<RecordedReductions> records)
      : ranks_(std::move(ranks)), records_(std::move(records)) {}

  std::unique_ptr<AllReduce> make_all_reduce(void* data, std::size_t count, DType dtype, Reduction reduction) override {
    return std::make_unique<RecordedAllReduce>(ranks_->make_all_reduce(data, count, dtype, reduction),
                                               bytes_of(dtype, count), records_, ranks_.get());
  }
  void all_gather(const void* from, void* to, std::size_t bytes) override { ranks_->all_gather(from, to, bytes); }
  void synchronize() override { ranks_->synchronize(); }

 private:
  std::unique_ptr<StreamRanks> ranks_;
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
  std::unique_ptr<StreamRanks> on_stream(const DeviceStream& stream) override {
    std::unique_ptr<StreamRanks> made = ranks_->on_stream(stream);
    return made ? std::make_unique<RecordedStream>(std::move(made), records_) : nullptr;
  }
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
