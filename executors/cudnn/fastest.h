// Which of several ways to compute a node is the fastest on the device that is here.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "executors/cudnn/device_time.h"
#include "executors/cudnn/kernel.h"

namespace halfstep::cudnn {

/// A way to compute a node.
struct Candidate {
  DeviceKernel kernel;
  /// What it is known by where choices are kept, which no other candidate has, without "; ". The kernel's name where it
  /// is empty.
  std::string name = {};
  bool is_timed = true;  ///< else taken only where those before it cannot be completed
  /// What takes long to make of the kernel, as a compilation: done when it is timed or taken. Why it cannot be, also by
  /// an Error; empty when it was.
  std::function<std::string(DeviceKernel&)> complete = {};
  /// What is timed in the kernel's place, where that one goes on in another way when it fails.
  std::function<Attempt(const Launch&)> attempt = {};
  /// Of DeviceKernel::kept, where only the kernel that is taken is to ask for it: the bytes of each, and what asks.
  std::vector<std::size_t> kept_bytes = {};
  std::function<std::vector<core::BufferId>()> keep = {};
};

/// The candidate that takes the least time. Each is timed on operands of zeros when the first node of its kind is
/// compiled, and what was chosen is kept in a file (core::Choices) by device and by all that times depend on: nodes
/// that are alike, and the next process, take the same. The first that can be completed is taken where a device is only
/// described; where nothing keeps choices, as times alone would decide otherwise every time; and where timing would
/// take more memory than 1 GB, than is free, or than a MemoryLimit leaves. Refuses where none can be completed. To be
/// called before the context is asked for operands or memory.
Made fastest(KernelContext& context, std::vector<Candidate> candidates);

/// What a plan says where choices are not as a user may think: kept in no file, or made again. Empty where they are.
std::string note_on_choices(const Libraries& libraries);

}  // namespace halfstep::cudnn
