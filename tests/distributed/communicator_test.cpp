// Ranks that are threads, launchers, and how rows are dealt.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <system_error>
#include <thread>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include "data/batch_loader.h"
#include "data/share.h"
#include "distributed/waiting.h"
#include "tests/distributed/communicator_checks.h"
#include "tests/support/error_of.h"
#include <halfstep/distributed/launcher.h>
#include <halfstep/distributed/local.h>
#include <halfstep/distributed/registry.h>

namespace halfstep {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(LocalCommunicator, KeepsWhatCommunicatorsPromise) {
  for (const int size : {1, 2, 3, 4})
    EXPECT_NO_THROW(run_ranks(size, [&](const auto& ranks) {
      test::require(ranks->size() == size, "so many ranks");
      test::require(!ranks->on_stream({}), "the memory of the host alone");
      test::check_communicator(*ranks);
    })) << size;
}

TEST(LocalCommunicator, ARankThatFailsEndsTheOthersAndIsTheOneThatIsTold) {
  const std::string what = error_of([] {
    run_ranks(3, [](const auto& ranks) {
      if (ranks->rank() == 1) throw_input_error("good data", "bad data", "");
      ranks->barrier();
    });
  });
  EXPECT_THAT(what, HasSubstr("expected good data, got bad data"));
}

TEST(LocalCommunicator, ARankWithoutAThreadEndsTheOthersAndIsTold) {
  pthread_attr_t usual, huge;
  ASSERT_EQ(pthread_getattr_default_np(&usual), 0);
  ASSERT_EQ(pthread_attr_init(&huge), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&huge, std::size_t{1} << 46), 0);  // there is space for one
  ASSERT_EQ(pthread_setattr_default_np(&huge), 0);
  EXPECT_THROW(run_ranks(3, [](const auto& ranks) { ranks->barrier(); }), std::system_error);
  EXPECT_EQ(pthread_setattr_default_np(&usual), 0);
  pthread_attr_destroy(&usual);
  pthread_attr_destroy(&huge);
}

TEST(LocalCommunicator, ARankThatDoesNotComeIsTakenForLost) {
  const std::string what = error_of([] {
    run_ranks(
        2,
        [](const auto& ranks) {
          if (ranks->rank() == 0) ranks->barrier();
        },
        std::chrono::milliseconds(50));
  });
  EXPECT_THAT(what, HasSubstr("1 of 2 ranks after 0.05 s"));
}

TEST(LocalCommunicator, CallsThatDifferAreRefused) {
  const std::string what = error_of([] {
    run_ranks(2, [](const auto& ranks) {
      float values[2] = {};
      ranks->all_reduce(values, static_cast<std::size_t>(1 + ranks->rank()), DType::f32, Reduction::sum);
    });
  });
  EXPECT_THAT(what, HasSubstr("calls that differ"));
}

TEST(AllReduce, IsNeitherStartedTwiceNorAwaitedUnstarted) {
  run_ranks(2, [](const auto& ranks) {
    float value = 1;
    const auto sum = ranks->make_all_reduce(&value, 1, DType::f32, Reduction::sum);
    EXPECT_THAT(error_of([&] { sum->wait(); }), HasSubstr("one that is not"));
    sum->start();
    EXPECT_THAT(error_of([&] { sum->start(); }), HasSubstr("one that is under way: an error has ended the step"));
    sum->wait();
    EXPECT_EQ(value, 2);
  });
}

TEST(LocalCommunicator, TimeInWhichTheProcessIsStoppedIsNoWaiting) {
  RunningTime time;
  std::this_thread::sleep_for(3 * RunningTime::kLongest);
  EXPECT_EQ(time.passed(), RunningTime::kLongest);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  EXPECT_GT(time.passed(), RunningTime::kLongest);
}

TEST(RequireSame, NamesWhatDiffersWithItsRanks) {
  const std::string what = error_of([] {
    run_ranks(3, [](const auto& ranks) {
      std::map<std::string, std::string> values{{"--lr", "0.1"}, {"model", "m"}};
      if (ranks->rank() == 2) values["--lr"] = "0.2";
      require_same(*ranks, values);
    });
  });
  EXPECT_THAT(what, AllOf(HasSubstr("the same --lr on all ranks"), HasSubstr("0.1 on rank 0 and 0.2 on rank 2")));
  EXPECT_NO_THROW(run_ranks(2, [](const auto& ranks) { require_same(*ranks, {{"--lr", "0.1"}}); }));
}

