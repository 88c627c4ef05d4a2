// The bytes of docs/formats/tree-ensemble.md, checked whole before anything is taken on their word.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/crc32c.hpp"
#include "inference/trees.hpp"

namespace edgecore::inference {
namespace {

constexpr std::uint32_t kMagic = 0x45544345;  // "ECTE"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kHeaderBytes = 48;

Status damaged(const std::string& what) {
  return Status::corrupt("tree ensemble: " + what);
}

struct Header {
  std::uint8_t not_above = 0, isolation = 0, wide_inputs = 0, wide_leaves = 0;
  std::uint16_t leaf_width = 0;
  std::uint32_t features = 0, outputs = 0, trees = 0, splits = 0, thresholds = 0;
  double divisor = 1.0;

  std::uint32_t leaves() const { return splits + trees; }
  std::uint64_t file_bytes() const {
    return kHeaderBytes + std::uint64_t{8} * outputs + std::uint64_t{2} * features +
           std::uint64_t{wide_inputs ? 8U : 4U} * thresholds + std::uint64_t{2} * trees +
           std::uint64_t{4} * splits + std::uint64_t{2} * leaves() +
           std::uint64_t{wide_leaves ? 8U : 4U} * leaves() * leaf_width + 4;
  }
};

Result<Header> header_of(ByteReader& reader) {
  Header h;
  std::uint32_t magic = 0, required = 0, optional = 0;
  std::uint16_t version = 0;
  if (!reader.take(magic) || magic != kMagic) return damaged("no such file");
  if (!reader.take(version)) return damaged("cut off in the header");
  if (version != kVersion)
    return Status::incompatible("tree ensemble: version " + std::to_string(version) +
                                ", this build reads 1");
  if (!reader.take(h.not_above) || !reader.take(h.isolation) || !reader.take(required) ||
      !reader.take(optional) || !reader.take(h.wide_inputs) || !reader.take(h.wide_leaves) ||
      !reader.take(h.leaf_width) || !reader.take(h.features) || !reader.take(h.outputs) ||
      !reader.take(h.trees) || !reader.take(h.splits) || !reader.take(h.thresholds) ||
      !reader.take(h.divisor))
    return damaged("cut off in the header");
  if (required != 0)
    return Status::incompatible("tree ensemble: needs features that this build does not have");
  if (h.not_above > 1 || h.isolation > 1 || h.wide_inputs > 1 || h.wide_leaves > 1)
    return damaged("an unknown kind");
  if (h.features > kTreeFeaturesMax || h.outputs > kTreeOutputsMax || h.trees > kTreesMax ||
      h.splits > kTreeSplitsMax)
    return Status::incompatible("tree ensemble: " + std::to_string(h.features) + " features, " +
                                std::to_string(h.outputs) + " outputs, " + std::to_string(h.trees) +
                                " trees, " + std::to_string(h.splits) +
                                " splits are more than this build holds");
  if (h.features == 0 || h.outputs == 0 || h.trees == 0 ||
      (h.leaf_width != 1 && h.leaf_width != h.outputs) || (h.isolation && h.outputs != 1) ||
      !std::isfinite(h.divisor) || h.divisor <= 0)
    return damaged("sizes that no model has");
  return h;
}

}  // namespace

class TreeEnsemble::Reader {
 public:
  Reader(ByteReader& reader, const Header& header, TreeEnsemble& made)
      : reader_(reader), header_(header), made_(made) {}

  Status read_all() {
    EDGECORE_TRY(read_base());
    EDGECORE_TRY(read_counts());
    EDGECORE_TRY(header_.wide_inputs ? read_thresholds(made_.thresholds_f64_)
                                     : read_thresholds(made_.thresholds_f32_));
    EDGECORE_TRY(read_targets());
    made_.nodes_.reserve(header_.splits + header_.leaves());
    made_.leaf_of_.reserve(header_.splits + header_.leaves());
    made_.roots_.reserve(header_.trees);
    made_.depths_.reserve(header_.trees);
    for (std::uint32_t t = 0; t < header_.trees; ++t) EDGECORE_TRY(read_tree());
    if (splits_ != header_.splits) return damaged("trees of other sizes than the header says");
    EDGECORE_TRY(count_steps());
    return header_.wide_leaves ? read_leaves(made_.leaves_f64_) : read_leaves(made_.leaves_f32_);
  }

 private:
  Status read_base() {
    made_.base_.resize(header_.outputs);
    for (double& value : made_.base_)
      if (!reader_.take(value) || !std::isfinite(value)) return damaged("a base that is no number");
    return Status::ok();
  }

  Status read_counts() {
    made_.first_.reserve(header_.features + 1);
    std::uint32_t sum = 0;
    for (std::uint32_t f = 0; f < header_.features; ++f) {
      std::uint16_t count = 0;
      if (!reader_.take(count) || count == 0xFFFF) return damaged("a count of thresholds");
      made_.first_.push_back(sum);
      sum += count;
    }
    made_.first_.push_back(sum);
    return sum == header_.thresholds ? Status::ok() : damaged("thresholds that no feature has");
  }

