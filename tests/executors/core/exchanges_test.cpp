// Exchanges of programs with other ranks: who waits for them, and how long their memory stays.
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/executors/reduction_graph.h"
#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/ranks.h>
#include <halfstep/graph/graph.h>
#include <halfstep/ops/builder.h>

namespace halfstep::core {
namespace {

using testing::ElementsAre;

using Log = std::vector<std::string>;

/// A rank that is by itself; tells of exchanges that go away.
class Alone final : public Communicator {
 public:
  explicit Alone(Log& log) : log_(log) {}
  std::string_view name() const override { return "alone"; }
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void all_reduce(void*, std::size_t, DType, Reduction) override {}
  std::unique_ptr<AllReduce> make_all_reduce(void*, std::size_t, DType, Reduction) override {
    return std::make_unique<Made>(log_);
  }
  void reduce_scatter(const void*, void*, std::size_t, DType, Reduction) override {}
  void all_gather(const void* from, void* to, std::size_t bytes) override { std::memcpy(to, from, bytes); }
  void broadcast(void*, std::size_t, int) override {}
  void barrier() override {}
  void abort(int) noexcept override {}

 private:
  class Made final : public AllReduce {
   public:
    explicit Made(Log& log) : log_(log) {}
    ~Made() override { log_.emplace_back("exchange"); }

   private:
    void do_start() override {}
    void do_wait() override {}
    Log& log_;
  };
  Log& log_;
};

/// Of the host's memory; tells of the memory of programs that goes away, and of waits.
class ToldOf final : public Device {
 public:
  explicit ToldOf(Log& log) : log_(log) {}
  std::shared_ptr<void> allocate(std::size_t bytes, Space space) override {
    std::shared_ptr<void> memory = Device::allocate(bytes, space);
    void* data = memory.get();
    return {data, [&log = log_, memory = std::move(memory)](void*) { log.emplace_back("memory"); }};
  }

 private:
  void do_wait() override { log_.emplace_back("device"); }
  Log& log_;
};

class Told final : public StreamRanks {
 public:
  explicit Told(Log& log) : log_(log) {}
  std::unique_ptr<AllReduce> make_all_reduce(void*, std::size_t, DType, Reduction) override { return nullptr; }
  void all_gather(const void*, void*, std::size_t) override {}
  void synchronize() override { log_.emplace_back("ranks"); }

 private:
  Log& log_;
};

/// A program that fails between the start of an exchange and its end goes away while the exchange is under way.
TEST(Exchanges, GoAwayBeforeTheMemoryInWhichTheyAre) {
  Log log;
  const auto executor = make_executor({"told", {}, {}, std::make_shared<ToldOf>(log)});
  const auto ranked = on_ranks(*executor, std::make_shared<Alone>(log));
  const auto store = ranked->make_store();
  auto program = ranked->compile(test::reduction(), *store);
  log.clear();
  program.reset();
  EXPECT_THAT(log, ElementsAre("exchange", "memory"));
}

TEST(Exchanges, AreWaitedForByTheThreadOfTheirProgramAlone) {
  Log log;
  ToldOf device(log), other(log);
  Told ranks(log);
  device.waiting_by(&ranks, [&] {
    device.wait();
    std::thread([&] { device.wait(); }).join();
    other.wait();
    device.waiting_by(nullptr, [&] { device.wait(); });
    device.wait();
  });
  EXPECT_THROW(device.waiting_by(&ranks, [] { throw_failure("no failure", "one", ""); }), Error);
  device.wait();
  EXPECT_THAT(log, ElementsAre("ranks", "device", "device", "device", "ranks", "device"));
}

}  // namespace
}  // namespace halfstep::core