TEST(Launcher, IsFoundByItsVariables) {
  using Variables = std::map<std::string, std::string>;
  const auto find = [](const Variables& variables) {
    return find_launch([&](const char* name) {
      const auto at = variables.find(name);
      return at == variables.end() ? nullptr : at->second.c_str();
    });
  };
  const auto open_mpi = find({{"OMPI_COMM_WORLD_RANK", "3"},
                              {"OMPI_COMM_WORLD_SIZE", "8"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(open_mpi);
  EXPECT_EQ(open_mpi->rank, 3);
  EXPECT_EQ(open_mpi->size, 8);
  EXPECT_EQ(open_mpi->local_rank, 1);
  EXPECT_EQ(open_mpi->local_size, 2);
  EXPECT_TRUE(open_mpi->starts_mpi);
  EXPECT_EQ(find({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}})->launcher, "mpirun (MPICH)");
  const Variables step{{"SLURM_PROCID", "5"},  {"SLURM_STEP_NUM_TASKS", "7"}, {"SLURM_STEP_TASKS_PER_NODE", "2(x3),1"},
                       {"SLURM_LOCALID", "1"}, {"SLURM_NODEID", "2"},         {"SLURM_NTASKS", "9"}};
  const auto place = [&](const Variables& variables) {
    const auto found = find(variables);
    return !found ? "none"
                  : fmt::format("{}: {} of {}, {} of {}", found->launcher, found->rank, found->size, found->local_rank,
                                found->local_size);
  };
  const auto changed = [](Variables variables, const Variables& others) {
    for (const auto& [name, value] : others) variables[name] = value;
    return variables;
  };
  const Variables on_torchrun{{"RANK", "3"},
                              {"WORLD_SIZE", "4"},
                              {"LOCAL_RANK", "1"},
                              {"LOCAL_WORLD_SIZE", "2"},
                              {"GROUP_WORLD_SIZE", "2"},
                              {"TORCHELASTIC_RUN_ID", "none"},
                              {"OMPI_COMM_WORLD_RANK", "1"},
                              {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                              {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}};
  const struct {
    Variables variables;
    const char* place;
  } cases[] = {
      {{{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}, "srun: 1 of 2, 0 of 1"},
      {step, "srun: 5 of 7, 1 of 2"},
      {changed(step, {{"SLURM_STEP_NUM_TASKS", ""}}), "srun: 5 of 7, 1 of 2"},
      {changed(step, {{"SLURM_PROCID", "6"}, {"SLURM_LOCALID", "0"}, {"SLURM_NODEID", "3"}}), "srun: 6 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", "7"}, {"SLURM_NODEID", "0"}, {"SLURM_LOCALID", "5"}}),
       "srun: 5 of 7, 5 of 7"},
      // What makes no sense says nothing of the machine.
      {changed(step, {{"SLURM_NODEID", "4"}}), "srun: 5 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", "2(x"}}), "srun: 5 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", "2(x999999999999)"}}), "srun: 5 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", "1000000(x1000000),2"}}), "srun: 5 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", "2(x3),,1"}}), "srun: 5 of 7, 0 of 1"},
      {changed(step, {{"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_STEP_NUM_TASKS", ""}}), "none"},
      // srun sets variables of MPICH, too, and may start mpirun's own processes or torchrun.
      {changed(step, {{"PMI_RANK", "5"}, {"PMI_SIZE", "7"}}), "mpirun (MPICH): 5 of 7, 1 of 2"},
      {changed(step, {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}}), "mpirun (MPICH): 5 of 8, 0 of 1"},
      {changed(step, {{"RANK", "11"},
                      {"WORLD_SIZE", "14"},
                      {"LOCAL_RANK", "1"},
                      {"LOCAL_WORLD_SIZE", "2"},
                      {"TORCHELASTIC_RUN_ID", "none"}}),
       "torchrun: 11 of 14, 1 of 2"},
      // mpirun has started a torchrun on each of two machines, or was started by a process of torchrun.
      {changed(on_torchrun, {{"OMPI_COMM_WORLD_SIZE", "2"}}), "torchrun: 3 of 4, 1 of 2"},
      {changed(on_torchrun, {{"OMPI_COMM_WORLD_SIZE", "8"}}), "mpirun (Open MPI): 1 of 8, 0 of 1"},
  };
  for (const auto& c : cases) EXPECT_EQ(place(c.variables), c.place);
  EXPECT_FALSE(find({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}})->starts_mpi);
  // No launcher, a batch script of Slurm, and variables that make no sense.
  EXPECT_FALSE(find({}));
  EXPECT_FALSE(find({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}));
  EXPECT_FALSE(find({{"RANK", "first"}, {"WORLD_SIZE", "2"}}));
  EXPECT_FALSE(find({{"RANK", "2"}, {"WORLD_SIZE", "2"}}));
  EXPECT_FALSE(find({{"RANK", "-1"}, {"WORLD_SIZE", "2"}}));
}

