#include "distributed/gather.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <halfstep/base/error.h>

namespace halfstep {
namespace {

constexpr const char* kAbsent = "none";

/// The length of the description, the description as JSON, the elements.
std::string packed(const NamedTensors& tensors) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [name, tensor] : tensors)
    list.push_back({{"name", name},
                    {"dtype", static_cast<int>(tensor.dtype())},
                    {"shape", std::vector<std::int64_t>(tensor.shape().begin(), tensor.shape().end())}});
  const std::string description = list.dump();
  const std::uint64_t length = description.size();
  std::string text(reinterpret_cast<const char*>(&length), sizeof length);
  text += description;
  for (const auto& [name, tensor] : tensors) text.append(static_cast<const char*>(tensor.raw()), tensor.bytes());
  return text;
}

NamedTensors unpacked(const std::string& text) {
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  const char* elements = text.data() + sizeof length + length;
  const nlohmann::json list = nlohmann::json::parse(text.data() + sizeof length, elements);
  NamedTensors tensors;
  for (const nlohmann::json& one : list) {
    Tensor tensor(static_cast<DType>(one.at("dtype").get<int>()),
                  Shape(one.at("shape").get<std::vector<std::int64_t>>()));
    if (tensor.bytes() > 0) std::memcpy(tensor.raw(), elements, tensor.bytes());
    elements += tensor.bytes();
    tensors[one.at("name").get<std::string>()] = std::move(tensor);
  }
  return tensors;
}

std::string value_of(const std::map<std::string, std::string>& values, const std::string& key) {
  const auto at = values.find(key);
  return at == values.end() ? kAbsent : at->second;
}

}  // namespace

std::vector<std::string> gather(Communicator& ranks, const std::string& text) {
  const auto size = static_cast<std::size_t>(ranks.size());
  std::vector<std::int64_t> lengths(size);
  const auto own = static_cast<std::int64_t>(text.size());
  ranks.all_gather(&own, lengths.data(), sizeof own);
  const auto longest = static_cast<std::size_t>(*std::ranges::max_element(lengths));
  std::string padded = text, all(size * longest, '\0');
  padded.resize(longest);
  if (longest > 0) ranks.all_gather(padded.data(), all.data(), longest);
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < size; ++rank)
    texts.push_back(all.substr(rank * longest, static_cast<std::size_t>(lengths[rank])));
  return texts;
}

std::vector<NamedTensors> gather(Communicator& ranks, const NamedTensors& tensors) {
  std::vector<NamedTensors> result;
  for (const std::string& text : gather(ranks, packed(tensors))) result.push_back(unpacked(text));
  return result;
}

void require_same(Communicator& ranks, const std::map<std::string, std::string>& values) {
  std::vector<std::map<std::string, std::string>> all;
  for (const std::string& text :
       gather(ranks, nlohmann::json(values).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)))
    all.push_back(nlohmann::json::parse(text).get<std::map<std::string, std::string>>());
  std::map<std::string, std::string> keys;
  for (const auto& one : all) keys.insert(one.begin(), one.end());
  for (const auto& [key, unused] : keys)
    for (std::size_t rank = 1; rank < all.size(); ++rank)
      if (const std::string first = value_of(all[0], key), other = value_of(all[rank], key); first != other)
        throw SharedError(Error::Kind::input, fmt::format("the same {} on all ranks", key),
                          fmt::format("{} on rank 0 and {} on rank {}", first, other, rank),
                          "start all ranks with the same call, files and version");
}

}  // namespace halfstep
