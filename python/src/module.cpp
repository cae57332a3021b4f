// The extension halfstep._core: plain bindings of the C++ classes. The public interface of the package is in Python.
#include "python/src/bindings.h"

NB_MODULE(_core, m) {
  using namespace halfstep::python;
  m.doc() = "The C++ part of halfstep. Use the package halfstep instead.";
  translate_errors();
  bind_tables(m);
  bind_options(m);
  bind_model(m);
  bind_ranks(m);
  bind_session(m);
  bind_metrics(m);
  bind_training_step(m);
  bind_rows(m);
  bind_running(m);
  bind_conversion(m);
  bind_machine(m);
}
