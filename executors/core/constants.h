// Constants of programs, which are kept once however many programs have them: those for other batch sizes do.
#pragma once

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include <halfstep/executors/core/kernel.h>
#include <halfstep/graph/tensor.h>

namespace halfstep::core {

class Device;

/// Holds nothing by itself: what no program has any more is gone. May be used by several threads.
class Constants {
 public:
  /// For all programs of this process.
  static Constants& of_process();

  /// The tensor of these elements that a program has; `tensor` where there is none. Small ones are not looked for.
  std::shared_ptr<Tensor> shared(const Tensor& tensor);

  /// A copy of `shared(…)` as `copy` says, which `make` makes where there is none on that device.
  std::shared_ptr<void> copied(const Tensor& source, const Device& device, const Operand& copy,
                               const std::function<std::shared_ptr<void>()>& make);

 private:
  struct Copy {
    const Device* device;
    Operand as;
    std::weak_ptr<void> memory;
  };
  struct Known {
    std::weak_ptr<Tensor> tensor;
    std::list<Copy> copies;
  };
  using Kind = std::pair<DType, std::size_t>;  // of the type and of so many bytes

  Known* find(const Tensor& tensor);
  void forget_the_gone();

  std::mutex mutex_;
  std::multimap<Kind, Known> known_;
};

}  // namespace halfstep::core
