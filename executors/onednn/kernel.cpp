#include "executors/onednn/kernel.h"

namespace halfstep::onednn {
namespace {

// The C++ interface takes a map and copies it in every call; the C one takes what was prepared.
class PrimitiveRun {
 public:
  PrimitiveRun(dnnl::primitive primitive, const std::vector<Argument>& arguments, const Memory& memory)
      : primitive_(std::move(primitive)), stream_(engine()) {
    for (const Argument& a : arguments) {
      if (a.buffer == kNoBuffer || !a.desc.get(true) || a.desc.get_ndims() == 0) continue;
      memories_.emplace_back(a.desc, engine(), static_cast<std::byte*>(memory.at(a.buffer)) + a.offset);
      arguments_.push_back({a.index, memories_.back().get()});
    }
  }

  void operator()() const {
    dnnl::error::wrap_c_api(
        dnnl_primitive_execute(primitive_.get(), stream_.get(), static_cast<int>(arguments_.size()), arguments_.data()),
        "could not execute a primitive");
  }

 private:
  dnnl::primitive primitive_;
  dnnl::stream stream_;
  std::vector<dnnl::memory> memories_;
  std::vector<dnnl_exec_arg_t> arguments_;
};

}  // namespace

Bind bind_primitive(dnnl::primitive primitive, std::vector<Argument> arguments) {
  return [primitive = std::move(primitive), arguments = std::move(arguments)](const Memory& memory) -> Run {
    return PrimitiveRun(primitive, arguments, memory);
  };
}

}  // namespace halfstep::onednn
