// See trees.hpp.
#include "inference/trees.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "base/exact.hpp"

namespace edgecore::inference {
namespace {

constexpr std::uint16_t kLast = std::numeric_limits<std::uint16_t>::max();

// How many of the ascending `thresholds` a value is right of.
template <bool kLess, typename U>
std::uint16_t rank_of(U value, const U* thresholds, std::size_t count) {
  const auto beyond = [value](U threshold) {
    return kLess ? threshold <= value : threshold < value;
  };
  if (count == 0) return 0;
  const U* at = thresholds;
  for (std::size_t rest = count; rest > 1;) {
    const std::size_t half = rest / 2;
    at += half & (std::size_t{0} - std::size_t{beyond(at[half - 1])});  // no jump
    rest -= half;
  }
  return static_cast<std::uint16_t>(at - thresholds + (beyond(*at) ? 1 : 0));
}

}  // namespace

template <typename T, typename U>
void TreeEnsemble::rank_all(const T* row, const std::vector<U>& thresholds,
                            std::uint16_t* ranks) const {
  for (std::size_t f = 0; f < features_; ++f) {
    const U value = static_cast<U>(row[f]);
    const U* from = thresholds.data() + first_[f];
    const std::size_t count = first_[f + 1] - first_[f];
    if (value != value) {
      ranks[2 * f] = 0;
      ranks[2 * f + 1] = kLast;
    } else {
      const std::uint16_t rank =
          less_ ? rank_of<true>(value, from, count) : rank_of<false>(value, from, count);
      ranks[2 * f] = ranks[2 * f + 1] = rank;
    }
  }
}

// A walk that has reached a leaf stays there: its rank 0 is never above a value's, and its right
// child is itself. So trees of unlike depths go side by side, which hides the wait for memory.
template <typename V>
void TreeEnsemble::add_leaves(const std::vector<V>& leaves, const std::uint16_t* ranks,
                              V* sums) const {
  const Node* nodes = nodes_.data();
  for (std::size_t first = 0; first < roots_.size(); first += kTreeLanes) {
    const std::size_t lanes = std::min(kTreeLanes, roots_.size() - first);
    std::array<std::uint32_t, kTreeLanes> at{};
    std::uint32_t depth = 0;
    for (std::size_t i = 0; i < kTreeLanes; ++i) {
      at[i] = roots_[first + std::min(i, lanes - 1)];
      depth = std::max(depth, depths_[first + std::min(i, lanes - 1)]);
    }
    for (std::uint32_t step = 0; step < depth; ++step) {
      for (std::size_t i = 0; i < kTreeLanes; ++i) {
        const Node node = nodes[at[i]];
        // All ones where the rank is at least the node's: compilers make a conditional a jump.
        const std::int32_t below = std::int32_t{ranks[node.slot]} - node.rank;
        at[i] += 1 + (node.skip & ~static_cast<std::uint32_t>(below >> 31));
      }
    }
    for (std::size_t i = 0; i < lanes; ++i) {
      const V* leaf = leaves.data() + leaf_of_[at[i]];
      V* to = sums + target_[first + i];
      for (std::size_t k = 0; k < leaf_width_; ++k) to[k] += leaf[k];
    }
  }
}

template <typename T>
void TreeEnsemble::margins(const T* row, double* out, TreeScratch& scratch) const {
  std::uint16_t* ranks = scratch.ranks.data();
  if (!thresholds_f64_.empty())
    rank_all(row, thresholds_f64_, ranks);
  else
    rank_all(row, thresholds_f32_, ranks);
  if (leaves_f32_.empty()) {
    std::copy(base_.begin(), base_.end(), out);
    add_leaves(leaves_f64_, ranks, out);
  } else {
    float* sums = scratch.sums.data();
    for (std::size_t k = 0; k < base_.size(); ++k) sums[k] = static_cast<float>(base_[k]);
    add_leaves(leaves_f32_, ranks, sums);
    std::copy(sums, sums + base_.size(), out);
  }
  if (divisor_ != 1.0)
    for (std::size_t k = 0; k < base_.size(); ++k) out[k] /= divisor_;
}

template void TreeEnsemble::margins(const double*, double*, TreeScratch&) const;
template void TreeEnsemble::margins(const float*, double*, TreeScratch&) const;

template <typename T>
Status TreeEnsemble::margins_batch(std::span<const T> rows, std::span<double> out,
                                   TreeScratch& scratch) const {
  const std::size_t count = out.size() / outputs();
  if (out.size() % outputs() != 0 || rows.size() % features_ != 0 ||
      rows.size() / features_ != count)
    return Status::invalid("tree ensemble: rows of " + std::to_string(features_) +
                           " values are needed, got " + std::to_string(rows.size()) +
                           " values for " + std::to_string(count) + " rows");
  prepare(scratch);
  for (std::size_t i = 0; i < count; ++i)
    margins(rows.data() + i * features_, out.data() + i * outputs(), scratch);
  return Status::ok();
}

template Status TreeEnsemble::margins_batch(std::span<const double>, std::span<double>,
                                            TreeScratch&) const;
template Status TreeEnsemble::margins_batch(std::span<const float>, std::span<double>,
                                            TreeScratch&) const;

void TreeEnsemble::prepare(TreeScratch& scratch) const {
  if (scratch.ranks.size() < 2 * features_) scratch.ranks.resize(2 * features_);
  if (scratch.sums.size() < base_.size()) scratch.sums.resize(base_.size());
}

std::size_t TreeEnsemble::memory_bytes() const {
  return nodes_.size() * (sizeof(Node) + sizeof(std::uint32_t)) +
         thresholds_f32_.size() * sizeof(float) + thresholds_f64_.size() * sizeof(double) +
         leaves_f32_.size() * sizeof(float) + leaves_f64_.size() * sizeof(double) +
         roots_.size() * 10 + first_.size() * 4 + base_.size() * 8;
}

double isolation_score(double margin) {
  return exact_exp2(-margin);
}

}  // namespace edgecore::inference
