// Small graphs, and devices to run them on.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <halfstep/executors/core/backend.h>
#include <halfstep/graph/graph.h>

namespace halfstep::core {

inline const Shape kShape{8, 8};  // 256 bytes of f32

/// A node with one output of kShape.
inline ValueId add(Graph& g, std::vector<ValueId> in, std::string_view op = "Relu") {
  const std::size_t n = g.add_node(op, kOnnxDomain, std::move(in), 1);
  const ValueId out = g.nodes[n].outputs[0];
  g[out].dtype = DType::f32;
  g[out].shape = kShape;
  return out;
}
inline ValueId input(Graph& g, std::string_view name = "x") { return g.add_input(name, DType::f32, kShape); }
inline ValueId state(Graph& g, std::string_view name) {
  return g.add_state(name, Tensor(DType::f32, kShape), StateRole::parameter);
}

/// A device whose addresses mean nothing to the host: what lies at one is kOffset bytes behind it. A kernel that takes
/// an address of the other space reads zeros, and what it writes is lost.
class ApartDevice : public Device {
 public:
  static constexpr std::size_t kOffset = std::size_t{1} << 20;
  template <class T>
  static T* real(T* address) {
    using Byte = std::conditional_t<std::is_const_v<T>, const std::byte, std::byte>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(address) + kOffset);
  }

  bool is_host() const override { return false; }
  bool holds(DType dtype) const override { return dtype == DType::f32; }
  std::shared_ptr<void> allocate(std::size_t bytes, Space space) override {
    return Device::allocate(space == Space::device ? bytes + kOffset : bytes, space);
  }
  void move(DType dtype, const Shape& shape, const Stored& from, const Stored& to) override {
    std::memcpy(at(to.data, to.space), at(from.data, from.space),
                bytes_of(dtype, static_cast<std::size_t>(shape.count())));
  }
  Made convert(const Operand& from, const Operand& to, const TakeScratch&) override {
    return {"copy", {}, [from, to](const Memory& memory) -> Run {
              return [a = at(memory.at(from), from.space), b = at(memory.at(to), to.space), bytes = from.bytes()] {
                std::memcpy(b, a, bytes);
              };
            }};
  }

 private:
  static void* at(void* address, Space space) {
    return space == Space::device ? static_cast<std::byte*>(address) + kOffset : address;
  }
};

/// Kernels of Relu, in place where that is possible, and Add, for the CPU and for ApartDevice.
template <bool is_apart>
float* floats(const Memory& memory, const Operand& operand) {
  float* address = memory.as<float>(operand);
  return is_apart ? ApartDevice::real(address) : address;
}

template <bool is_apart>
Made make_relu(KernelContext& context) {
  const Operand x = context.read(0, Layout()), y = context.write_over(0, x);
  return {"relu", {}, [=](const Memory& memory) -> Run {
            return [from = floats<is_apart>(memory, x), to = floats<is_apart>(memory, y), n = x.stored()] {
              for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] < 0 ? 0 : from[i];
            };
          }};
}

template <bool is_apart>
Made make_add(KernelContext& context) {
  if (context.in(0).shape != context.in(1).shape) return refuse("broadcasting");
  const Operand a = context.read(0, Layout()), b = context.read(1, Layout());
  const Operand y = context.write(0, Layout());
  const BufferId scratch = context.scratch(a.bytes());
  return {"add", {}, [=](const Memory& memory) -> Run {
            return [p = floats<is_apart>(memory, a), q = floats<is_apart>(memory, b), r = floats<is_apart>(memory, y),
                    s = is_apart ? ApartDevice::real(memory.as<float>(scratch)) : memory.as<float>(scratch),
                    n = a.stored()] {
              for (std::int64_t i = 0; i < n; ++i) s[i] = p[i] + q[i];
              for (std::int64_t i = 0; i < n; ++i) r[i] = s[i];
            };
          }};
}

inline std::unique_ptr<Executor> cpu_executor() {
  return make_executor(
      {"cpu", {}, {{"Relu", kOnnxDomain, {make_relu<false>}}, {"Add", kOnnxDomain, {make_add<false>}}}});
}
inline std::unique_ptr<Executor> apart_executor() {
  return make_executor({"apart",
                        {},
                        {{"Relu", kOnnxDomain, {make_relu<true>}}, {"Add", kOnnxDomain, {make_add<true>}}},
                        std::make_shared<ApartDevice>()});
}

/// What runs where: "Relu relu", "Upload copy", in the order of the plan.
inline std::vector<std::string> steps(const Plan& plan) {
  std::vector<std::string> result;
  for (const PlanEntry& entry : plan.entries) result.push_back(entry.op + " " + entry.kernel);
  return result;
}

inline Plan plan_of(Executor& executor, const Graph& graph) {
  const auto store = executor.make_store();
  return executor.compile(graph, *store)->plan();
}

}  // namespace halfstep::core
