#include "tests/executors/cudnn/emulation/generated.h"

#include <algorithm>
#include <cstddef>
#include <map>
#include <new>
#include <optional>
#include <utility>

#include "tests/executors/cudnn/emulation/built_kernel.h"
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include <halfstep/base/error.h>

namespace emulation {
namespace {

using halfstep::cudnn::KernelText;
using halfstep::cudnn::LoadedKernel;

/// Built when it is launched first: many a test only plans.
class HostKernel final : public LoadedKernel {
 public:
  explicit HostKernel(KernelText kernel) : text_(std::move(kernel)) {}

  void launch(unsigned blocks, unsigned threads, std::span<const std::byte> argument,
              cudaStream_t stream) const override {
    if (fails("launch") || (is_capturing() && fails("captured launch")))
      halfstep::throw_failure("cuLaunchKernel to succeed on the GPU", refusal(), "");
    if (is_capturing() && fails("captured allocation")) throw std::bad_alloc();
    if (machine().most_blocks > 0) blocks = std::min(blocks, machine().most_blocks);
    if (blocks == 0 || threads == 0 || threads > 1024 || argument.size() > 4096)
      return refuse("a grid or an argument that no device takes");
    if (!built_) built_.emplace(text_);
    submit(stream, [this, blocks, threads, bytes = std::vector<std::byte>(argument.begin(), argument.end())] {
      take_time("generated");
      built_->run({blocks, threads}, bytes.data());
    });
  }

 private:
  KernelText text_;
  mutable std::optional<BuiltKernel> built_;
};

/// Kept for the process: compiling takes longer than everything else.
std::map<std::string, std::shared_ptr<const HostKernel>>& loaded() {
  static std::map<std::string, std::shared_ptr<const HostKernel>> all;
  return all;
}

}  // namespace

std::shared_ptr<const LoadedKernel> load_on_host(const KernelText& kernel) {
  auto& known = loaded()[kernel.name + '\n' + kernel.text];
  if (!known) known = std::make_shared<const HostKernel>(kernel);
  return known;
}

namespace {
std::map<std::string, KernelText>& asked_for() {
  static std::map<std::string, KernelText> all;
  return all;
}
}  // namespace

std::vector<KernelText> executor_texts() {
  std::vector<KernelText> texts;
  for (const auto& [_, text] : asked_for()) texts.push_back(text);
  return texts;
}
void forget_texts() { asked_for().clear(); }

}  // namespace emulation

namespace halfstep::cudnn {

std::string generation_refusal() {
  return emulation::machine().can_compile ? "" : "kernels are not generated: the machine was told so";
}
std::shared_ptr<const LoadedKernel> load_kernel(const KernelText& kernel, int) {
  if (emulation::fails("compile")) throw_failure("NVRTC to take the kernel", emulation::refusal(), "");
  emulation::asked_for().try_emplace(kernel.name + '\n' + kernel.text, kernel);
  return emulation::load_on_host(kernel);
}

}  // namespace halfstep::cudnn
