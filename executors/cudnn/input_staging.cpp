#include "executors/cudnn/input_staging.h"

#include "executors/cudnn/resources.h"

namespace halfstep::cudnn {
namespace {

class InputStaging final : public core::Staging {
 public:
  InputStaging(const std::vector<core::StagedInput>& inputs, core::Device& device, cudaStream_t stream)
      : inputs_(inputs), stream_(stream), copies_(make_stream()), given_(make_event()), taken_(make_event()) {
    for (const core::StagedInput& input : inputs_)
      between_.push_back(device.allocate(input.bytes, core::Space::device));
    note_taken();  // the zeros that new memory is filled with are written in the order of the program's stream
  }
  ~InputStaging() override { cudaStreamSynchronize(copies_.get()); }
  InputStaging(const InputStaging&) = delete;
  InputStaging& operator=(const InputStaging&) = delete;

  void give(std::size_t place) override {
    check(cudaStreamWaitEvent(copies_.get(), taken_.get(), 0), "cudaStreamWaitEvent");
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      copy(between_[i].get(), inputs_[i].host.at(place), inputs_[i].bytes, cudaMemcpyHostToDevice, copies_.get());
    check(cudaEventRecord(given_.get(), copies_.get()), "cudaEventRecord");
  }

  void take() override {
    check(cudaStreamWaitEvent(stream_, given_.get(), 0), "cudaStreamWaitEvent");
    for (std::size_t i = 0; i < inputs_.size(); ++i)
      copy(inputs_[i].target, between_[i].get(), inputs_[i].bytes, cudaMemcpyDeviceToDevice, stream_);
    note_taken();
  }

 private:
  static void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    check(cudaMemcpyAsync(to, from, bytes, kind, stream), "cudaMemcpyAsync");
  }
  void note_taken() const { check(cudaEventRecord(taken_.get(), stream_), "cudaEventRecord"); }

  std::vector<core::StagedInput> inputs_;
  cudaStream_t stream_;  // of the program
  Stream copies_;
  Event given_, taken_;
  std::vector<std::shared_ptr<void>> between_;
};

}  // namespace

std::unique_ptr<core::Staging> make_input_staging(const std::vector<core::StagedInput>& inputs, core::Device& device,
                                                  cudaStream_t stream) {
  return std::make_unique<InputStaging>(inputs, device, stream);
}

}  // namespace halfstep::cudnn
