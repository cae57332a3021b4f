// What ranks tell each other beside their operations: that they are there, and that they leave. The thread that calls
// MPI answers for its process, whatever that computes: so a long step, compilation or checkpoint is no silence, and a
// process that is stopped is.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <mpi.h>

#include "distributed/signs_of_life.h"
#include <halfstep/distributed/communicator.h>

namespace halfstep::mpi {

/// Every rank tells the next one that it is there, and listens to the one before. Who hears nothing for too long tells
/// all. Who leaves tells all, too. To be used by one thread; no function but the constructor throws.
class Heartbeat {
 public:
  using Clock = SignsOfLife::Clock;

  /// `limit`: after how long a silent rank is taken for lost; that of rank 0 is that of all. 0: no silence is too long.
  /// Collective.
  Heartbeat(MPI_Comm group, std::chrono::milliseconds limit);
  /// Messages that are still under way stay in memory that is left to MPI. Calls nothing of MPI.
  ~Heartbeat();
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  /// To be called again and again, at least every `pause()`; most calls look at the clock alone.
  void beat(Clock::time_point now);
  std::chrono::milliseconds pause() const { return signs_.pause(); }

  /// A rank is lost, or MPI fails. Nothing is sent or received from then on.
  const std::optional<SharedError>& loss() const { return loss_; }

  /// A rank that takes part in its first `operations` operations alone.
  struct Leaver {
    std::string name;  ///< "rank 3 (node7, pid 4711)"
    std::uint64_t operations = 0;
  };
  /// Of those that have left the one with the fewest.
  const std::optional<Leaver>& leaver() const { return leaver_; }

  /// Returns when all ranks have called it, as long as each of them computes; false where one is lost, or does not wait
  /// for the others, and as soon as `stops` says so. Collective.
  bool end(std::uint64_t operations, const std::function<bool()>& stops);
  /// Tells the others, as far as they listen, that this rank leaves and waits for none of them. It listens to none from
  /// then on. Only the first call does something.
  void give_up(std::uint64_t operations);

 private:
  enum class Kind : std::int32_t { beat, leaves, gives_up, last, loss };
  struct Message {
    Kind kind = Kind::beat;
    std::uint64_t operations = 0;     ///< of one that leaves
    std::array<char, 496> text = {};  ///< the name of the sender, or of the rank that is lost
  };
  struct Sent {
    Message message;
    std::vector<MPI_Request> requests = {};
  };
  /// What MPI reads and writes.
  struct Mail {
    Message heard;
    MPI_Request hearing = MPI_REQUEST_NULL;
    Sent beat, leaving, last, news;
    bool is_under_way() const;
  };

  bool has_all() const { return have_left_ == size_ - 1 && is_last_heard_; }
  template <class Work>
  void guarded(const Work& work);
  void look(Clock::time_point now);
  void receive(Clock::time_point now);
  void listen();
  void send(Sent& to_be, int rank);
  void send_to_all(Sent& to_be, int except = -1);
  static bool is_through(Sent& sent);
  void leave(Kind kind, std::uint64_t operations);
  void stop_listening();

  SignsOfLife signs_;  // those of the rank before
  MPI_Comm group_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, next_ = 0, before_ = 0;
  std::string before_name_;
  Message own_;
  std::unique_ptr<Mail> mail_ = std::make_unique<Mail>();
  int have_left_ = 0;
  bool is_last_heard_ = false, is_last_told_ = false;  // of the rank before, to the next one
  bool has_given_up_ = false;                          // any
  bool has_told_ = false;                              // that this rank leaves
  std::optional<SharedError> loss_;
  std::optional<Leaver> leaver_;
};

}  // namespace halfstep::mpi
