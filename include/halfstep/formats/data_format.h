// The table of data formats, with a row for each.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <halfstep/base/api.h>
#include <halfstep/formats/csv.h>
#include <halfstep/formats/data_array.h>
#include <halfstep/formats/images.h>

namespace HALFSTEP_API halfstep {

/// The requested part of files that contain both.
enum class Split { train, test };

struct DataOptions {
  Split split = Split::train;
  CsvOptions table = {};  ///< its class names also apply to image folders
  ImageOptions images = {};
};

/// The contents of a file or folder. Inputs are named `x`, or as in the model, and targets `y`, each with the suffix
/// `_train` or `_test` if there are both.
struct NamedArrays {
  std::vector<std::string> names;
  std::function<DataArray(const std::string& name)> open;  ///< opens one of `names`
  /// The same for an array that may not be needed, if opening one is costly: reads only its type at first, and its
  /// elements when they are first needed. Unset: `open`.
  std::function<DataArray(const std::string& name)> open_later = {};
  std::vector<std::string> classes = {};             ///< name of label i, if labels are names
  std::string label_hint = {};                       ///< possible cause if labels do not fit a model
  std::vector<std::string> notices = {};             ///< for the user: choices made by heuristics
  std::map<std::string, std::string> settings = {};  ///< as in Dataset
};

struct DataFormat {
  std::string_view what;                  ///< for messages: "an .npz file"
  std::vector<std::string_view> endings;  ///< suffixes of its file names
  bool gzip = false;                      ///< ".gz" may follow
  std::string_view infix = {};            ///< alternative to the suffix: part of its file names
  std::string_view magic = {};            ///< first bytes of its files, independent of their names
  bool folder = false;                    ///< the format is a folder
  // What it reads of DataOptions, besides the split.
  bool takes_label_column = false, takes_classes = false, takes_images = false;
  bool (*holds)(const std::filesystem::path&) = nullptr;  ///< whether a folder has this format; unset: any other

  // A format has one of the two. Both throw Error for invalid or unreadable files.
  DataArray (*open_array)(const std::filesystem::path&) = nullptr;                         ///< a file has one array
  NamedArrays (*open_arrays)(const std::filesystem::path&, const DataOptions&) = nullptr;  ///< it has a data set

  std::vector<std::filesystem::path> (*files)(const std::filesystem::path&) = nullptr;  ///< of a folder: files to read
};

std::span<const DataFormat> data_formats();

/// The format of a path; null if unknown.
const DataFormat* format_of(const std::filesystem::path& path);

/// The formats of one array, and the formats of a data set, for messages: "an .npy file or an IDX file".
std::string describe_array_formats();
std::string describe_set_formats();

/// Opens one array, in a format detected from the file's first bytes, else from its name. Throws Error for an invalid
/// or unreadable file.
DataArray open_array(const std::filesystem::path& path);

}  // namespace halfstep
