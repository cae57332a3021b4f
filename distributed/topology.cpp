#include "distributed/topology.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sched.h>
#include <unistd.h>

#include "distributed/gather.h"

namespace halfstep {

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

RankPlace own_place() {
  RankPlace place{.host = host_name(), .cores = {}};
  std::array<cpu_set_t, 64> cores{};  // one has 1024, and a machine may have more
  if (sched_getaffinity(0, sizeof cores, cores.data()) != 0) return place;
  for (int core = 0; core < 64 * CPU_SETSIZE; ++core)
    if (CPU_ISSET_S(static_cast<std::size_t>(core), sizeof cores, cores.data())) place.cores.push_back(core);
  return place;
}

std::vector<RankPlace> places_of(Communicator& ranks) {
  const RankPlace own = own_place();
  const nlohmann::json text{{"host", own.host}, {"cores", own.cores}};
  std::vector<RankPlace> places;
  for (const std::string& each : gather(ranks, text.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace))) {
    const nlohmann::json one = nlohmann::json::parse(each);
    places.push_back({one.at("host").get<std::string>(), one.at("cores").get<std::vector<int>>()});
  }
  return places;
}

int share_cores(Communicator* ranks, int wanted) {
  if (!ranks) return wanted;
  const std::vector<RankPlace> places = places_of(*ranks);
  if (wanted != 0) return wanted;
  const RankPlace& own = places[static_cast<std::size_t>(ranks->rank())];
  return std::max(1, static_cast<int>(own.cores.size()) / static_cast<int>(std::ranges::count(places, own)));
}

std::string cores_text(const std::vector<int>& cores) {
  std::string text;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t end = i + 1;
    while (end < cores.size() && cores[end] == cores[end - 1] + 1) ++end;
    text += text.empty() ? "" : ",";
    text += end - i == 1 ? fmt::format("{}", cores[i]) : fmt::format("{}-{}", cores[i], cores[end - 1]);
    i = end;
  }
  return text.empty() ? "none" : text;
}

}  // namespace halfstep
