// Plans that have been made, so that layers that are alike are planned once.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "executors/cudnn/operation_graph.h"
#include "executors/cudnn/resources.h"
#include <halfstep/base/error.h>

namespace halfstep::cudnn {

/// What can compute a graph, best first.
struct Plans {
  std::vector<ExecutionPlan> list;
  std::string refusal;  ///< what cuDNN says against the graph; empty where it takes it, even if nothing computes it
};

/// Of one device; threads may share it.
class PlanCache {
 public:
  /// What `make` gave for the key when it was asked first. An Error of it counts as no plans.
  template <class F>
  const Plans& get(const std::string& key, F&& make) {
    const std::lock_guard lock(mutex_);
    const auto [entry, is_new] = known_.try_emplace(key);
    if (is_new) {
      try {
        entry->second.list = make();
      } catch (const Error& e) {
        entry->second.refusal = e.without_hint();
      }
    }
    return entry->second;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Plans> known_;
};

inline PlanTarget plan_target(const Libraries& libraries) { return {libraries.cudnn.get(), libraries.properties}; }

}  // namespace halfstep::cudnn
