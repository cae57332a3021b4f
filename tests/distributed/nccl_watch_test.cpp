// Who looks after ranks of NCCL, which are processes here: that they are there, and that they leave.
#include <array>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "distributed/nccl/rendezvous.h"
#include "distributed/nccl/watch.h"

namespace halfstep {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

/// Ranks that have found each other, each a process.
class Ranks {
 public:
  /// `work` returns what the rank says. Unless it does so, it ends with the code of `on_loss`, which is 9.
  using Work = std::function<std::string(int rank, nccl::Watch& watch)>;
  Ranks(int size, std::chrono::milliseconds heartbeat, bool has_on_loss, bool waits, const Work& work) {
    static int places = 0;
    const nccl::MeetingPlace place{.host = {}, .service = fmt::format("halfstep-watch-{}-{}", getpid(), ++places)};
    for (int rank = 0; rank < size; ++rank) {
      int ends[2];
      EXPECT_EQ(pipe(ends), 0);
      const pid_t process = fork();
      if (process == 0) {
        std::array<std::byte, 8> bytes{};
        nccl::Line line = nccl::broadcast_from_first(place, rank, size, bytes, 100s);
        const auto say = [&](const std::string& text) {
          if (write(ends[1], text.data(), text.size()) < 0) _exit(1);
        };
        std::function<int(const SharedError&)> on_loss;
        if (has_on_loss)
          on_loss = [&](const SharedError& error) {
            say("told: " + error.found());
            return 9;
          };
        nccl::Watch watch(std::move(line), heartbeat, on_loss, _exit);
        say("ready\n");
        say(work(rank, watch));
        watch.leave(1, waits);
        watch.end(waits);
        _exit(0);
      }
      close(ends[1]);
      processes_.push_back(process);
      texts_.push_back(ends[0]);
    }
    for (const int text : texts_) read_line(text);
  }
  ~Ranks() {
    for (const pid_t process : processes_)
      if (process > 0) {
        kill(process, SIGKILL);
        waitpid(process, nullptr, 0);
      }
    for (const int text : texts_) close(text);
  }

