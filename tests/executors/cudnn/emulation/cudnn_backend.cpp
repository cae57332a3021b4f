// cuDNN's backend API: descriptors, what heuristics propose, and plans that run.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include <cudnn.h>

#include "tests/executors/cudnn/emulation/backend_operations.h"
#include "tests/executors/cudnn/emulation/clock.h"
#include "tests/executors/cudnn/emulation/cudnn_handle.h"
#include "tests/executors/cudnn/emulation/emulation.h"
#include "tests/executors/cudnn/emulation/pending_error.h"
#include "tests/executors/cudnn/emulation/tensor_order.h"

using emulation::Descriptor;
using emulation::Dims;
using emulation::is_convolution;
using emulation::Tensor;
using emulation::tensor_of;

namespace {

cudnnStatus_t refuse(const char* why, cudnnStatus_t status = CUDNN_STATUS_BAD_PARAM) {
  emulation::refuse(why);
  return status;
}

std::size_t size_of(cudnnBackendAttributeType_t type) {
  switch (type) {
    case CUDNN_TYPE_CHAR:
    case CUDNN_TYPE_BOOLEAN:
      return 1;
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}

/// What the heuristic proposes, best first. The first is not to be taken where results are to repeat, the second not
/// where f32 is to stay f32; the last takes a compiler.
struct Engine {
  std::vector<cudnnBackendNumericalNote_t> notes;
  std::int64_t workspace;
  bool is_compiled = false;
};
const Engine kEngines[] = {
    {{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0},
    {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 8192},
    {{}, 4096},
    {{}, 1024},
    {{}, 512, true},
};

constexpr int kOnTensorCores = 1;

int compilations = 0;

Descriptor& as_descriptor(cudnnBackendDescriptor_t d) { return *static_cast<Descriptor*>(d); }

std::vector<const Descriptor*> operations_of(const Descriptor& graph) {
  std::vector<const Descriptor*> all;
  for (const cudnnBackendDescriptor_t each : graph.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS))
    all.push_back(&as_descriptor(each));
  return all;
}

const char* fault_of_final(const Descriptor& d) {
  switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
      const Dims dims = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
      const Dims strides = d.all<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
      if (dims.size() < 4 || dims.size() > 5 || strides.size() != dims.size()) return "a tensor has 4 or 5 axes";
      for (const std::int64_t stride : strides)
        if (stride < 1) return "a stride that is not positive";
      return "";
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
      for (const cudnnBackendDescriptor_t op : d.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS))
        if (const char* fault = fault_of(as_descriptor(op)); *fault) return fault;
      if (!emulation::machine().can_fuse && d.all<cudnnBackendDescriptor_t>(CUDNN_ATTR_OPERATIONGRAPH_OPS).size() > 1)
        return "the machine was told to take single operations only";
      return d.has(CUDNN_ATTR_OPERATIONGRAPH_OPS) ? "" : "a graph without operations";
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
      return d.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS).size() ==
                     d.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS).size()
                 ? ""
                 : "an address for each tensor";
    default:
      return "";
  }
}

}  // namespace

int emulation::plans_compiled() { return compilations; }

