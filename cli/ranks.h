// A command that several ranks carry out together.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <halfstep/distributed/communicator.h>
#include <halfstep/training/options.h>

namespace halfstep::cli {

/// --distributed, --bucket-size, --sync-batchnorm, --distributed-timeout, --heartbeat-timeout.
struct RankFlags {
  std::string distributed = "auto";
  double bucket_size = static_cast<double>(RankOptions().bucket_bytes) / 1e6;
  double timeout = 300, heartbeat = 20;
  bool sync_batchnorm = false;

  /// `training`: a flag without which those are refused; nullptr: a command that trains.
  void add_to(CLI::App& command, CLI::Option* training = nullptr);
  /// Null: a run by itself. `json` as for `on_rank`, for a rank that is lost while this one computes. `device`: that of
  /// --device.
  std::shared_ptr<Communicator> open(bool json, const std::string& device) const;
  std::size_t bucket_bytes() const { return static_cast<std::size_t>(bucket_size * 1e6); }
};

/// `work`, which returns an exit code, as what one of the ranks does: only rank 0 prints, and an error ends all of
/// them, told once and with the rank that it comes from, where it is of one. `json`: also as the document that standard
/// output lacks then.
int on_rank(Communicator& ranks, bool json, const std::function<int()>& work);

/// To be called before an error of the call is told: a rank but the first waits, since the first finds the same where
/// it was called alike, tells it, and so ends them all.
void let_first_rank_tell(const std::vector<std::string>& arguments);

}  // namespace halfstep::cli
