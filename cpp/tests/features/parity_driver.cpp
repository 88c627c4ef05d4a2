// What one build answers, for tests/features/parity_matrix.py:
//
//     parity_driver paths ROWS RUNS      its own paths against its stream
//     parity_driver write ROWS RUNS      the stream's answers, to standard output
//     parity_driver against ROWS RUNS    the stream against what another build has written
//
// Results are lines of words: path, feature, differing bits, answers compared.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "parity_matrix.hpp"

namespace edgecore::features::matrix {
namespace {

constexpr std::size_t kRestoreEvery = 251;
constexpr std::size_t kCuts = 3;

void add(const Difference& from, Difference& to) {
  to.bits.resize(from.bits.size());
  for (std::size_t i = 0; i < from.bits.size(); ++i) to.bits[i] += from.bits[i];
  to.compared += from.compared;
}

void print(const char* path, const Difference& difference, const ViewSpec& view) {
  const std::uint64_t each = difference.compared / view.features.size();
  for (std::size_t i = 0; i < difference.bits.size(); ++i)
    std::printf("%s %s %llu %llu\n", path, view.features[i].name.c_str(),
                static_cast<unsigned long long>(difference.bits[i]),
                static_cast<unsigned long long>(each));
}

int fail(const Status& status) {
  std::fprintf(stderr, "%s\n", status.to_string().c_str());
  return 1;
}

int run_paths(std::size_t rows, std::uint64_t runs) {
  Difference batch, restore, cut;
  std::set<std::uint64_t> ages;
  for (std::uint64_t run = 0; run < runs; ++run) {
    auto found = replay_all(rows, kRestoreEvery, kCuts, run);
    if (!found.is_ok()) return fail(found.status());
    add(found.value().batch, batch);
    add(found.value().restore, restore);
    add(found.value().cut, cut);
    collect_ages(found.value(), ages);
  }
  print("batch", batch, view());
  print("restore", restore, view());
  print("cut", cut, view());
  std::printf("ages %zu\n", ages.size());
  return 0;
}

template <typename T>
bool take(std::vector<T>& out) {
  return std::fread(out.data(), sizeof(T), out.size(), stdin) == out.size();
}
template <typename T>
bool give(const std::vector<T>& from) {
  return std::fwrite(from.data(), sizeof(T), from.size(), stdout) == from.size();
}

int run_stream(std::size_t rows, std::uint64_t runs, bool write) {
  Difference difference;
  for (std::uint64_t run = 0; run < runs; ++run) {
    auto plan = make_plan(view(run), schema());
    if (!plan.is_ok()) return fail(plan.status());
    difference.bits.resize(plan.value()->width());
    Replay own;
    const Status status = replay(plan.value(), history(rows, run), 0, 0, own);
    if (!status.is_ok()) return fail(status);
    for (Found* found : {&own.at_row, &own.later}) {
      if (write) {
        if (!give(found->values) || !give(found->coverage) || !give(found->states) ||
            !give(found->reasons))
          return fail(Status::unavailable("the answers could not be written"));
        continue;
      }
      Found other;
      other.resize(found->values.size());
      if (!take(other.values) || !take(other.coverage) || !take(other.states) ||
          !take(other.reasons))
        return fail(Status::corrupt("the other build's answers are too few"));
      compare(*found, other, std::vector<std::uint8_t>(rows, 1), true, difference);
    }
  }
  if (!write) print("build", difference, view());
  return 0;
}

}  // namespace
}  // namespace edgecore::features::matrix

int main(int count, char** words) {
  using namespace edgecore::features::matrix;
  if (count != 4) return 2;
  const std::size_t rows = std::strtoull(words[2], nullptr, 10);
  const std::uint64_t runs = std::strtoull(words[3], nullptr, 10);
  if (std::strcmp(words[1], "paths") == 0) return run_paths(rows, runs);
  return run_stream(rows, runs, std::strcmp(words[1], "write") == 0);
}
