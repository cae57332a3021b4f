// replay FORMAT COUNT [FILE...]: reads the seeds of a format, the files, and as many random changes of both. Every run
// reads the same. What dies names itself by a number; `replay FORMAT COUNT FILE...` reproduces it.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/print.h"
#include "conformance/random_choice.h"
#include "tests/fuzz/formats.h"
#include <halfstep/base/error.h>
#include <halfstep/conformance/crash_note.h>

namespace halfstep::fuzz {
namespace {

constexpr const Format* kFormats[] = {&onnx_format, &safetensors_format, &npy_format,  &npz_format,
                                      &csv_format,  &idx_format,         &image_format};
constexpr unsigned kLongestSeconds = 60;
constexpr std::size_t kMostBytes = std::size_t{1} << 30;
constexpr std::size_t kMostChanges = 4;
// Numbers that sizes go wrong at, as little-endian bytes.
constexpr std::array<std::uint64_t, 8> kNumbers = {
    0, 1, 0x7f, 0xff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, 0xffffffffffffffff};

void change(std::string& bytes, const std::string& other, RandomChoice& choice) {
  const std::size_t at = choice.below(bytes.size() + 1),
                    length = choice.below(std::min<std::size_t>(64, bytes.size()) + 1);
  const auto put = [&](std::size_t i, char value) {
    if (at + i < bytes.size()) bytes[at + i] = value;
  };
  switch (choice.below(8)) {
    case 0:
      return put(0, static_cast<char>(choice.next()));
    case 1:
      return put(0, static_cast<char>((at < bytes.size() ? bytes[at] : 0) ^ (1 << choice.below(8))));
    case 2: {  // a number of 1, 2, 4 or 8 bytes, in either order
      const std::uint64_t number = choice.of(std::span<const std::uint64_t>(kNumbers));
      const std::size_t width = std::size_t{1} << choice.below(4);
      const bool big_endian = choice.one_in(3);
      for (std::size_t i = 0; i < width; ++i) put(big_endian ? width - 1 - i : i, static_cast<char>(number >> (8 * i)));
      return;
    }
    case 3:
      bytes.erase(at, length);
      return;
    case 4:
      bytes.insert(at, bytes.substr(choice.below(bytes.size() + 1), length));
      return;
    case 5:
      bytes.insert(at, other.substr(choice.below(other.size() + 1), length));
      return;
    case 6:
      bytes.resize(at);
      return;
    default:  // a digit in place of another, where there is text
      for (std::size_t i = at; i < bytes.size(); ++i)
        if (bytes[i] >= '0' && bytes[i] <= '9') {
          bytes[i] = static_cast<char>('0' + choice.below(10));
          if (choice.one_in(4)) bytes.insert(i, "99999999999999999999", choice.below(20));
          return;
        }
  }
}

std::string mutant(const std::vector<std::string>& corpus, std::string_view format, std::size_t number) {
  RandomChoice choice(number, format);
  std::string bytes = corpus[choice.below(corpus.size())];
  const std::size_t changes = 1 + choice.below(kMostChanges);
  for (std::size_t i = 0; i < changes; ++i) change(bytes, corpus[choice.below(corpus.size())], choice);
  return bytes;
}

int replay(const Format& format, std::size_t mutants, std::span<char* const> files) {
  std::vector<std::string> corpus = format.seeds();
  for (const char* file : files) {
    std::ifstream in(file, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  limit_growth(kMostBytes);
  CrashNote note;
  for (std::size_t i = 0; i < corpus.size() + mutants; ++i) {
    const bool changed = i >= corpus.size();
    const std::string bytes = changed ? mutant(corpus, format.name, i - corpus.size()) : corpus[i];
    const std::string name = changed ? fmt::format("{}, change {}", format.name, i - corpus.size())
                                     : fmt::format("{}, file {}", format.name, i);
    note.begin(name, kLongestSeconds);
    try {
      format.read(bytes);
    } catch (const std::exception& e) {
      note.end();
      std::ofstream("finding." + std::string(format.name), std::ios::binary) << bytes;
      print_to(stderr, "{}: {}\nthe bytes are in finding.{}\n", name, e.what(), format.name);
      return 1;
    }
    note.end();
  }
  print_to(stdout, "{}: {} files and {} changes of them read\n", format.name, corpus.size(), mutants);
  return 0;
}

/// Throws Error listing the formats there are.
const Format& find_format(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Format* format : kFormats) {
    if (format->name == name) return *format;
    names.push_back(format->name);
  }
  throw_input_error(fmt::format("a format: {}", fmt::join(names, ", ")), "'" + std::string(name) + "'",
                    "name one of them");
}

}  // namespace
}  // namespace halfstep::fuzz

int main(int argc, char** argv) {
  if (argc < 3) {
    halfstep::print_to(stderr, "usage: replay FORMAT COUNT [FILE...]\n");
    return 2;
  }
  const std::span<char* const> arguments(argv, static_cast<std::size_t>(argc));
  return halfstep::fuzz::replay(halfstep::fuzz::find_format(arguments[1]), std::strtoull(arguments[2], nullptr, 10),
                                arguments.subspan(3));
}
