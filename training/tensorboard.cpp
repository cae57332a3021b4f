#include "training/tensorboard.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "base/new_folder.h"
#include "training/appended_file.h"
#include "training/crc32c.h"
#include "training/event.pb.h"
#include <halfstep/base/error.h>

namespace halfstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhat = "a file of events";
constexpr std::size_t kBuckets = 64;

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0 || name[0] == 0) return "localhost";
  std::string result(name.data());
  std::replace(result.begin(), result.end(), '/', '_');
  return result;
}

/// A name that no other file of the folder has. TensorBoard reads the files of a folder in the order of their names.
fs::path free_name(const fs::path& folder) {
  std::error_code none;
  for (int number = 0;; ++number) {
    fs::path path =
        folder / fmt::format("events.out.tfevents.{:010}.{}.{}.{}", static_cast<std::int64_t>(seconds_since_1970()),
                             host_name(), ::getpid(), number);
    if (!fs::exists(path, none)) return path;
  }
}

template <class Word>
void append_little(std::string& out, Word word) {
  for (std::size_t i = 0; i < sizeof word; ++i) out += static_cast<char>(word >> (8 * i) & 0xff);
}

/// A record of a TFRecord file: length, its check sum, the content, its check sum.
void append_record(std::string& out, std::string_view content) {
  const std::size_t begin = out.size();
  append_little(out, std::uint64_t{content.size()});
  append_little(out, masked_crc32c(std::string_view(out).substr(begin)));
  out += content;
  append_little(out, masked_crc32c(content));
}

/// False where no value is finite.
bool fill(events::Histogram& histogram, std::span<const float> values) {
  double lowest = INFINITY, highest = -INFINITY, sum = 0, squares = 0;
  std::int64_t count = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const double v = value;
    lowest = std::min(lowest, v);
    highest = std::max(highest, v);
    sum += v;
    squares += v * v;
    ++count;
  }
  if (count == 0) return false;
  histogram.set_min(lowest);
  histogram.set_max(highest);
  histogram.set_num(static_cast<double>(count));
  histogram.set_sum(sum);
  histogram.set_sum_squares(squares);
  const std::size_t buckets = lowest < highest ? kBuckets : 1;
  const double width = (highest - lowest) / static_cast<double>(buckets);
  std::array<double, kBuckets> counts{};
  for (const float value : values) {
    if (!std::isfinite(value)) continue;
    const auto at = width > 0 ? static_cast<std::size_t>((value - lowest) / width) : 0;
    ++counts[std::min(at, buckets - 1)];
  }
  for (std::size_t i = 0; i < buckets; ++i) {
    histogram.add_bucket_limit(i + 1 == buckets ? highest : lowest + width * static_cast<double>(i + 1));
    histogram.add_bucket(counts[i]);
  }
  return true;
}

}  // namespace

void prepare_event_folder(const fs::path& folder) {
  make_folder(folder, "a folder for events");
  check_writable(free_name(folder));
}

class EventWriter::Impl {
 public:
  Impl(const fs::path& folder, std::int64_t steps) : file_(kWhat, free_name(folder), O_EXCL) {
    event_.set_file_version("brain.Event:2");
    write(0);
    if (steps > 0) {
      event_.mutable_session_log()->set_status(events::SessionLog::START);
      write(steps + 1);
    }
    file_.flush();
  }

  void scalars(std::int64_t step, std::string_view prefix, std::span<const NamedValue> values) {
    events::Summary& summary = *event_.mutable_summary();
    summary.clear_value();
    for (const NamedValue& value : values) {
      events::Summary::Value& added = *summary.add_value();
      std::string& tag = *added.mutable_tag();
      tag.assign(prefix);
      tag += '/';
      tag += value.name;
      added.set_simple_value(static_cast<float>(value.value));
    }
    write(step);
  }

  void histogram(std::int64_t step, const std::string& tag, const Tensor& values) {
    if (!is_float(values.dtype())) return;
    const Tensor floats = values.dtype() == DType::f32 ? values : convert(values, DType::f32);
    events::Summary& summary = *event_.mutable_summary();
    summary.clear_value();
    events::Summary::Value& added = *summary.add_value();
    added.set_tag(tag);
    if (fill(*added.mutable_histo(), {floats.data<float>(), static_cast<std::size_t>(floats.count())})) write(step);
  }

  AppendedFile& file() { return file_; }

 private:
  void write(std::int64_t step) {
    event_.set_wall_time(seconds_since_1970());
    event_.set_step(step);
    content_.clear();
    event_.AppendToString(&content_);
    record_.clear();
    append_record(record_, content_);
    file_.append(record_);
  }

  AppendedFile file_;
  events::Event event_;
  std::string content_, record_;
};

EventWriter::EventWriter(const fs::path& folder, std::int64_t steps) : impl_(std::make_unique<Impl>(folder, steps)) {}
EventWriter::~EventWriter() = default;
const fs::path& EventWriter::path() const { return impl_->file().path(); }
void EventWriter::scalars(std::int64_t step, std::string_view prefix, std::span<const NamedValue> values) {
  impl_->scalars(step, prefix, values);
}
void EventWriter::histogram(std::int64_t step, const std::string& tag, const Tensor& values) {
  impl_->histogram(step, tag, values);
}
void EventWriter::flush() { impl_->file().flush(); }
void EventWriter::close() { impl_->file().close(); }

}  // namespace halfstep
