// Ensembles of decision trees: gradient boosting, random and isolation forests, whose margins are
// those of the library that trained them, to the bit. Converted by python/edgecore/trees.py; the
// bytes are specified in docs/formats/tree-ensemble.md.
//
// A feature's thresholds are sorted once per model, its value becomes a rank among them once per
// row, and nodes compare 16-bit ranks. What is missing (NaN) has two ranks, the lowest and the
// highest, and a node reads the one of its own default direction: walking a tree has no branch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/status.hpp"

namespace edgecore::inference {

constexpr std::size_t kTreeBytesMax = std::size_t{64} << 20;
constexpr std::uint32_t kTreesMax = 1U << 16;
constexpr std::uint32_t kTreeSplitsMax = 1U << 23;
constexpr std::uint32_t kTreeOutputsMax = 1024;
constexpr std::uint32_t kTreeFeaturesMax = 32767;
constexpr std::uint32_t kTreeStepsMax = 1U << 20;  // of one row: the time limit
constexpr std::size_t kTreeLanes = 8;              // trees that are walked side by side

// Working memory of one thread, for every ensemble.
struct TreeScratch {
  std::vector<std::uint16_t> ranks;
  std::vector<float> sums;
};

// Immutable after load(); threads may share it, each with its own scratch.
class TreeEnsemble {
 public:
  // Corrupt: bytes that fail their checksum or structure. Incompatible: a later version, unknown
  // features, or more than the limits above.
  static Result<TreeEnsemble> load(ByteSpan bytes);

  std::size_t features() const { return features_; }
  std::size_t outputs() const { return base_.size(); }
  std::size_t trees() const { return roots_.size(); }
  std::uint32_t steps() const { return steps_; }  // comparisons of a row, at most
  // An isolation forest: its margin is the mean path length over that of a random tree.
  bool isolation() const { return isolation_; }
  std::size_t memory_bytes() const;

  // Grows a scratch to what margins() needs; margins() then allocates nothing.
  void prepare(TreeScratch& scratch) const;
  // `row` holds features() values, NaN where one is missing; `out` takes outputs() margins, before
  // any link function. T: double or float.
  template <typename T>
  void margins(const T* row, double* out, TreeScratch& scratch) const;
  // Rows one after another; the same bits as one at a time. Invalid: spans of other sizes.
  template <typename T>
  Status margins_batch(std::span<const T> rows, std::span<double> out, TreeScratch& scratch) const;

 private:
  struct Node {
    std::uint16_t slot;  // 2 * feature, + 1 where a missing value goes right
    std::uint16_t rank;  // right when the value's rank is at least this; 0 at a leaf
    std::uint32_t skip;  // the left child is the next node, the right one this many behind it; at
                         // a leaf -1, so that it is its own right child
  };
  class Reader;
  TreeEnsemble() = default;
  template <typename T, typename U>
  void rank_all(const T* row, const std::vector<U>& thresholds, std::uint16_t* ranks) const;
  template <typename V>
  void add_leaves(const std::vector<V>& leaves, const std::uint16_t* ranks, V* sums) const;

  std::size_t features_ = 0;
  std::size_t leaf_width_ = 1;  // values of a leaf: 1, or one for each output
  bool less_ = false;           // left when less than the threshold; else when not above it
  bool isolation_ = false;
  double divisor_ = 1.0;  // of the sums
  std::uint32_t steps_ = 0;
  std::vector<double> base_;
  std::vector<std::uint32_t> first_;    // per feature, its first threshold; and the end
  std::vector<float> thresholds_f32_;   // one of the two is empty: inputs are rounded to f32 where
  std::vector<double> thresholds_f64_;  // the source library does so
  std::vector<std::uint32_t> roots_;    // per tree, in the order of the sum
  std::vector<std::uint16_t> target_;   // per tree, the output it adds to
  std::vector<std::uint32_t> depths_;   // per tree
  std::vector<Node> nodes_;             // trees one after another, each in preorder
  std::vector<std::uint32_t> leaf_of_;  // per node, its first leaf value
  std::vector<float> leaves_f32_;       // one of the two is empty: sums are of the same type
  std::vector<double> leaves_f64_;
};

// 2^-margin of an isolation forest: above 0.5, a row is easier to isolate than most.
double isolation_score(double margin);

}  // namespace edgecore::inference
