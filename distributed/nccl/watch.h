// What looks after the other ranks while a program computes.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "distributed/nccl/line.h"
#include <halfstep/distributed/communicator.h>

namespace halfstep::nccl {

/// A line, and a thread that gives signs of life by it and listens to those of others, whatever this process computes.
/// The thread calls neither CUDA nor NCCL.
class Watch {
 public:
  /// `on_loss` as that of CommunicatorOptions; `exit` ends the process with what it returns.
  Watch(Line line, std::chrono::milliseconds heartbeat, std::function<int(const SharedError&)> on_loss,
        void (*exit)(int code));
  ~Watch() { stop(); }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// Whether something may be missing, by what the thread has heard so far.
  bool has_news() const { return has_news_; }
  /// Hears what has come. Why this operation cannot be done, or, if it is unset, anything at all; the program is then
  /// told.
  std::optional<SharedError> missing(std::optional<std::uint64_t> operation);

  /// See Line::leave.
  void leave(std::uint64_t operations, bool waits) noexcept;
  /// Once nothing is left to do: where the rank waits, returns when all have left, as long as each gives signs of life.
  /// Where one does not, and the program was not told, tells it and ends the process.
  void end(bool waits);

 private:
  void work();
  void stop();
  void look();

  const std::function<int(const SharedError&)> on_loss_;
  void (*const exit_)(int);
  std::mutex mutex_;
  std::condition_variable changed_;
  Line line_;
  bool ends_ = false, is_told_ = false;
  std::atomic<bool> has_news_ = false;
  std::thread thread_;
};

}  // namespace halfstep::nccl
