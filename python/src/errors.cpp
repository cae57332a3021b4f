#include <algorithm>
#include <array>
#include <cctype>
#include <exception>
#include <string>
#include <string_view>

#include "python/src/bindings.h"
#include <halfstep/base/error.h>

namespace halfstep::python {
namespace {

struct Argument {
  std::string_view flag, name;
};
// Flags of the command line whose argument in Python has another name than theirs with underscores.
constexpr std::array kArguments = {
    Argument{"batch", "batch_size"},
    Argument{"batch-axis", "batch_axes"},
    Argument{"val-data", "validation_data"},
    Argument{"loss-output", "Loss(output=...)"},
    Argument{"sample-weights", "sample_weight"},
    Argument{"class-weights", "class_weight"},
    Argument{"early-stopping", "EarlyStopping"},
    Argument{"lr", "learning_rate"},
    Argument{"lr-schedule", "schedule"},
    Argument{"distributed", "backend"},
    Argument{"distributed-timeout", "timeout"},
    Argument{"heartbeat-timeout", "heartbeat"},
};

bool is_of_flag(char c) { return std::islower(static_cast<unsigned char>(c)) != 0 || c == '-'; }

}  // namespace

std::string with_arguments(std::string_view words) {
  std::string result;
  while (!words.empty()) {
    const bool at_word = result.empty() || result.back() == ' ' || result.back() == '(';
    if (!at_word || !words.starts_with("--") || words.size() < 3 || !is_of_flag(words[2])) {
      result += words.front();
      words.remove_prefix(1);
      continue;
    }
    words.remove_prefix(2);
    const auto end = std::ranges::find_if_not(words, is_of_flag);
    const std::string_view flag = words.substr(0, static_cast<std::size_t>(end - words.begin()));
    const auto* known = std::ranges::find(kArguments, flag, &Argument::flag);
    std::string name(known != kArguments.end() ? known->name : flag);
    if (known == kArguments.end()) std::ranges::replace(name, '-', '_');
    result += name;
    words.remove_prefix(flag.size());
  }
  return result;
}

void translate_errors() {
  nb::register_exception_translator([](const std::exception_ptr& thrown, void*) {
    try {
      std::rethrow_exception(thrown);
    } catch (const Error& error) {
      const char* name = error.kind() == Error::Kind::input ? "InputError" : "Error";
      try {
        const nb::object type = nb::module_::import_("halfstep.errors").attr(name);
        const nb::object value =
            type(text(with_arguments(error.required())), text(error.found()), text(with_arguments(error.remedy())));
        PyErr_SetObject(type.ptr(), value.ptr());
      } catch (nb::python_error& failed) {
        failed.restore();
      }
    }
  });
}

}  // namespace halfstep::python