TEST(OpenCommunicator, NeedsALauncherAndLoadsNothingWithoutOne) {
  EXPECT_EQ(open_communicator("auto"), nullptr);
  EXPECT_EQ(open_communicator("off"), nullptr);
  EXPECT_THAT(error_of([] { open_communicator("mpi"); }), HasSubstr("a program that starts several ranks"));
  EXPECT_THAT(error_of([] { open_communicator("gloo"); }), HasSubstr("mpi, nccl, auto, off"));
}

TEST(OpenCommunicator, TakesLimitsInSeconds) {
  using namespace std::chrono_literals;
  EXPECT_EQ(with_limits(1.5, 20).limit, 1500ms);
  EXPECT_EQ(with_limits(1, 0).heartbeat, 0ms) << "no heartbeat";
  EXPECT_EQ(with_limits(1, 1e-4).heartbeat, 1ms) << "a short one is not none";
  for (const double wrong : {-1.0, 1e10, std::nan("")}) {
    EXPECT_THAT(error_of([&] { with_limits(wrong, 1); }), HasSubstr("--distributed-timeout from 0.001 to 1e+09"));
    EXPECT_THAT(error_of([&] { with_limits(1, wrong); }), HasSubstr("--heartbeat-timeout from 0 to 1e+06"));
  }
}

TEST(Share, DealsEachRowOnceAndInOrder) {
  for (const int ranks : {1, 2, 3, 4, 7})
    for (const std::int64_t rows : {0, 1, 2, 3, 5, 32, 33}) {
      std::int64_t next = 0, least = rows, most = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const Share share{rank, ranks};
        EXPECT_EQ(share.begin(rows), next);
        next = share.end(rows);
        least = std::min(least, share.size(rows));
        most = std::max(most, share.size(rows));
      }
      EXPECT_EQ(next, rows);
      EXPECT_LE(most - least, 1);
      if (rows > 0) {
        EXPECT_GT((Share{0, ranks}.size(rows)), 0) << "the first rank has some";
      }
    }
}

struct Dealt {
  std::int64_t rows, batch, start;
  std::initializer_list<int> ranks;
};

/// What a rank reads, batch by batch, over two epochs.
std::vector<std::vector<float>> read_by(const Dealt& dealt, const Share& share, std::vector<std::int64_t>& seen) {
  const DataArray rows = DataArray::made("x", {DType::f32, Shape{1}}, dealt.rows,
                                         [&](std::span<const std::int64_t> wanted, const RowDraw&, void* out) {
                                           for (std::size_t i = 0; i < wanted.size(); ++i)
                                             static_cast<float*>(out)[i] = static_cast<float>(wanted[i]);
                                           seen.insert(seen.end(), wanted.begin(), wanted.end());
                                         });
  const RowTransform transform = fit_input(rows, {DType::f32, Shape{1}}, {});
  BatchLoader loader({.x = {{rows, transform}}},
                     {.batch_size = dealt.batch, .share = share, .seed = 7, .start = {0, dealt.start}, .end_epoch = 2});
  std::vector<std::vector<float>> batches;
  while (const Batch* batch = loader.next()) {
    const auto values = batch->x[0].span<float>();
    batches.emplace_back(values.begin(), values.end());
    if (batch->is_spare) batches.back().clear();
    EXPECT_EQ(batch->all_rows, std::min(dealt.batch, dealt.rows - batch->at.row));
  }
  return batches;
}

TEST(Share, BatchesOfAllRanksAreThoseOfOne) {
  // Of the last four a rank has more rows of the smaller last batch than of the others.
  const Dealt cases[] = {
      {11, 4, 4, {2, 3, 4}}, {15, 8, 0, {5}}, {127, 64, 0, {6}}, {63, 32, 0, {7}}, {199, 100, 0, {8}}};
  for (const Dealt& dealt : cases) {
    std::vector<std::int64_t> all;
    const std::vector<std::vector<float>> alone = read_by(dealt, {}, all);
    ASSERT_EQ(all.size(), static_cast<std::size_t>(2 * dealt.rows - dealt.start));
    for (const int ranks : dealt.ranks) {
      std::vector<std::vector<float>> joined(alone.size());
      for (int rank = 0; rank < ranks; ++rank) {
        std::vector<std::int64_t> seen;
        const std::vector<std::vector<float>> part = read_by(dealt, {rank, ranks}, seen);
        ASSERT_EQ(part.size(), alone.size());
        std::size_t own = 0;
        for (std::size_t i = 0; i < part.size(); ++i) {
          joined[i].insert(joined[i].end(), part[i].begin(), part[i].end());
          own += std::max<std::size_t>(1, part[i].size());
        }
        EXPECT_EQ(seen.size(), own) << "rows of others are not read";
      }
      EXPECT_EQ(joined, alone) << dealt.rows << " rows, " << ranks << " ranks";
    }
  }
}

}  // namespace
}  // namespace halfstep
