#include "distributed/mpi/heartbeat.h"

#include <algorithm>
#include <cstring>
#include <thread>
#include <type_traits>

#include <fmt/format.h>

#include "distributed/mpi/check.h"
#include "distributed/shared_errors.h"

namespace halfstep::mpi {
namespace {

using namespace std::chrono_literals;

/// How long a rank that ends in any case tries to tell the others.
constexpr auto kFarewell = 200ms;

template <std::size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  std::strncpy(to.data(), text.c_str(), N - 1);
}

}  // namespace

Heartbeat::Heartbeat(MPI_Comm group, std::chrono::milliseconds limit) {
  check(MPI_Comm_dup(group, &group_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(group_, MPI_ERRORS_RETURN);
  check(MPI_Comm_rank(group_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(group_, &size_), "MPI_Comm_size");
  std::int64_t agreed = limit.count();
  check(MPI_Bcast(&agreed, 1, MPI_INT64_T, 0, group_), "MPI_Bcast");
  signs_ = SignsOfLife(std::chrono::milliseconds(size_ > 1 ? agreed : 0), 1);
  signs_.hear(0, Clock::now());  // all have come here
  next_ = (rank_ + 1) % size_;
  before_ = (rank_ + size_ - 1) % size_;
  is_last_heard_ = size_ == 1;
  before_name_ = fmt::format("rank {}", before_);
  put(own_.text, name_of_own_process(rank_));
  mail_->beat.message = mail_->last.message = mail_->leaving.message = own_;
  mail_->last.message.kind = Kind::last;
  if (!has_all()) listen();
}

bool Heartbeat::Mail::is_under_way() const {
  const auto is_open = [](MPI_Request request) { return request != MPI_REQUEST_NULL; };
  return is_open(hearing) || std::ranges::any_of(std::array{&beat, &leaving, &last, &news}, [&](const Sent* sent) {
           return std::ranges::any_of(sent->requests, is_open);
         });
}

Heartbeat::~Heartbeat() {
  if (mail_->is_under_way()) static_cast<void>(mail_.release());
}

// One receive for all that comes: what one rank sends comes in order, and no more is expected once all have left.
void Heartbeat::listen() {
  static_assert(std::is_trivially_copyable_v<Message>);
  check(MPI_Irecv(&mail_->heard, sizeof mail_->heard, MPI_BYTE, MPI_ANY_SOURCE, 0, group_, &mail_->hearing),
        "MPI_Irecv");
}

void Heartbeat::send(Sent& to_be, int rank) {
  check(MPI_Isend(&to_be.message, sizeof to_be.message, MPI_BYTE, rank, 0, group_, &to_be.requests.emplace_back()),
        "MPI_Isend");
}

void Heartbeat::send_to_all(Sent& to_be, int except) {
  for (int rank = 0; rank < size_; ++rank)
    if (rank != rank_ && rank != except) send(to_be, rank);
}

bool Heartbeat::is_through(Sent& sent) {
  int flag = 1;
  for (MPI_Request& request : sent.requests) {
    check(MPI_Test(&request, &flag, MPI_STATUS_IGNORE), "MPI_Test");
    if (!flag) return false;
  }
  sent.requests.clear();
  return true;
}

/// An error of MPI means that ranks cannot hear each other: a loss.
template <class Work>
void Heartbeat::guarded(const Work& work) {
  if (loss_) return;
  try {
    work();
  } catch (const Error& error) {
    loss_ = of_rank(rank_, error);
  }
}

void Heartbeat::beat(Clock::time_point now) {
  if (size_ > 1 && signs_.is_time(now)) guarded([&] { look(now); });
}

void Heartbeat::look(Clock::time_point now) {
  signs_.look(now);
  receive(now);
  // Nothing while the message before is still under way: a rank that takes none is silent itself.
  if (!loss_ && !is_last_told_ && signs_.is_due(now) && is_through(mail_->beat)) {
    send(mail_->beat, next_);
    signs_.give(now);
  }
  if (loss_ || is_last_heard_ || !signs_.silent(now)) return;
  loss_ = signs_.loss_of(before_name_);
  mail_->news.message.kind = Kind::loss;
  put(mail_->news.message.text, before_name_);
  send_to_all(mail_->news, before_);
  // One of them may take none either, and this rank ends all in any case.
  for (const auto until = Clock::now() + kFarewell; !is_through(mail_->news) && Clock::now() < until;)
    std::this_thread::sleep_for(1ms);
}

void Heartbeat::receive(Clock::time_point now) {
  while (!has_all() && !loss_ && mail_->hearing != MPI_REQUEST_NULL) {
    int flag = 0;
    MPI_Status status;
    check(MPI_Test(&mail_->hearing, &flag, &status), "MPI_Test");
    if (!flag) return;
    mail_->heard.text.back() = '\0';
    if (status.MPI_SOURCE == before_) signs_.hear(0, now);
    switch (mail_->heard.kind) {
      case Kind::beat:
        before_name_ = mail_->heard.text.data();
        break;
      case Kind::leaves:
      case Kind::gives_up:
        ++have_left_;
        has_given_up_ = has_given_up_ || mail_->heard.kind == Kind::gives_up;
        if (!leaver_ || mail_->heard.operations < leaver_->operations)
          leaver_ = {mail_->heard.text.data(), mail_->heard.operations};
        // It tells nothing more.
        if (mail_->heard.kind == Kind::gives_up && status.MPI_SOURCE == before_) is_last_heard_ = true;
        break;
      case Kind::last:
        is_last_heard_ = true;
        break;
      case Kind::loss:
        loss_ = signs_.loss_of(mail_->heard.text.data());
        return;
    }
    if (!has_all()) listen();
  }
}

/// A receive ends at once, by the message that it has got or by none.
void Heartbeat::stop_listening() {
  if (mail_->hearing == MPI_REQUEST_NULL || MPI_Cancel(&mail_->hearing) != MPI_SUCCESS) return;
  MPI_Wait(&mail_->hearing, MPI_STATUS_IGNORE);
}

void Heartbeat::leave(Kind kind, std::uint64_t operations) {
  has_told_ = true;
  mail_->leaving.message.kind = kind;
  mail_->leaving.message.operations = operations;
  send_to_all(mail_->leaving);
}

void Heartbeat::give_up(std::uint64_t operations) {
  if (has_told_) return;
  guarded([&] {
    leave(Kind::gives_up, operations);
    for (const auto until = Clock::now() + kFarewell; !is_through(mail_->leaving) && Clock::now() < until;)
      std::this_thread::sleep_for(1ms);
  });
  stop_listening();
}

bool Heartbeat::end(std::uint64_t operations, const std::function<bool()>& stops) {
  bool is_done = false;
  guarded([&] {
    leave(Kind::leaves, operations);
    for (auto rest = 1ms; !is_done; rest = std::min<std::chrono::milliseconds>(2 * rest, 8ms)) {
      look(Clock::now());
      if (loss_ || has_given_up_ || stops()) return;
      // Until all have come each is watched by the next one, which is told then that nothing more comes.
      if (have_left_ == size_ - 1 && !is_last_told_) {
        is_last_told_ = true;
        if (size_ > 1) send(mail_->last, next_);
      }
      is_done = is_last_told_ && has_all() && is_through(mail_->beat) && is_through(mail_->leaving) &&
                is_through(mail_->last);
      if (!is_done) std::this_thread::sleep_for(rest);
    }
    check(MPI_Comm_free(&group_), "MPI_Comm_free");
  });
  if (!is_done) stop_listening();
  return is_done && !loss_;
}

}  // namespace halfstep::mpi
