#include <memory>
#include <utility>

#include <fmt/format.h>

#include "formats/idx.h"
#include "formats/idx_folder.h"
#include "formats/image_folder.h"
#include "formats/npz.h"
#include "formats/safetensors.h"
#include <halfstep/formats/data_format.h>
#include <halfstep/formats/npy.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

NamedArrays arrays_of_idx_folder(const fs::path& folder, const DataOptions& options) {
  const IdxPair pair = open_idx_folder(folder, options.split == Split::train ? kIdxTrainPrefix : kIdxTestPrefix);
  return {.names = {"x", "y"}, .open = [pair](const std::string& name) { return name == "x" ? pair.x : pair.y; }};
}

NamedArrays arrays_of_npz(const fs::path& path, const DataOptions&) {
  const auto file = std::make_shared<const NpzFile>(path);
  return {.names = file->names(),
          .open = [file](const std::string& name) { return file->open(name); },
          .open_later = [file](const std::string& name) { return file->open_later(name); }};
}

NamedArrays arrays_of_safetensors(const fs::path& path, const DataOptions&) {
  const auto file = std::make_shared<const SafetensorsFile>(path);
  return {.names = file->names(), .open = [file](const std::string& name) { return file->open(name); }};
}

NamedArrays arrays_of_csv(const fs::path& path, const DataOptions& options) {
  const CsvTable table = open_csv(path, options.table);
  std::string hint = fmt::format("the labels are {}: --label-column names another column", table.label_column);
  return {.names = {"x", "y"},
          .open = [x = table.x, y = table.y](const std::string& name) { return name == "x" ? x : y; },
          .classes = table.classes,
          .label_hint = options.table.label.empty() ? std::move(hint) : "",
          .notices = table.notices};
}

NamedArrays arrays_of_tsv(const fs::path& path, const DataOptions& options) {
  DataOptions tabs = options;
  tabs.table.delimiter = '\t';
  return arrays_of_csv(path, tabs);
}

bool is_called(const DataFormat& format, std::string_view name) {
  if (format.gzip && name.ends_with(".gz")) name.remove_suffix(3);
  if (!format.infix.empty() && name.find(format.infix) != std::string_view::npos) return true;
  for (const std::string_view ending : format.endings)
    if (name.ends_with(ending)) return true;
  return false;
}

std::string describe(bool holds_one_array) {
  std::vector<std::string_view> all;
  for (const DataFormat& format : data_formats())
    if ((format.open_array != nullptr) == holds_one_array) all.push_back(format.what);
  std::string text;
  for (std::size_t i = 0; i < all.size(); ++i)
    text += fmt::format("{}{}", i == 0 ? "" : i + 1 == all.size() ? " or " : ", ", all[i]);
  return text;
}

}  // namespace

std::span<const DataFormat> data_formats() {
  static const std::vector<DataFormat> rows{
      {.what = "an .npy file", .endings = {".npy"}, .gzip = true, .magic = "\x93NUMPY", .open_array = open_npy},
      {.what = "an IDX file", .endings = {".idx"}, .gzip = true, .infix = "ubyte", .open_array = open_idx},
      {.what = "a folder with JPEG and PNG images in one folder per class",
       .endings = {},
       .folder = true,
       .takes_classes = true,
       .takes_images = true,
       .holds = is_image_folder,
       .open_arrays = open_image_folder,
       .files = files_of_image_folder},
      {.what = "a folder of IDX files",
       .endings = {},
       .folder = true,
       .open_arrays = arrays_of_idx_folder,
       .files = files_of_idx_folder},
      {.what = "an .npz file", .endings = {".npz"}, .open_arrays = arrays_of_npz},
      {.what = "a .safetensors file", .endings = {".safetensors"}, .open_arrays = arrays_of_safetensors},
      {.what = "a .csv table",
       .endings = {".csv"},
       .gzip = true,
       .takes_label_column = true,
       .takes_classes = true,
       .open_arrays = arrays_of_csv},
      {.what = "a .tsv table",
       .endings = {".tsv"},
       .gzip = true,
       .takes_label_column = true,
       .takes_classes = true,
       .open_arrays = arrays_of_tsv},
  };
  return rows;
}

const DataFormat* format_of(const fs::path& path) {
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  for (const bool one_array : {false, true})  // a name such as ubyte.csv is that of a table
    for (const DataFormat& format : data_formats())
      if ((format.open_array != nullptr) == one_array &&
          (folder ? format.folder && (!format.holds || format.holds(path)) : is_called(format, path.native())))
        return &format;
  return nullptr;
}

std::string describe_array_formats() { return describe(true); }
std::string describe_set_formats() { return describe(false); }

DataArray open_array(const fs::path& path) {
  const SharedBytes bytes = SharedBytes::of_file(path);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const std::string name = path.filename().string();
  const DataFormat* last = nullptr;
  for (const DataFormat& format : data_formats()) {
    if (!format.open_array) continue;
    if ((!format.magic.empty() && text.starts_with(format.magic)) || is_called(format, name))
      return format.open_array(path);
    last = &format;
  }
  return last->open_array(path);  // which throws the error for it
}

}  // namespace halfstep
