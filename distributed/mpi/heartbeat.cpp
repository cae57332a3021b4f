#include "distributed/mpi/heartbeat.h"

#include <algorithm>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "distributed/mpi/check.h"

namespace halfstep::mpi {
namespace {

using namespace std::chrono_literals;

constexpr int kBeat = 1, kNews = 2;  // tags

}  // namespace

Heartbeat::Heartbeat(MPI_Comm group, std::chrono::milliseconds limit)
    : limit_(limit), pause_(std::clamp<std::chrono::milliseconds>(limit / 40, 5ms, 500ms)) {
  check(MPI_Comm_dup(group, &group_), "MPI_Comm_dup");
  MPI_Comm_set_errhandler(group_, MPI_ERRORS_RETURN);
  check(MPI_Comm_rank(group_, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(group_, &size_), "MPI_Comm_size");
  next_ = (rank_ + 1) % size_;
  before_ = (rank_ + size_ - 1) % size_;
  if (!watches()) return;
  std::array<char, MPI_MAX_PROCESSOR_NAME> own{}, of_before{};
  int length = 0;
  MPI_Get_processor_name(own.data(), &length);
  check(MPI_Sendrecv(own.data(), static_cast<int>(own.size()), MPI_CHAR, next_, kBeat, of_before.data(),
                     static_cast<int>(of_before.size()), MPI_CHAR, before_, kBeat, group_, MPI_STATUS_IGNORE),
        "MPI_Sendrecv");
  of_before.back() = '\0';
  host_ = of_before.data();
  looked_at_ = sent_at_ = heard_at_ = Clock::now();
  listen();
  check(MPI_Irecv(news_.data(), static_cast<int>(news_.size()), MPI_CHAR, MPI_ANY_SOURCE, kNews, group_, &news_coming_),
        "MPI_Irecv");
}

void Heartbeat::listen() {
  check(MPI_Irecv(&heard_, sizeof heard_, MPI_BYTE, before_, kBeat, group_, &hearing_), "MPI_Irecv");
}

/// Sends nothing while the message before is still under way: a rank that takes none is silent itself.
void Heartbeat::send(bool is_last) {
  int is_sent = 1;
  if (sending_ != MPI_REQUEST_NULL) MPI_Test(&sending_, &is_sent, MPI_STATUS_IGNORE);
  if (!is_sent || sent_.is_last) return;
  sent_.is_last = is_last ? 1 : 0;
  MPI_Isend(&sent_, sizeof sent_, MPI_BYTE, next_, kBeat, group_, &sending_);
}

void Heartbeat::tell_all() {
  News text{};
  std::strncpy(text.data(), loss_->c_str(), text.size() - 1);
  std::vector<MPI_Request> requests;
  for (int rank = 0; rank < size_; ++rank)
    if (rank != rank_ && rank != before_)
      MPI_Isend(text.data(), static_cast<int>(text.size()), MPI_CHAR, rank, kNews, group_, &requests.emplace_back());
  // One of them may take none either, and this rank ends all in any case.
  int are_sent = 0;
  for (const auto until = Clock::now() + 200ms; are_sent == 0 && Clock::now() < until; std::this_thread::sleep_for(1ms))
    MPI_Testall(static_cast<int>(requests.size()), requests.data(), &are_sent, MPI_STATUSES_IGNORE);
}

void Heartbeat::beat(Clock::time_point now) {
  if (watches() && !loss_ && now - looked_at_ >= pause_ / 2) look(now);
}

void Heartbeat::look(Clock::time_point now) {
  // This process was stopped or got no time itself: what it has not heard meanwhile says nothing of others.
  if (now - looked_at_ > limit_ / 4) heard_at_ = now;
  looked_at_ = now;
  int flag = 0;
  while (!is_last_heard_ && MPI_Test(&hearing_, &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && flag) {
    heard_at_ = now;
    is_last_heard_ = heard_.is_last != 0;
    if (!is_last_heard_) listen();
  }
  if (MPI_Test(&news_coming_, &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && flag) {
    loss_ = news_.data();
    return;
  }
  if (now - sent_at_ >= limit_ / 20) {
    send(false);
    sent_at_ = now;
  }
  if (is_last_heard_ || now - heard_at_ <= limit_) return;
  loss_ = fmt::format("nothing from rank {} ({}) for {:g} s", before_, host_,
                      std::chrono::duration<double>(limit_).count());
  tell_all();
}

bool Heartbeat::end() {
  if (loss_) return false;
  if (!watches()) {
    MPI_Comm_free(&group_);
    return true;
  }
  MPI_Request all = MPI_REQUEST_NULL;
  MPI_Ibarrier(group_, &all);
  int have_come = 0, is_sent = 0;
  for (auto rest = 1ms; have_come == 0; rest = std::min<std::chrono::milliseconds>(2 * rest, 8ms)) {
    MPI_Test(&all, &have_come, MPI_STATUS_IGNORE);
    if (have_come) break;
    look(Clock::now());
    if (loss_) return false;
    std::this_thread::sleep_for(rest);
  }
  // Each is told by the one before it that nothing more comes.
  const auto until = Clock::now() + limit_;
  while (!is_last_heard_ || !is_sent) {
    send(true);
    MPI_Test(&sending_, &is_sent, MPI_STATUS_IGNORE);
    is_sent = is_sent && sent_.is_last;
    look(Clock::now());
    if (loss_ || Clock::now() > until) return false;
    std::this_thread::sleep_for(1ms);
  }
  MPI_Cancel(&news_coming_);
  MPI_Wait(&news_coming_, MPI_STATUS_IGNORE);
  MPI_Comm_free(&group_);
  return true;
}

}  // namespace halfstep::mpi
