#include "executors/core/constants.h"

namespace halfstep::core {
namespace {

constexpr std::size_t kSmall = 1024;  // more is spent on looking for one than it takes

bool is_looked_for(const Tensor& tensor) {
  return tensor.is_defined() && tensor.dtype() != DType::string && tensor.bytes() >= kSmall;
}

}  // namespace

Constants& Constants::of_process() {
  static Constants constants;
  return constants;
}

std::shared_ptr<Tensor> Constants::shared(const Tensor& tensor) {
  if (!is_looked_for(tensor)) return std::make_shared<Tensor>(tensor);
  const std::lock_guard lock(mutex_);
  const auto [first, last] = known_.equal_range({tensor.dtype(), tensor.bytes()});
  for (auto at = first; at != last; ++at)
    if (std::shared_ptr<Tensor> known = at->second.tensor.lock())
      if (known->shape() == tensor.shape() && (known->raw() == tensor.raw() || identical(*known, tensor))) return known;
  forget_the_gone();
  auto own = std::make_shared<Tensor>(tensor);
  known_.insert({{tensor.dtype(), tensor.bytes()}, {own, {}}});
  return own;
}

std::shared_ptr<void> Constants::copied(const Tensor& source, const Device& device, const Operand& copy,
                                        const std::function<std::shared_ptr<void>()>& make) {
  if (!is_looked_for(source)) return make();
  const auto is_wanted = [&](const Copy& other) {
    return other.device == &device && other.as.dtype == copy.dtype && other.as.shape == copy.shape &&
           other.as.layout == copy.layout && other.as.layout.dims() == copy.layout.dims() &&
           other.as.space == copy.space;
  };
  const auto existing = [&]() -> std::shared_ptr<void> {
    if (const Known* known = find(source))
      for (const Copy& other : known->copies)
        if (is_wanted(other))
          if (std::shared_ptr<void> memory = other.memory.lock()) return memory;
    return nullptr;
  };
  {
    const std::lock_guard lock(mutex_);
    if (std::shared_ptr<void> memory = existing()) return memory;
  }
  std::shared_ptr<void> made = make();  // meanwhile other threads look for theirs, and one may make the same
  const std::lock_guard lock(mutex_);
  if (std::shared_ptr<void> memory = existing()) return memory;
  if (Known* known = find(source)) {
    std::erase_if(known->copies, [](const Copy& other) { return other.memory.expired(); });
    known->copies.push_back({&device, copy, made});
  }
  return made;
}

Constants::Known* Constants::find(const Tensor& tensor) {
  const auto [first, last] = known_.equal_range({tensor.dtype(), tensor.bytes()});
  for (auto at = first; at != last; ++at)
    if (const std::shared_ptr<Tensor> known = at->second.tensor.lock();
        known && known->raw() == tensor.raw() && known->shape() == tensor.shape())
      return &at->second;
  return nullptr;
}

void Constants::forget_the_gone() {
  std::erase_if(known_, [](const auto& known) { return known.second.tensor.expired(); });
}

}  // namespace halfstep::core
