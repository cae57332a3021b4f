#include <algorithm>
#include <list>
#include <utility>

#include "session/tensor_types.h"
#include <halfstep/base/error.h>
#include <halfstep/passes/prepared_model.h>
#include <halfstep/session/session.h>

namespace halfstep {

class Session::Impl {
 public:
  Impl(Graph model, Executor& executor, const SessionOptions& options)
      : prepared_(std::move(model), {.batch_axes = options.batch_axes}),
        executor_(executor),
        options_(options),
        precision_(resolve(options.precision, executor.capabilities())),
        inputs_(inputs_of(prepared_)),
        outputs_(types_of(prepared_.graph(), prepared_.graph().outputs)) {
    if (options.programs < 1) throw_input_error("at least 1 cached program", "0", "");
  }

  const std::vector<TensorInfo>& inputs() const { return inputs_; }
  const std::vector<TensorInfo>& outputs() const { return outputs_; }
  DType precision() const { return precision_; }
  const Graph& graph() const { return prepared_.graph(); }

  NamedTensors run(const NamedTensors& given, bool copy) {
    Compiled& compiled = loaded(fit(given));
    compiled.program->run();
    NamedTensors results;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const Tensor output = compiled.program->output(i);
      results[outputs_[i].name] = copy ? output.clone() : output;
    }
    return results;
  }

  const Plan& plan(const NamedTensors& given) { return program(fit(given)).program->plan(); }

  Profile profile(const NamedTensors& given, const ProfileOptions& profile_options) {
    return halfstep::profile(*loaded(fit(given)).program, executor_, profile_options);
  }

 private:
  struct Compiled {
    std::vector<Shape> shapes;
    std::unique_ptr<StateStore> store;
    std::unique_ptr<Program> program;
    std::vector<Tensor> inputs;
  };

  std::vector<Tensor> fit(const NamedTensors& given) const {
    check_names(given, inputs_, "an input of the model");
    std::vector<Tensor> tensors;
    for (const TensorInfo& type : inputs_) tensors.push_back(fitted(given, type));
    return tensors;
  }

  /// The program for these inputs, which are copied to it.
  Compiled& loaded(const std::vector<Tensor>& tensors) {
    Compiled& compiled = program(tensors);
    for (std::size_t i = 0; i < tensors.size(); ++i) copy_into(compiled.inputs[i], tensors[i]);
    return compiled;
  }

  /// The program for inputs of these shapes; moves it to the front of the list.
  Compiled& program(const std::vector<Tensor>& tensors) {
    const auto is_for = [&](const Compiled& c) {
      return std::ranges::equal(c.shapes, tensors, {}, {}, &Tensor::shape);
    };
    const auto found = std::ranges::find_if(programs_, is_for);
    if (found == programs_.end())
      programs_.push_front(compile(tensors));
    else
      programs_.splice(programs_.begin(), programs_, found);
    while (programs_.size() > options_.programs) programs_.pop_back();
    return programs_.front();
  }

  Compiled compile(const std::vector<Tensor>& tensors) const {
    Compiled compiled;
    StepOptions step;
    step.precision = precision_;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      compiled.shapes.push_back(tensors[i].shape());
      step.shapes.by_name[inputs_[i].name] = tensors[i].shape();
    }
    const Graph graph = prepared_.lower(Purpose::inference, step, executor_.capabilities(), options_.observer);
    compiled.store = executor_.make_store();
    compiled.program = executor_.compile(graph, *compiled.store);
    for (std::size_t i = 0; i < inputs_.size(); ++i) compiled.inputs.push_back(compiled.program->input(i));
    return compiled;
  }

  PreparedModel prepared_;
  Executor& executor_;
  SessionOptions options_;
  DType precision_;
  std::vector<TensorInfo> inputs_, outputs_;
  std::list<Compiled> programs_;  // most recently used first
};

Session::Session(Graph model, Executor& executor, const SessionOptions& options)
    : impl_(std::make_unique<Impl>(std::move(model), executor, options)) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

std::vector<TensorInfo> Session::inputs() const { return impl_->inputs(); }
std::vector<TensorInfo> Session::outputs() const { return impl_->outputs(); }
DType Session::precision() const { return impl_->precision(); }
const Graph& Session::graph() const { return impl_->graph(); }
NamedTensors Session::run(const NamedTensors& inputs) { return impl_->run(inputs, true); }
NamedTensors Session::run_in_place(const NamedTensors& inputs) { return impl_->run(inputs, false); }
const Plan& Session::plan(const NamedTensors& inputs) { return impl_->plan(inputs); }
Profile Session::profile(const NamedTensors& inputs, const ProfileOptions& options) {
  return impl_->profile(inputs, options);
}

}  // namespace halfstep
