// Makers of operators whose elements follow from their places.
#pragma once

#include "executors/cudnn/kernel.h"

namespace halfstep::cudnn {

Made make_one_hot(KernelContext& context);
Made make_range(KernelContext& context);
Made make_trilu(KernelContext& context);
Made make_eye_like(KernelContext& context);
Made make_rotary_embedding(KernelContext& context);

}  // namespace halfstep::cudnn
