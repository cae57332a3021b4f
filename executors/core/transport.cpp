#include "executors/core/transport.h"

#include <cstring>
#include <utility>

#include "executors/core/turns.h"

namespace halfstep::core {
Transport::Transport(std::shared_ptr<Communicator> ranks, Device& device) : ranks_(std::move(ranks)), device_(device) {
  if (const std::optional<DeviceStream> stream = device_.stream()) on_stream_ = ranks_->on_stream(*stream);
}

std::shared_ptr<StreamRanks> Transport::stream_of(const std::shared_ptr<Transport>& transport) {
  return transport ? std::shared_ptr<StreamRanks>(transport, transport->on_stream_.get()) : nullptr;
}

Operand Transport::read(KernelContext& context, std::size_t i) const {
  return on_stream_ ? context.read(i, Layout()) : context.read_on_host(i);
}

Operand Transport::write(KernelContext& context, std::size_t i) const {
  return on_stream_ ? context.write(i, Layout()) : context.write_on_host(i);
}

std::unique_ptr<AllReduce> Transport::make_all_reduce(void* data, std::size_t count, DType dtype) const {
  return on_stream_ ? on_stream_->make_all_reduce(data, count, dtype, Reduction::sum)
                    : ranks_->make_all_reduce(data, count, dtype, Reduction::sum);
}

void Transport::start(AllReduce& reduction) const {
  const Turns::Pause pause(!on_stream_);
  reduction.start();
}

void Transport::wait(AllReduce& reduction) const {
  const Turns::Pause pause(!on_stream_);
  reduction.wait();
}

void Transport::settle() const {
  if (!on_stream_) device_.wait();
}

void Transport::copy(void* to, const void* from, std::size_t bytes) const {
  if (bytes == 0) return;
  on_stream_ ? device_.copy(to, from, bytes) : static_cast<void>(std::memcpy(to, from, bytes));
}

void Transport::all_gather(const void* from, void* to, std::size_t bytes) const {
  const Turns::Pause pause(!on_stream_);
  on_stream_ ? on_stream_->all_gather(from, to, bytes) : ranks_->all_gather(from, to, bytes);
}

}  // namespace halfstep::core
