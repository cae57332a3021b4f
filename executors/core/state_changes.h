// What a program does to the states of its store, and what others did: which copies are to be made anew.
#pragma once

#include <vector>

#include <halfstep/executors/core/store.h>
#include <halfstep/graph/graph.h>

namespace halfstep::core {

/// To be told of each run of a program.
class StateChanges {
 public:
  explicit StateChanges(Store& store) : store_(&store) {}

  void add(const State& state, Store::Entry& entry);

  /// Makes copies anew whose sources others have changed.
  void before_run();
  void after_run();

 private:
  Store* store_;
  std::vector<Store::Entry*> changed_, copies_, written_copies_;
};

}  // namespace halfstep::core
