// oneDNN primitives that are chosen by measuring them.
#pragma once

#include <string>
#include <vector>

#include "executors/onednn/kernel.h"
#include "executors/onednn/kernels/kernels.h"
#include "executors/onednn/tuning.h"

namespace halfstep::onednn {

/// Memory of that description with finite numbers in it.
dnnl::memory filled_memory(const Desc& desc);

/// What measures a primitive, with conversions from and to the operands of `first` where its own lie otherwise or are
/// of another type. Weights may lie in any order: they stay in it.
Candidate primitive_candidate(const dnnl::primitive_desc_base& pd, const dnnl::primitive_desc_base& first);

/// Whether operands have the same padding as those of `first`.
bool pads_alike(const dnnl::primitive_desc_base& pd, const dnnl::primitive_desc_base& first);

/// choose_primitive by measuring where the thread has a tuner: the first descriptor of each type, or with `full` all of
/// oneDNN's. `key()` says what they compute. Forward descriptors that gradients take as hints must live until this
/// returns: oneDNN looks at them when it is asked for the next implementation.
template <class Key, class Make>
auto choose_primitive(DType dtype, const Key& key, const Make& make) {
  const auto first = choose_primitive(dtype, make);
  if (!tuner() || !first) return first;
  std::vector all{first};
  std::vector<Candidate> candidates{primitive_candidate(first.pd, first.pd)};
  for (const DType type : compute_types(dtype)) {
    for (int skipped = 0; skipped == 0 || tuner()->tuning() == Tuning::full; ++skipped) {
      auto pd = make(type);  // a copy of a descriptor would be the same one to next_impl
      int at = 0;
      while (at < skipped && pd.get(true) && pd.next_impl()) ++at;
      if (!pd.get(true) || at < skipped) break;
      Candidate candidate = primitive_candidate(pd, first.pd);
      if (is_slow(pd) || mixes_pixels(pd) || !pads_alike(pd, first.pd) ||
          std::ranges::find(candidates, candidate.name, &Candidate::name) != candidates.end())
        continue;
      all.push_back({pd, type});
      candidates.push_back(std::move(candidate));
    }
  }
  return all[tuner()->choose(key(), candidates)];
}

}  // namespace halfstep::onednn
