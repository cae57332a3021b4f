// The file of measured choices: see Choices.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include <halfstep/base/api.h>

namespace HALFSTEP_API halfstep {
namespace core {

struct ChoicesFile {
  std::map<std::string, std::map<std::string, std::string>> names = {};  ///< by machine, by key
  bool is_damaged = false;                                               ///< it cannot be read, or is no such file
};
/// Empty where there is none.
ChoicesFile read_choices(const std::filesystem::path& file);

/// Why nothing that the file holds is taken for the machine, as a sentence: it is damaged, or has others alone that are
/// the same up to the first ';', behind which are versions. Empty where something is, and where there is nothing.
std::string remark_on_choices(const std::filesystem::path& file, const std::string& machine);

/// Why nothing can be kept in the file, as far as that can be told without writing; empty where it can. Makes the
/// file's folder.
std::string refusal_to_keep(const std::filesystem::path& file);

}  // namespace core
}  // namespace halfstep
