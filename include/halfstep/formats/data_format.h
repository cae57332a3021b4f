// The formats that rows of data are read from: a table with a row for each.
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

/// The part that is asked for, of files that hold both.
enum class Split { train, test };

struct DataOptions {
  Split split = Split::train;
  CsvOptions table = {};  ///< its names of classes are those of folders of pictures too
  ImageOptions images = {};
};

/// What a file or folder holds. Inputs are called `x`, or as the model calls them, and targets `y`, each with `_train`
/// or `_test` behind it where there are both.
struct NamedArrays {
  std::vector<std::string> names;
  std::function<DataArray(const std::string& name)> open;  ///< one of `names`
  std::vector<std::string> classes = {};                   ///< where labels are names: what label i is called
  std::string label_hint = {};                             ///< what may be wrong where labels do not fit a model
  std::vector<std::string> notices = {};                   ///< for the user: what had to be guessed
  std::map<std::string, std::string> settings = {};        ///< as Dataset has them
};

struct DataFormat {
  std::string_view what;                                  ///< for people: "an .npz file"
  std::vector<std::string_view> endings;                  ///< of its files' names
  bool gzip = false;                                      ///< ".gz" may follow
  std::string_view infix = {};                            ///< its files' names may have this instead of an ending
  std::string_view magic = {};                            ///< its files' first bytes, whatever they are called
  bool folder = false;                                    ///< it is a folder
  bool (*holds)(const std::filesystem::path&) = nullptr;  ///< whether a folder is one of these; unset: any other

  // A format has one of the two. Both throw Error for whatever is wrong with the files.
  DataArray (*open_array)(const std::filesystem::path&) = nullptr;                         ///< a file holds one array
  NamedArrays (*open_arrays)(const std::filesystem::path&, const DataOptions&) = nullptr;  ///< it holds a data set

  std::vector<std::filesystem::path> (*files)(const std::filesystem::path&) = nullptr;  ///< of a folder: what is read
};

std::span<const DataFormat> data_formats();

/// The format of what is called so; null for an unknown one.
const DataFormat* format_of(const std::filesystem::path& path);

/// Those whose files hold one array, or those that hold a data set, for people: "an .npy file or an IDX file".
std::string describe_array_formats();
std::string describe_set_formats();

/// One array, in a format told by the file's first bytes, else by its name. Throws Error for whatever is wrong with it.
DataArray open_array(const std::filesystem::path& path);

}  // namespace halfstep
