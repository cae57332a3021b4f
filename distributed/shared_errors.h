// What ranks are called, and the errors that a communicator throws on all of them, whatever it is made of.
#pragma once

#include <chrono>
#include <string>

#include <halfstep/base/api.h>
#include <halfstep/base/error.h>
#include <halfstep/distributed/communicator.h>

namespace HALFSTEP_API halfstep {

/// "rank 3 (node7, pid 4711)": this process, for others to tell of.
std::string name_of_own_process(int rank);

/// "1.5 s"
std::string seconds_text(std::chrono::milliseconds limit);

/// An error that a rank has met, with its number; one that is shared already as it is.
SharedError of_rank(int rank, const Error& error);

/// `missing`: "rank 3 (node7, pid 4711), which has left".
SharedError rank_has_left(const std::string& missing);
SharedError operation_given_up();
/// Some rank did not come within the time limit of a call.
SharedError no_answer(std::chrono::milliseconds limit);
/// `silent`: the name of a rank of which nothing was heard for so long.
SharedError no_sign_of_life(const std::string& silent, std::chrono::milliseconds limit);

}  // namespace halfstep
