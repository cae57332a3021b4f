// Minimum cut of a flow network (Dinic's algorithm).
#pragma once

#include <cstdint>
#include <vector>

namespace halfstep {

class MinCut {
 public:
  static constexpr std::int64_t kInfinite = std::int64_t{1} << 40;
  static constexpr int kSource = 0, kSink = 1;

  int add_vertex();
  /// An arc that costs `capacity` when `from` ends on the source's side and `to` on the sink's.
  void add_arc(int from, int to, std::int64_t capacity);

  /// For each vertex whether it is on the source's side. Of all cheapest cuts the one with the largest source side.
  std::vector<bool> source_side();

 private:
  struct Arc {
    int to;
    std::int64_t capacity;
  };
  bool find_levels();
  std::int64_t push(int vertex, std::int64_t limit);

  std::vector<Arc> arcs_;  // arc i and its reverse i ^ 1
  std::vector<std::vector<int>> out_{2};
  std::vector<int> level_;
  std::vector<std::size_t> next_;
};

}  // namespace halfstep
