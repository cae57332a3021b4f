#include "executors/cudnn/program.h"

#include <cstring>

#include "graph/error.h"

namespace halfstep::cudnn {
namespace {

std::size_t bytes_of_value(const Value& v) { return bytes_of(v.dtype, static_cast<std::size_t>(v.shape.count())); }

/// A zero-filled tensor in page-locked memory.
Tensor pinned_tensor(DType dtype, const Shape& shape) {
  const std::size_t bytes = bytes_of(dtype, static_cast<std::size_t>(shape.count()));
  auto memory = std::make_shared<PinnedPointer>(make_pinned(bytes));
  void* p = memory->get();
  std::memset(p, 0, bytes);
  return Tensor::view(dtype, shape, p, std::move(memory));
}

}  // namespace

DeviceProgram::DeviceProgram(const Graph& graph, std::shared_ptr<const Libraries> libraries, DeviceStore& store,
                             Schedule schedule, std::vector<DeviceKernel> kernels, Plan plan)
    : graph_(graph),
      libraries_(std::move(libraries)),
      schedule_(std::move(schedule)),
      kernels_(std::move(kernels)),
      launches_(graph.nodes.size()),
      calls_(graph.nodes.size()),
      plan_(std::move(plan)),
      arena_(schedule_.arena_bytes) {
  make_host_tensors();
  upload_constants();
  bind_states(store);
  bind_kernels();
  plan_.arena_bytes = schedule_.arena_bytes;
  if (!schedule_.all_on_device)
    plan_.notes.emplace_back(
        "some nodes run in reference kernels on the host: the step is not captured as a CUDA graph");
}

void* DeviceProgram::address(ValueId v) const {
  const Location& where = schedule_.values[static_cast<std::size_t>(v)];
  switch (where.kind) {
    case Location::Kind::none:
      return nullptr;
    case Location::Kind::arena:
      return arena_.get() + where.offset;
    case Location::Kind::state:
      return states_[static_cast<std::size_t>(where.index)];
    case Location::Kind::constant:
      return constants_.get() + constant_offsets_[static_cast<std::size_t>(where.index)];
  }
  return nullptr;
}

void DeviceProgram::make_host_tensors() {
  host_.resize(graph_.values.size());
  for (std::size_t v = 0; v < host_.size(); ++v) {
    const Value& value = graph_.values[v];
    if (value.is_constant())
      host_[v] = value.constant;
    else if (schedule_.on_host[v] && value.shape.is_static())
      host_[v] =
          value.dtype == DType::string ? Tensor(value.dtype, value.shape) : pinned_tensor(value.dtype, value.shape);
  }
}

void DeviceProgram::upload_constants() {
  constant_offsets_.assign(graph_.values.size(), 0);
  std::size_t total = 0;
  const auto is_uploaded = [&](std::size_t v) {
    const Location& where = schedule_.values[v];
    return where.kind == Location::Kind::constant && where.index == static_cast<std::int32_t>(v);
  };
  for (std::size_t v = 0; v < graph_.values.size(); ++v) {
    if (!is_uploaded(v)) continue;
    constant_offsets_[v] = total;
    total += (graph_.values[v].constant.bytes() + 255) / 256 * 256;
  }
  constants_ = DeviceBuffer(total);
  const cudaStream_t stream = libraries_->stream.get();
  for (std::size_t v = 0; v < graph_.values.size(); ++v) {
    if (!is_uploaded(v)) continue;
    const Tensor& constant = graph_.values[v].constant;
    check(cudaMemcpyAsync(constants_.get() + constant_offsets_[v], constant.raw(), constant.bytes(),
                          cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
  }
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

void DeviceProgram::bind_states(DeviceStore& store) {
  for (const State& state : graph_.states) {
    states_.push_back(store.bind(graph_[state.value].name, state.initial));
    plan_.state_bytes += state.initial.bytes();
  }
}

void DeviceProgram::bind_kernels() {
  for (const Step& step : schedule_.steps) {
    const auto n = static_cast<std::size_t>(step.index);
    if (step.kind == Step::Kind::launch) {
      const Node& node = graph_.nodes[n];
      Launch& launch = launches_[n];
      launch.stream = libraries_->stream.get();
      for (ValueId v : node.inputs) launch.in.push_back(v == kNoValue ? nullptr : address(v));
      for (ValueId v : node.outputs) launch.out.push_back(v == kNoValue ? nullptr : address(v));
      launch.scratch = arena_.get() + schedule_.scratch_offsets[n];
    } else if (step.kind == Step::Kind::call) {
      const Node& node = graph_.nodes[n];
      calls_[n].kernel = find_op(node.op, node.domain)->reference;
      calls_[n].in.resize(node.inputs.size());
      calls_[n].out.resize(node.outputs.size());
    }
  }
}

void DeviceProgram::call_reference(std::size_t n) {
  const Node& node = graph_.nodes[n];
  HostCall& call = calls_[n];
  check(cudaStreamSynchronize(libraries_->stream.get()), "cudaStreamSynchronize");
  for (std::size_t i = 0; i < node.inputs.size(); ++i)
    if (node.inputs[i] != kNoValue) call.in[i] = host_tensor(node.inputs[i]);
  for (std::size_t i = 0; i < node.outputs.size(); ++i)
    if (node.outputs[i] != kNoValue) {
      call.out[i] = host_tensor(node.outputs[i]);
      // Reference kernels may count on zeros.
      if (call.out[i].dtype() != DType::string && call.out[i].bytes() > 0)
        std::memset(call.out[i].raw(), 0, call.out[i].bytes());
    }
  KernelCall arguments{node, call.in, call.out};
  call.kernel(arguments);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i] == kNoValue) continue;
    Tensor& kept = host_tensor(node.outputs[i]);
    // A kernel may have put a tensor of its own in the place of the one it was given.
    if (graph_[node.outputs[i]].shape.is_static() && kept.dtype() != DType::string) {
      if (kept.raw() != call.out[i].raw() && kept.bytes() > 0) std::memcpy(kept.raw(), call.out[i].raw(), kept.bytes());
    } else {
      kept = call.out[i];
    }
  }
}

void DeviceProgram::enqueue(const Step& step) {
  const cudaStream_t stream = libraries_->stream.get();
  const auto copy = [&](void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    check(cudaMemcpyAsync(to, from, bytes, kind, stream), "cudaMemcpyAsync");
  };
  const auto index = static_cast<std::size_t>(step.index);
  switch (step.kind) {
    case Step::Kind::upload:
      return copy(address(step.index), host_[index].raw(), host_[index].bytes(), cudaMemcpyHostToDevice);
    case Step::Kind::download:
      return copy(host_[index].raw(), address(step.index), host_[index].bytes(), cudaMemcpyDeviceToHost);
    case Step::Kind::launch:
      return kernels_[index].launch(launches_[index]);
    case Step::Kind::call:
      return call_reference(index);
    case Step::Kind::stage:
    case Step::Kind::move: {
      const State& state = graph_.states[index];
      const std::size_t bytes = bytes_of_value(graph_[state.value]);
      void* const next = address(state.next);
      void* const staged = arena_.get() + schedule_.stage_offsets[index];
      // A next value that lies in a state's memory was staged.
      const bool was_staged = schedule_.values[static_cast<std::size_t>(state.next)].kind == Location::Kind::state;
      if (step.kind == Step::Kind::stage) return copy(staged, next, bytes, cudaMemcpyDeviceToDevice);
      return copy(states_[index], was_staged ? staged : next, bytes, cudaMemcpyDeviceToDevice);
    }
  }
}

void DeviceProgram::run() {
  const cudaStream_t stream = libraries_->stream.get();
  if (captured_) {
    check(cudaGraphLaunch(captured_.get(), stream), "cudaGraphLaunch");
  } else {
    for (const Step& step : schedule_.steps) enqueue(step);
  }
  check(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  if (!tried_capture_ && schedule_.all_on_device) capture();
}

void DeviceProgram::capture() {
  tried_capture_ = true;
  const cudaStream_t stream = libraries_->stream.get();
  const auto give_up = [&](const char* call, const std::string& why) {
    cudaGetLastError();  // what went wrong here must not be taken for an error of the next call
    plan_.notes.push_back("the step is launched kernel by kernel: " + std::string(call) + " gave " + why);
  };
  cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (status != cudaSuccess) return give_up("cudaStreamBeginCapture", text_of(status));
  std::string failed;
  try {
    for (const Step& step : schedule_.steps) enqueue(step);
  } catch (const Error& e) {
    failed = e.found();
  }
  cudaGraph_t graph = nullptr;
  status = cudaStreamEndCapture(stream, &graph);  // ends the capture even when a call in it failed
  const CapturedGraph owned(graph);
  if (!failed.empty()) return give_up("a call under capture", failed);
  if (status != cudaSuccess) return give_up("cudaStreamEndCapture", text_of(status));
  cudaGraphExec_t exec = nullptr;
  status = cudaGraphInstantiate(&exec, graph, 0);
  if (status != cudaSuccess) return give_up("cudaGraphInstantiate", text_of(status));
  captured_ = GraphExec(exec);
  plan_.notes.emplace_back("the step is one launch of a captured CUDA graph");
}

}  // namespace halfstep::cudnn
