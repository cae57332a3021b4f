#include <halfstep/distributed/communicator.h>

namespace halfstep {

void AllReduce::start() {
  if (is_under_way_)
    throw_failure("an all-reduce that is awaited before it is started again",
                  "one that is under way: an error has ended the step between the two",
                  "compile the step anew on all ranks");
  do_start();
  is_under_way_ = true;
}

void AllReduce::wait() {
  if (!is_under_way_) throw_failure("an all-reduce that is started before it is awaited", "one that is not", "");
  is_under_way_ = false;
  do_wait();
}

}  // namespace halfstep
