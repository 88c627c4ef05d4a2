// One side of a comparison of tree ensembles as a worker of bench/pair.py, one row a call:
//
//     trees_bench native MODEL ROWS EXPECTED WITHIN     answers {"run": n} lines
//     trees_bench compiled LIBRARY ROWS EXPECTED WITHIN
//
// MODEL is a tree ensemble of one output, LIBRARY what tl2cgen compiled of the same trees: its
// `predict` is called as its header says, with the row copied into its entries. ROWS is a file of
// f32 rows, EXPECTED one of their f64 margins. The checksum is that of EXPECTED when every margin
// lies within WITHIN of it, else of the margins: so a side that computes something else is refused.
#include <dlfcn.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/crc32c.hpp"
#include "driver.hpp"
#include "inference/trees.hpp"

namespace {

using namespace edgecore;
using bench::end;
using bench::read_file;

union Entry {  // of the header that tl2cgen writes
  int missing;
  float fvalue;
  int qvalue;
};

class Side {
 public:
  virtual ~Side() = default;
  virtual std::size_t features() const = 0;
  virtual double margin(const float* row) = 0;
};

class Native : public Side {
 public:
  explicit Native(const char* path) : model_(load(path)) { model_.prepare(scratch_); }
  std::size_t features() const override { return model_.features(); }
  double margin(const float* row) override {
    double out = 0;
    model_.margins(row, &out, scratch_);
    return out;
  }

 private:
  static inference::TreeEnsemble load(const char* path) {
    auto made = inference::TreeEnsemble::load(read_file(path));
    if (!made.is_ok()) end(made.status().to_string());
    if (made->outputs() != 1) end("a model of one output is needed");
    return std::move(made).value();
  }
  inference::TreeEnsemble model_;
  inference::TreeScratch scratch_;
};

class Compiled : public Side {
 public:
  explicit Compiled(const char* path) {
    void* library = ::dlopen(path, RTLD_NOW);
    if (library == nullptr) end(::dlerror());
    predict_ = reinterpret_cast<Predict>(::dlsym(library, "predict"));
    const auto count = reinterpret_cast<Count>(::dlsym(library, "get_num_feature"));
    if (predict_ == nullptr || count == nullptr) end("not what tl2cgen compiles");
    entries_.resize(static_cast<std::size_t>(count()));
  }
  std::size_t features() const override { return entries_.size(); }
  double margin(const float* row) override {
    for (std::size_t f = 0; f < entries_.size(); ++f) {
      if (std::isnan(row[f]))
        entries_[f].missing = -1;
      else
        entries_[f].fvalue = row[f];
    }
    float out = 0;
    predict_(entries_.data(), 1, &out);
    return out;
  }

 private:
  using Predict = void (*)(Entry*, int, float*);
  using Count = std::int32_t (*)();
  Predict predict_ = nullptr;
  std::vector<Entry> entries_;
};

template <typename T>
std::vector<T> values_of(const char* path) {
  const Bytes bytes = read_file(path);
  std::vector<T> out(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = load_le<T>(bytes.data() + i * sizeof(T));
  return out;
}

std::uint32_t checksum(const std::vector<double>& found, const std::vector<double>& expected,
                       double within) {
  bool near = found.size() == expected.size();
  for (std::size_t i = 0; near && i < found.size(); ++i)
    near = std::abs(found[i] - expected[i]) <= within;
  return crc32c(std::as_bytes(std::span(near ? expected : found)));
}

int serve(Side& side, char** files) {
  const auto rows = values_of<float>(files[0]);
  const auto expected = values_of<double>(files[1]);
  const double within = std::atof(files[2]);
  const std::size_t known = rows.size() / side.features();
  if (known == 0) end("no rows");
  std::vector<double> out(known);
  const auto run = [&](long long count) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
      out[i % known] = side.margin(rows.data() + i % known * side.features());
  };
  return bench::serve("", run, [&] {
    run(static_cast<long long>(known));
    return checksum(out, expected, within);
  });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) end("usage: trees_bench native|compiled MODEL ROWS EXPECTED WITHIN");
  if (std::string(argv[1]) == "compiled") {
    Compiled side(argv[2]);
    return serve(side, argv + 3);
  }
  Native side(argv[2]);
  return serve(side, argv + 3);
}