  template <typename U>
  Status read_thresholds(std::vector<U>& thresholds) {
    thresholds.resize(header_.thresholds);
    for (U& value : thresholds)
      if (!reader_.take(value) || std::isnan(value)) return damaged("a threshold is no number");
    for (std::uint32_t f = 0; f < header_.features; ++f)
      for (std::uint32_t i = made_.first_[f] + 1; i < made_.first_[f + 1]; ++i)
        if (!(thresholds[i - 1] < thresholds[i])) return damaged("thresholds that do not ascend");
    return Status::ok();
  }

  Status read_targets() {
    made_.target_.resize(header_.trees);
    for (std::uint16_t& target : made_.target_) {
      if (!reader_.take(target)) return damaged("cut off");
      if (target >= header_.outputs || (header_.leaf_width > 1 && target != 0))
        return damaged("a tree of an output that is not there");
    }
    return Status::ok();
  }

  // A tree in preorder: its shape follows from which nodes are leaves, so there is no reference
  // that could lead back or astray.
  Status read_tree() {
    made_.roots_.push_back(static_cast<std::uint32_t>(made_.nodes_.size()));
    pending_.clear();
    std::uint32_t depth = 0, deepest = 0;
    while (true) {
      const auto at = static_cast<std::uint32_t>(made_.nodes_.size());
      std::uint16_t rank = 0, slot = 0;
      if (!reader_.take(rank)) return damaged("cut off in a tree");
      if (rank != 0) {
        if (!reader_.take(slot) || ++splits_ > header_.splits) return damaged("too large a tree");
        const std::uint32_t feature = slot >> 1U;
        if (feature >= header_.features || rank > made_.first_[feature + 1] - made_.first_[feature])
          return damaged("a split on what is not there");
        made_.nodes_.push_back({slot, rank, 0});
        made_.leaf_of_.push_back(0);
        pending_.push_back({at, ++depth});
        deepest = std::max(deepest, depth);
        continue;
      }
      made_.nodes_.push_back({0, 0, 0xFFFFFFFF});
      made_.leaf_of_.push_back(leaves_++ * header_.leaf_width);
      if (pending_.empty()) break;
      made_.nodes_[pending_.back().at].skip = at - pending_.back().at;
      depth = pending_.back().depth;
      pending_.pop_back();
    }
    made_.depths_.push_back(deepest);
    return Status::ok();
  }

  Status count_steps() {
    std::uint64_t steps = 0;
    for (std::size_t first = 0; first < made_.depths_.size(); first += kTreeLanes) {
      const std::size_t end = std::min(first + kTreeLanes, made_.depths_.size());
      std::uint32_t depth = 0;
      for (std::size_t t = first; t < end; ++t) depth = std::max(depth, made_.depths_[t]);
      steps += std::uint64_t{depth} * kTreeLanes;
    }
    if (steps > kTreeStepsMax)
      return Status::incompatible("tree ensemble: " + std::to_string(steps) +
                                  " comparisons a row are more than " +
                                  std::to_string(kTreeStepsMax));
    made_.steps_ = static_cast<std::uint32_t>(steps);
    return Status::ok();
  }

  template <typename V>
  Status read_leaves(std::vector<V>& leaves) {
    leaves.resize(std::size_t{header_.leaves()} * header_.leaf_width);
    for (V& value : leaves)
      if (!reader_.take(value) || !std::isfinite(value)) return damaged("a leaf is no number");
    return Status::ok();
  }

  struct Pending {  // a split whose right child comes after its left one
    std::uint32_t at, depth;
  };
  ByteReader& reader_;
  const Header& header_;
  TreeEnsemble& made_;
  std::vector<Pending> pending_;
  std::uint32_t splits_ = 0, leaves_ = 0;
};

Result<TreeEnsemble> TreeEnsemble::load(ByteSpan bytes) {
  if (bytes.size() > kTreeBytesMax)
    return Status::incompatible("tree ensemble: " + std::to_string(bytes.size()) +
                                " bytes are more than " + std::to_string(kTreeBytesMax));
  ByteReader reader(bytes);
  EDGECORE_ASSIGN(const Header header, header_of(reader));
  if (header.file_bytes() != bytes.size())
    return damaged(std::to_string(bytes.size()) + " bytes, its header says " +
                   std::to_string(header.file_bytes()));
  if (crc32c(bytes.first(bytes.size() - 4)) !=
      load_le<std::uint32_t>(bytes.data() + bytes.size() - 4))
    return damaged("its checksum does not agree");
  TreeEnsemble made;
  made.features_ = header.features;
  made.leaf_width_ = header.leaf_width;
  made.less_ = header.not_above == 0;
  made.isolation_ = header.isolation != 0;
  made.divisor_ = header.divisor;
  Reader whole(reader, header, made);
  EDGECORE_TRY(whole.read_all());
  return made;
}

}  // namespace edgecore::inference
