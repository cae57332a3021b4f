// Makers of operators that make elements of few numbers.
#pragma once

#include "executors/cudnn/kernel.h"

namespace halfstep::cudnn {

Made make_one_hot(KernelContext& context);
Made make_range(KernelContext& context);

}  // namespace halfstep::cudnn
