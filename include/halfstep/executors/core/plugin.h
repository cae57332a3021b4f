// A plug-in library with an executor that is built as a Backend.
#pragma once

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include <halfstep/base/api.h>
#include <halfstep/base/error.h>
#include <halfstep/executors/core/backend.h>
#include <halfstep/executors/plugin.h>

namespace HALFSTEP_API halfstep {
namespace core {

/// The score of the executor on this machine, see `halfstep_score`.
using Score = int (*)(std::string& reason);
/// The plug-in's backend on this machine; nothing, with a sentence in `reason`, if it finds no device.
using OpenBackend = std::optional<Backend> (*)(const ExecutorOptions& options, std::string& reason);

/// The result of `call`, or `failed` with the error as the reason if it throws: a C function must not throw.
template <class Call>
auto or_reason(std::string& reason, const Call& call, decltype(call()) failed = {}) -> decltype(call()) {
  try {
    return call();
  } catch (const Error& e) {
    reason = e.without_hint();
  } catch (const std::exception& e) {
    reason = e.what();
  } catch (...) {
    reason = "an unknown exception";
  }
  return failed;
}

inline Executor* open_plugin(OpenBackend open, const ExecutorOptions& options, std::string& reason) {
  return or_reason(reason, [&]() -> Executor* {
    std::optional<Backend> backend = open(options, reason);
    return backend ? make_executor(std::move(*backend)).release() : nullptr;
  });
}

}  // namespace core
}  // namespace halfstep

/// Defines the functions of a plug-in. Use it once, outside of any namespace, with a core::Score and a
/// core::OpenBackend.
#define HALFSTEP_PLUGIN(score, ...)                                                                      \
  int halfstep_abi() { return halfstep::kExecutorAbi; }                                                  \
  int halfstep_score(std::string* reason) {                                                              \
    const halfstep::core::Score rate = score;                                                            \
    return halfstep::core::or_reason(                                                                    \
        *reason, [&] { return rate(*reason); }, -1);                                                     \
  }                                                                                                      \
  halfstep::Executor* halfstep_executor(const halfstep::ExecutorOptions* options, std::string* reason) { \
    return halfstep::core::open_plugin((__VA_ARGS__), *options, *reason);                                \
  }
