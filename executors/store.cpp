#include "executors/store.h"

#include <cstring>

#include "graph/error.h"

namespace halfstep {
namespace {

void require_same_type(std::string_view name, const Tensor& have, const Tensor& given) {
  if (have.dtype() == given.dtype() && have.shape() == given.shape()) return;
  throw_input_error(
      "state '" + std::string(name) + "' as " + std::string(name_of(have.dtype())) + have.shape().to_string(),
      std::string(name_of(given.dtype())) + given.shape().to_string(), "use the state of the same model");
}

}  // namespace

std::vector<std::string> HostStore::names() const {
  std::vector<std::string> result;
  for (const auto& [name, tensor] : tensors_) result.push_back(name);
  return result;
}

bool HostStore::has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }

Tensor HostStore::read(std::string_view name) const {
  auto it = tensors_.find(name);
  if (it == tensors_.end())
    throw_input_error("the name of a state", "'" + std::string(name) + "'", "see StateStore::names");
  return it->second.clone();
}

void HostStore::write(std::string_view name, const Tensor& value) {
  auto it = tensors_.find(name);
  if (it == tensors_.end())
    throw_input_error("the name of a state", "'" + std::string(name) + "'", "see StateStore::names");
  require_same_type(name, it->second, value);
  if (value.bytes() > 0) std::memcpy(it->second.raw(), value.raw(), value.bytes());
}

Tensor HostStore::bind(const std::string& name, const Tensor& initial) {
  auto [it, is_new] = tensors_.try_emplace(name);
  if (is_new)
    it->second = initial.clone();
  else
    require_same_type(name, it->second, initial);
  return it->second;
}

}  // namespace halfstep
