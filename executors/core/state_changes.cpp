#include "executors/core/state_changes.h"

namespace halfstep::core {

void StateChanges::add(const State& state, Store::Entry& entry) {
  const bool moves = state.next != kNoValue && state.next != state.value;
  if (entry.source) copies_.push_back(&entry);
  if (moves) (entry.source ? written_copies_ : changed_).push_back(&entry);
}

void StateChanges::before_run() {
  for (Store::Entry* copy : copies_) store_->renew(*copy);
  for (Store::Entry* entry : changed_) ++entry->version;  // also where the run fails
}

void StateChanges::after_run() {
  for (Store::Entry* copy : written_copies_) copy->version = copy->source->version;
}

}  // namespace halfstep::core