  void send(int rank, int signal) const { kill(processes_[static_cast<std::size_t>(rank)], signal); }
  /// What the rank has said, and " (code)" with which it ended.
  std::string ending(int rank) {
    const auto i = static_cast<std::size_t>(rank);
    std::string text;
    std::array<char, 256> some{};
    for (ssize_t got; (got = read(texts_[i], some.data(), some.size())) > 0;)
      text.append(some.data(), static_cast<std::size_t>(got));
    int status = 0;
    waitpid(processes_[i], &status, 0);
    processes_[i] = -1;
    return fmt::format("{} ({})", text, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }

 private:
  static void read_line(int text) {
    for (char one = 0; one != '\n' && read(text, &one, 1) == 1;) {
    }
  }
  std::vector<pid_t> processes_;
  std::vector<int> texts_;
};

/// What is missing, asked for again and again: of operation 0 nobody who leaves, of 1 each who does.
std::string first_missing(nccl::Watch& watch, std::chrono::seconds longest, std::uint64_t operation = 1) {
  for (const auto began = Clock::now(); Clock::now() - began < longest; std::this_thread::sleep_for(10ms))
    if (const auto why = watch.missing(operation)) return why->required() + ": " + why->found();
  return "nothing";
}

TEST(NcclWatch, ARankThatIsStoppedIsNamedByAllOthers) {
  for (const int stopped : {0, 1}) {
    Ranks ranks(3, 1s, false, false, [](int, nccl::Watch& watch) { return first_missing(watch, 100s); });
    ranks.send(stopped, SIGSTOP);
    const std::string wanted = fmt::format("a heartbeat from every rank within 1 s: nothing from rank {} (", stopped);
    for (const int rank : {0, 1, 2}) {
      if (rank == stopped) continue;
      EXPECT_THAT(ranks.ending(rank), AllOf(StartsWith(wanted), HasSubstr(") for 1 s (0)")));
    }
  }
}

TEST(NcclWatch, WhoComputesForLongAnswers) {
  Ranks ranks(2, 2s, false, true, [](int rank, nccl::Watch& watch) {
    if (rank == 1) std::this_thread::sleep_for(5s);
    return rank == 1 ? std::string("done") : first_missing(watch, 5s, 0);
  });
  EXPECT_EQ(ranks.ending(0), "nothing (0)");
  EXPECT_EQ(ranks.ending(1), "done (0)");
}

TEST(NcclWatch, WhereAllAreStoppedNobodyIsLost) {
  Ranks ranks(3, 2s, true, true, [](int, nccl::Watch& watch) { return first_missing(watch, 8s, 0); });
  for (const int rank : {0, 1, 2}) ranks.send(rank, SIGSTOP);
  std::this_thread::sleep_for(5s);
  for (const int rank : {2, 1, 0}) ranks.send(rank, SIGCONT);
  for (const int rank : {0, 1, 2}) EXPECT_EQ(ranks.ending(rank), "nothing (0)");
}

TEST(NcclWatch, ARankThatIsKilledIsNamedWithoutASignOfLife) {
  for (const auto heartbeat : {0s, 100s}) {
    Ranks ranks(3, heartbeat, false, false, [](int, nccl::Watch& watch) { return first_missing(watch, 100s); });
    const auto began = Clock::now();
    ranks.send(1, SIGKILL);
    for (const int rank : {0, 2})
      EXPECT_THAT(ranks.ending(rank),
                  AllOf(StartsWith("all ranks to go on: rank 1 ("), HasSubstr("whose process is gone")));
    EXPECT_LT(Clock::now() - began, 50s);
  }
}

TEST(NcclWatch, ARankThatLeavesIsNamedAtOnce) {
  Ranks ranks(3, 100s, false, false, [](int rank, nccl::Watch& watch) {
    return rank == 1 ? std::string("done") : first_missing(watch, 100s);
  });
  EXPECT_EQ(ranks.ending(1), "done (0)");
  for (const int rank : {0, 2})
    EXPECT_THAT(ranks.ending(rank),
                AllOf(StartsWith("all ranks to go on: rank 1 ("), HasSubstr("), which has left (0)")));
}

TEST(NcclWatch, TellsOfALossWhereTheProgramDoesNotCallIn) {
  Ranks ranks(2, 1s, true, true, [](int, nccl::Watch&) {
    std::this_thread::sleep_for(100s);
    return std::string("computed");
  });
  ranks.send(1, SIGSTOP);
  EXPECT_THAT(ranks.ending(0), AllOf(StartsWith("told: nothing from rank 1 ("), HasSubstr(") for 1 s (9)")));
}

/// Who is done waits for the others, as long as they give signs of life.
TEST(NcclWatch, LooksAfterTheOthersUntilAllHaveLeft) {
  Ranks well(3, 2s, true, true, [](int rank, nccl::Watch&) {
    std::this_thread::sleep_for(rank == 2 ? 5s : 0s);
    return std::string("done");
  });
  for (const int rank : {0, 1, 2}) EXPECT_EQ(well.ending(rank), "done (0)");
  Ranks ranks(3, 1s, true, true, [](int rank, nccl::Watch&) {
    std::this_thread::sleep_for(rank == 2 ? 100s : 0s);
    return std::string("done, ");
  });
  ranks.send(2, SIGSTOP);
  for (const int rank : {0, 1})
    EXPECT_THAT(ranks.ending(rank), AllOf(StartsWith("done, told: nothing from rank 2 ("), HasSubstr("(9)")));
}

/// A rank that an exception ends waits for nobody, and nobody for it.
TEST(NcclWatch, ARankThatGivesUpKeepsNobodyWaiting) {
  const auto began = Clock::now();
  Ranks ranks(2, 100s, true, true, [](int rank, nccl::Watch& watch) {
    if (rank == 1) watch.leave(0, false);
    return std::string("done");
  });
  EXPECT_EQ(ranks.ending(0), "done (0)");
  EXPECT_LT(Clock::now() - began, 50s);
  ranks.send(1, SIGKILL);
}

}  // namespace
}  // namespace halfstep
