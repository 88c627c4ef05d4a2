// One side of an inference comparison as a worker of bench/pair.py, without Python in its process:
//
//     inference_bench SIDE MODEL LIBRARY INPUTS EXPECTED WITHIN   answers {"run": n} lines
//     inference_bench SIDE MODEL LIBRARY INPUTS outputs           writes the outputs of the inputs
//     inference_bench SIDE MODEL LIBRARY INPUTS rss               prints bytes that a model adds
//     inference_bench peak                                        prints multiply-adds a second
//
// SIDE is native, native-avx2, native-batch (256 rows a call), litert, or litert-avx2 (in a process
// whose cpuid hides what is newer). INPUTS and EXPECTED are files of int8 rows. A run is one row
// through one interface. The checksum is that of EXPECTED when every output lies within WITHIN
// codes of it, else of the outputs: so a side that computes something else is refused.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/crc32c.hpp"
#include "driver.hpp"
#include "inference/litert.hpp"
#include "inference/model.hpp"
#include "masked_cpuid.hpp"
#include "peak.hpp"

namespace {

using namespace edgecore;
using bench::end;
using bench::read_file;

constexpr std::size_t kBatch = 256;

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

class Side {
 public:
  Side(const std::string& name, const char* path, const std::string& library, Bytes inputs)
      : in_(std::move(inputs)), batch_(name == "native-batch" ? kBatch : 1) {
    if (name == "litert-avx2" && !bench::mask_cpuid())
      end("this processor, or what it runs under, can't hide instructions");
    const Bytes file = read_file(path);
    const auto isa = name == "native-avx2" ? inference::Isa::kAvx2 : inference::Isa::kBest;
    auto made = name.starts_with("native")
                    ? inference::load_native(file, inference::Profile::kLitertSingle, isa)
                    : inference::load_litert(file, library);
    if (!made.is_ok()) end(made.status().to_string());
    model_ = std::move(made).value();
    rows_ = in_.size() / model_->input_size();
    if (rows_ == 0) end("no inputs");
    const std::size_t once = in_.size();
    while (in_.size() < batch_ * model_->input_size())
      in_.insert(in_.end(), in_.begin(), in_.begin() + static_cast<std::ptrdiff_t>(once));
    out_.resize(batch_ * model_->output_size());
  }
  void expect(const char* path, int within) {
    expected_ = read_file(path);
    within_ = within;
  }
  void run(std::int64_t count) {
    std::size_t left = static_cast<std::size_t>(count);
    if (batch_ > 1)
      for (; left > 0; left -= std::min(left, batch_)) call(0, std::min(left, batch_));
    for (std::size_t i = 0; i < left; ++i) call(i % rows_, 1);
  }
  void run_inputs() { run(static_cast<std::int64_t>(rows_)); }
  Bytes outputs() {
    Bytes all;
    for (std::size_t i = 0; i < rows_; ++i) {
      call(i, 1);
      const auto bytes = std::as_bytes(std::span(out_).first(model_->output_size()));
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }
  std::uint32_t checksum() {
    const Bytes found = outputs();
    const auto apart = [](std::byte a, std::byte b) {
      return std::abs(static_cast<std::int8_t>(a) - static_cast<std::int8_t>(b));
    };
    bool near = found.size() == expected_.size();
    for (std::size_t i = 0; near && i < found.size(); ++i)
      near = apart(found[i], expected_[i]) <= within_;
    return crc32c(near ? expected_ : found, 0);
  }
  std::string name() const { return model_->describe().backend + " " + model_->describe().isa; }

 private:
  void call(std::size_t row, std::size_t count) {
    const auto* from =
        reinterpret_cast<const std::int8_t*>(in_.data()) + row * model_->input_size();
    const auto status = batch_ > 1 ? model_->run_batch(from, out_.data(), count, scratch_)
                                   : model_->run(from, out_.data(), scratch_);
    if (!status.is_ok()) end(status.to_string());
  }

  std::shared_ptr<const inference::Executor> model_;
  Bytes in_;
  Bytes expected_;
  std::vector<std::int8_t> out_;
  std::size_t rows_ = 0;
  std::size_t batch_;
  int within_ = 0;
  inference::Scratch scratch_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "peak") == 0) {
    std::printf("{\"vnni\": %.0f, \"avx2\": %.0f}\n", bench::peak_vnni(), bench::peak_avx2());
    return 0;
  }
  if (argc < 6) end("usage: inference_bench SIDE MODEL LIBRARY INPUTS EXPECTED|outputs|rss WITHIN");
  Bytes inputs = read_file(argv[4]);
  const std::int64_t before = resident_bytes();
  Side side(argv[1], argv[2], argv[3], std::move(inputs));
  if (argc == 7) {
    side.expect(argv[5], std::atoi(argv[6]));
    return bench::serve(
        side.name(), [&](long long count) { side.run(count); }, [&] { return side.checksum(); });
  }
  if (std::strcmp(argv[5], "outputs") == 0) {
    const Bytes all = side.outputs();
    std::fwrite(all.data(), 1, all.size(), stdout);
    return 0;
  }
  side.run_inputs();
  std::printf("%lld\n", static_cast<long long>(resident_bytes() - before));
  return 0;
}
