#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/atomic_file.h"
#include "formats/npy_header.h"
#include <halfstep/base/error.h>
#include <halfstep/formats/npy.h>
#include <halfstep/graph/tensor_bytes.h>

namespace halfstep {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

constexpr struct {
  std::string_view code;  // NumPy's kind and size, without the byte order
  DType dtype;
} kNpyTypes[] = {
    {"f2", DType::f16}, {"f4", DType::f32}, {"f8", DType::f64}, {"i1", DType::i8},
    {"i2", DType::i16}, {"i4", DType::i32}, {"i8", DType::i64}, {"u1", DType::u8},
    {"u2", DType::u16}, {"u4", DType::u32}, {"u8", DType::u64}, {"b1", DType::boolean},
};

struct Header {
  std::string descr;
  bool fortran = false;
  std::vector<std::int64_t> dims;
};

/// Reads the header's Python dictionary: the three keys in any order, with the literals NumPy writes.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : rest_(text) {}

  /// Nothing if the text is not such a dictionary.
  std::optional<Header> parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    if (!take("{")) return std::nullopt;
    while (!take("}")) {
      const auto key = quoted();
      if (!key || !take(":")) return std::nullopt;
      if (*key == "descr") {
        has_descr = description(header.descr);
      } else if (*key == "fortran_order") {
        header.fortran = take("True");
        has_order = header.fortran || take("False");
      } else if (*key == "shape") {
        has_shape = tuple(header.dims);
      } else {
        return std::nullopt;
      }
      if (!take(",") && !(next() == '}')) return std::nullopt;
    }
    if (!has_descr || !has_order || !has_shape || next() != '\0') return std::nullopt;
    return header;
  }

 private:
  char next() {
    while (!rest_.empty() && (rest_.front() == ' ' || rest_.front() == '\n')) rest_.remove_prefix(1);
    return rest_.empty() ? '\0' : rest_.front();
  }
  bool take(std::string_view token) {
    next();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  std::optional<std::string> quoted() {
    const char quote = next();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const std::size_t end = rest_.find(quote, 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string text(rest_.substr(1, end - 1));
    rest_.remove_prefix(end + 1);
    return text;
  }
  /// A string, or the list of a structured dtype, kept verbatim.
  bool description(std::string& descr) {
    if (next() != '[') {
      const auto text = quoted();
      descr = text.value_or("");
      return text.has_value();
    }
    const std::size_t end = rest_.rfind(']');
    if (end == std::string_view::npos) return false;
    descr = std::string(rest_.substr(0, end + 1));
    rest_.remove_prefix(end + 1);
    return true;
  }
  bool tuple(std::vector<std::int64_t>& dims) {
    if (!take("(")) return false;
    while (!take(")")) {
      std::int64_t extent = 0;
      next();
      const auto [end, error] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      if (error != std::errc() || extent < 0) return false;
      rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
      take("L");  // the suffix of long integers in Python 2
      dims.push_back(extent);
      if (!take(",") && next() != ')') return false;
    }
    return true;
  }

  std::string_view rest_;
};

std::string_view code_of(DType dtype) {
  for (const auto& row : kNpyTypes)
    if (row.dtype == dtype) return row.code;
  return {};
}

DType dtype_of_code(std::string_view code) {
  for (const auto& row : kNpyTypes)
    if (row.code == code) return row.dtype;
  return DType::undefined;
}

[[noreturn]] void throw_malformed(const std::string& name, const std::string& what) {
  throw_input_error("an NPY file of version 1 to 3", name + " " + what,
                    "check the file, or write it again with numpy.save");
}

}  // namespace

NpyHeader read_npy_header(std::string_view text, const std::string& name) {
  if (!text.starts_with(kMagic)) throw_malformed(name, "does not start with \\x93NUMPY");
  if (text.size() < 10) throw_malformed(name, "ends inside the header");
  const int version = static_cast<unsigned char>(text[6]);
  if (version < 1 || version > 3) throw_malformed(name, fmt::format("says version {}", version));
  const std::size_t length_bytes = version == 1 ? 2 : 4;
  const std::size_t begin = 8 + length_bytes;
  if (text.size() < begin) throw_malformed(name, "ends inside the header");
  std::size_t length = 0;
  for (std::size_t i = length_bytes; i-- > 0;) length = length << 8 | static_cast<unsigned char>(text[8 + i]);
  if (text.size() - begin < length) throw_malformed(name, "ends inside the header");

  const auto header = HeaderParser(text.substr(begin, length)).parse();
  if (!header) throw_malformed(name, "has a header that is not NumPy's");
  const char order = header->descr.empty() ? '\0' : header->descr.front();
  const bool has_order = order == '<' || order == '>' || order == '|' || order == '=';
  const DType dtype = dtype_of_code(std::string_view(header->descr).substr(has_order ? 1 : 0));
  if (dtype == DType::undefined)
    throw_input_error("an NPY dtype of f2 f4 f8, i1 i2 i4 i8, u1 u2 u4 u8 or b1", name + " has " + header->descr,
                      "convert it with numpy's astype");

  return {dtype, Shape(header->dims), {order == '>', header->fortran}, begin + length};
}

DataArray parse_npy(const SharedBytes& bytes, const std::string& name) {
  NpyHeader header = read_npy_header({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
  const auto needed = known_bytes_of(header.dtype, header.shape);
  std::size_t held = bytes.size() - header.size;
  if (needed && *needed < held) held = static_cast<std::size_t>(*needed);  // NumPy also ignores the rest
  return DataArray(name, header.dtype, std::move(header.shape), bytes.part(header.size, held), header.order);
}

DataArray open_npy(const std::filesystem::path& path) { return parse_npy(open_maybe_gzip(path), path.string()); }

std::string npy_header(DType dtype, const Shape& shape) {
  const std::string_view code = code_of(dtype);
  if (code.empty())
    throw_input_error("an element type that NPY has", std::string(name_of(dtype)),
                      "NPY holds floats of 16 to 64 bits, integers and bool");
  std::string extents;
  for (std::int64_t extent : shape) extents += std::to_string(extent) + (shape.rank() == 1 ? "," : ", ");
  if (shape.rank() > 1) extents.resize(extents.size() - 2);
  const bool one_byte = bytes_of(dtype, 1) == 1;
  std::string dictionary =
      fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}", one_byte ? '|' : '<', code, extents);
  const std::size_t unpadded = kMagic.size() + 4 + dictionary.size() + 1;
  dictionary.append((64 - unpadded % 64) % 64, ' ');
  dictionary += '\n';
  std::string header(kMagic);
  header += '\x01';
  header += '\0';
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

void write_npy(const std::filesystem::path& path, const Tensor& tensor) {
  const std::string header = npy_header(tensor.dtype(), tensor.shape());
  write_atomically(path, [&](FileWriter& file) {
    file.write(header);
    file.write(tensor.raw(), tensor.bytes());
  });
}

}  // namespace halfstep
