// The oneDNN executor passes every check that runs by default.
#include <halfstep/conformance/gtest.h>

HALFSTEP_INSTANTIATE_CONFORMANCE(halfstep::make_onednn_executor);
