#include "training/whole_state.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <utility>

#include <nlohmann/json.hpp>

#include "distributed/gather.h"
#include "distributed/shared_errors.h"
#include "training/ranks.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr std::int64_t kDone = -1;

std::string text_of(const std::vector<OwnedState>& states) {
  nlohmann::json list = nlohmann::json::array();
  for (const OwnedState& state : states)
    list.push_back({{"key", state.type.name},
                    {"dtype", static_cast<int>(state.type.dtype)},
                    {"shape", std::vector<std::int64_t>(state.type.shape.begin(), state.type.shape.end())},
                    {"role", static_cast<int>(state.role)}});
  return list.dump();
}

}  // namespace

std::vector<OwnedState> states_of_ranks(Communicator& ranks, const std::vector<OwnedState>& own) {
  std::map<std::string, OwnedState> all;
  const std::vector<std::string> texts = gather(ranks, text_of(own));
  for (std::size_t rank = 0; rank < texts.size(); ++rank) {
    const nlohmann::json list = nlohmann::json::parse(texts[rank]);
    for (const nlohmann::json& one : list) {
      const std::string key = one.at("key");
      all.try_emplace(key, OwnedState{.type = {key, static_cast<DType>(one.at("dtype").get<int>()),
                                               Shape(one.at("shape").get<std::vector<std::int64_t>>())},
                                      .role = static_cast<StateRole>(one.at("role").get<int>()),
                                      .owner = static_cast<int>(rank),
                                      .ranks = 0});
      ++all.at(key).ranks;
    }
  }
  for (const OwnedState& state : own) all.at(state.type.name).name = state.name;
  std::vector<OwnedState> result;
  for (auto& [key, state] : all) result.push_back(std::move(state));
  return result;
}

void StateReading::lead(const std::function<void(const LazyTensors&)>& use) {
  LazyTensors tensors;
  for (const OwnedState& state : states_) tensors.types.push_back(state.type);
  tensors.read = [this](const std::string& key) {
    const auto at = std::ranges::find(states_, key, [](const OwnedState& state) { return state.type.name; });
    if (!at->name.empty()) return store_.read(at->name);
    Tensor tensor(at->type.dtype, at->type.shape);  // first: where it lacks memory, the others are told nothing
    try {
      std::int64_t number = at - states_.begin();
      ranks_.broadcast(&number, sizeof number, 0);
      share(static_cast<std::size_t>(number), tensor);
    } catch (const Error& error) {
      throw of_rank(ranks_.rank(), error);
    } catch (const std::exception& error) {  // memory, too: the others have been told what comes
      throw of_rank(ranks_.rank(), Error(Error::Kind::failure, "the states of all ranks", error.what(), ""));
    }
    return tensor;
  };
  const auto end = [&] {
    std::int64_t done = kDone;
    ranks_.broadcast(&done, sizeof done, 0);
  };
  try {
    use(tensors);
  } catch (const SharedError&) {
    throw;  // the others are not there
  } catch (...) {
    end();
    throw;
  }
  end();
}

void StateReading::follow() {
  for (std::int64_t wanted = 0;;) {
    ranks_.broadcast(&wanted, sizeof wanted, 0);
    if (wanted == kDone) return;
    const auto i = static_cast<std::size_t>(wanted);
    const OwnedState& state = states_.at(i);
    Tensor tensor = ranks_.rank() == state.owner ? store_.read(state.name) : Tensor(state.type.dtype, state.type.shape);
    share(i, tensor);
  }
}

void StateReading::share(std::size_t i, Tensor& to) { broadcast(ranks_, to, states_.at(i).owner); }

}  // namespace halfstep
