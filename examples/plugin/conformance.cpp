// halfstep's checks of the plug-in, as GoogleTest tests.
#include <memory>

#include <halfstep/conformance/gtest.h>
#include <halfstep/executors/registry.h>

namespace {

std::unique_ptr<halfstep::Executor> make_example() { return halfstep::load_executor(EXAMPLE_PLUGIN, {}); }

}  // namespace

HALFSTEP_INSTANTIATE_CONFORMANCE(make_example);

int main(int argc, char** argv) {
  make_example();  // registers its operators, so that they are tested
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
