// How ranks find that one of them is gone or stands still. The thread that calls MPI answers for its process, whatever
// that computes: so a long step, compilation or checkpoint is no silence, and a process that is stopped is.
#pragma once

#include <array>
#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <mpi.h>

namespace halfstep::mpi {

/// Every rank tells the next one that it is there, and listens to the one before. Who hears nothing for too long tells
/// all. To be used by one thread.
class Heartbeat {
 public:
  using Clock = std::chrono::steady_clock;

  /// `limit` 0: nobody is watched. Collective.
  Heartbeat(MPI_Comm group, std::chrono::milliseconds limit);
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// To be called again and again, at least every `pause()`; most calls look at the clock alone.
  void beat(Clock::time_point now);
  std::chrono::milliseconds pause() const { return pause_; }

  /// "nothing from rank 3 (host) for 20 s", once that is so. Nothing is sent or received from then on.
  const std::optional<std::string>& loss() const { return loss_; }

  /// Returns when all ranks have called it, as long as each of them computes; false where one is lost. Collective.
  bool end();

 private:
  struct Message {
    int is_last = 0;
  };
  using News = std::array<char, 512>;

  bool watches() const { return size_ > 1 && limit_.count() > 0; }
  void look(Clock::time_point now);
  void listen();
  void send(bool is_last);
  void tell_all();

  const std::chrono::milliseconds limit_, pause_;
  MPI_Comm group_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, next_ = 0, before_ = 0;
  std::string host_;  // of the rank before
  Message sent_, heard_;
  News news_{};
  MPI_Request sending_ = MPI_REQUEST_NULL, hearing_ = MPI_REQUEST_NULL, news_coming_ = MPI_REQUEST_NULL;
  Clock::time_point looked_at_, sent_at_, heard_at_;
  bool is_last_heard_ = false;
  std::optional<std::string> loss_;
};

}  // namespace halfstep::mpi