extern "C" {

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* made) {
  if (emulation::fails("descriptor")) return CUDNN_STATUS_BAD_PARAM;
  if (type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && emulation::fails("plan")) return CUDNN_STATUS_ALLOC_FAILED;
  *made = new Descriptor{type};
  emulation::count_object(1);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
  delete static_cast<Descriptor*>(d);
  emulation::count_object(-1);
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, std::int64_t count, const void* values) {
  Descriptor& to = as_descriptor(d);
  if (to.is_final) return refuse("a descriptor that is finalized does not change");
  if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
    for (std::int64_t i = 0; i < count; ++i)
      if (!as_descriptor(static_cast<const cudnnBackendDescriptor_t*>(values)[i]).is_final)
        return refuse("a part that is not finalized");
  const auto* bytes = static_cast<const std::byte*>(values);
  to.attributes[name] = {type, count, {bytes, bytes + static_cast<std::size_t>(count) * size_of(type)}};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
  Descriptor& to = as_descriptor(d);
  if (to.type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR) {
    if (emulation::fails("heuristic")) return CUDNN_STATUS_NOT_SUPPORTED;
    if (!emulation::machine().can_plan ||
        to.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) != CUDNN_HEUR_MODE_A)
      return CUDNN_STATUS_NOT_SUPPORTED;
  }
  if (const char* fault = fault_of_final(to); *fault) return refuse(fault);
  if (to.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
      kEngines[to.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine].is_compiled)
    ++compilations;
  to.is_final = true;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(const cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, std::int64_t room, std::int64_t* count,
                                       void* values) {
  const Descriptor& from = as_descriptor(d);
  const auto parts = static_cast<cudnnBackendDescriptor_t*>(values);
  switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: {
      const Descriptor& graph = from.part(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
      const std::vector<const Descriptor*> operations = operations_of(graph);
      const bool is_fused = operations.size() > 1;
      std::vector<int> engines;
      for (int i = 0; emulation::has_engines(operations) && i < static_cast<int>(std::size(kEngines)); ++i)
        if (!is_fused || emulation::machine().fuses_on_tensor_cores || i != kOnTensorCores) engines.push_back(i);
      *count = static_cast<std::int64_t>(engines.size());
      for (std::int64_t i = 0; i < std::min(room, *count); ++i) {
        Descriptor& to = as_descriptor(parts[i]);
        to.engine = engines[static_cast<std::size_t>(i)];
        to.graph = &graph;
        to.is_final = true;
      }
      return CUDNN_STATUS_SUCCESS;
    }
    case CUDNN_ATTR_ENGINECFG_ENGINE:
      *count = 1;
      if (room) as_descriptor(parts[0]).engine = from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_KNOB_CHOICES:  // cuDNN does not say how many there are before it is given room
      *count = room ? 1 : 0;
      if (room) as_descriptor(parts[0]).engine = from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE:
      *count = 1;
      *static_cast<cudnnBackendKnobType_t*>(values) = CUDNN_KNOB_TYPE_TILE_SIZE;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE:
      *count = 1;
      *static_cast<std::int64_t*>(values) = 10 + from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX:
      *count = 1;
      *static_cast<std::int64_t*>(values) = from.engine;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
      if (!emulation::machine().tells_notes) return refuse("the machine was told so", CUDNN_STATUS_NOT_SUPPORTED);
      *count = static_cast<std::int64_t>(kEngines[from.engine].notes.size());
      std::ranges::copy(kEngines[from.engine].notes, static_cast<cudnnBackendNumericalNote_t*>(values));
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
      *count = kEngines[from.engine].is_compiled ? 1 : 0;
      if (*count) *static_cast<cudnnBackendBehaviorNote_t*>(values) = CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
      return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
      *count = 1;
      *static_cast<std::int64_t*>(values) =
          kEngines[from.part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG).engine].workspace;
      return CUDNN_STATUS_SUCCESS;
    default:
      return refuse("an attribute that is not emulated", CUDNN_STATUS_NOT_SUPPORTED);
  }
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  const Descriptor &configuration = as_descriptor(plan).part(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG),
                   &given = as_descriptor(pack);
  const Engine& engine = kEngines[configuration.engine];
  std::map<std::int64_t, void*> addresses;
  const auto ids = given.all<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
  const auto pointers = given.all<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
  for (std::size_t i = 0; i < ids.size(); ++i) addresses[ids[i]] = pointers[i];
  auto* workspace = given.one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
  const auto bytes = static_cast<std::size_t>(engine.workspace);
  if (!emulation::is_workspace(workspace, bytes))
    return refuse("the workspace is too small, or not aligned to 256 bytes");
  if (configuration.engine == 0) return refuse("an engine that is not deterministic");

  const std::vector<const Descriptor*> all = operations_of(*configuration.graph);
  for (const Descriptor* operation : all) {
    if (is_convolution(*operation) && configuration.engine == 1) {
      if (emulation::is_of_f32(*operation)) return refuse("f32 would be rounded to TF32");
    }
    for (const auto& [name, attribute] : operation->attributes) {
      if (attribute.type != CUDNN_TYPE_BACKEND_DESCRIPTOR ||
          operation->part(name).type != CUDNN_BACKEND_TENSOR_DESCRIPTOR)
        continue;
      const Tensor t = tensor_of(operation->part(name));
      if (t.is_virtual) continue;
      if (!addresses.contains(t.id)) return refuse("a tensor without an address");
      if (t.is_by_value) continue;
      if (!emulation::is_device(addresses[t.id], t.bytes())) return refuse("a tensor does not lie in device memory");
      const std::int64_t alignment = operation->part(name).one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
      if (reinterpret_cast<std::uintptr_t>(addresses[t.id]) % static_cast<std::uintptr_t>(alignment) != 0)
        return refuse("a tensor that is not aligned as was said", CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    }
  }
  const std::size_t failing = emulation::machine().failing_workspace;
  if (failing && bytes >= failing) {
    emulation::leave_error(cudaErrorMemoryAllocation);
    return CUDNN_STATUS_ALLOC_FAILED;
  }
  emulation::submit(handle->stream, [all, addresses, workspace, bytes, number = configuration.engine] {
    emulation::take_time("engine", number);
    if (bytes) std::memset(workspace, 0xee, bytes);
    emulation::apply(all, addresses);
  });
  return CUDNN_STATUS_SUCCESS;
}
}
