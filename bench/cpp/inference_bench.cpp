// One side of an inference comparison as a worker of bench/pair.py, without Python in its process:
//
//     inference_bench native|litert MODEL LIBRARY        answers {"run": n} lines, as worker.py
//     inference_bench native|litert MODEL LIBRARY rss    prints bytes of memory that a model adds
//
// Both sides run the same fixed inputs, one row a call, through the same interface. The checksum
// covers every output of those inputs, so sides that differ in one bit are refused.
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "base/crc32c.hpp"
#include "inference/litert.hpp"
#include "inference/model.hpp"

namespace {

using namespace edgecore;

constexpr std::size_t kInputs = 16;

std::int64_t now_ns(clockid_t clock) {
  timespec at{};
  ::clock_gettime(clock, &at);
  return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

std::int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::int64_t total = 0;
  std::int64_t resident = 0;
  file >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

Bytes read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteSpan bytes = as_byte_span(text);
  return {bytes.begin(), bytes.end()};
}

class Side {
 public:
  Side(const std::string& name, const char* path, const std::string& library) {
    const Bytes file = read_file(path);
    auto made = name == "native" ? inference::load_native(file, inference::Profile::kLitertSingle)
                                 : inference::load_litert(file, library);
    if (!made.is_ok()) {
      std::fprintf(stderr, "%s\n", made.status().to_string().c_str());
      std::exit(1);
    }
    model_ = std::move(made).value();
    std::uint32_t state = 20;  // the seed: a linear congruential sequence, the same on every side
    in_.resize(kInputs * model_->input_size());
    for (auto& code : in_) {
      state = state * 1664525U + 1013904223U;
      code = static_cast<std::int8_t>(state >> 24);
    }
    out_.resize(model_->output_size());
  }
  void run(std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) run_input(static_cast<std::size_t>(i) % kInputs);
  }
  std::uint32_t checksum() {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < kInputs; ++i) {
      run_input(i);
      sum = crc32c(std::as_bytes(std::span(out_)), sum);
    }
    return sum;
  }
  std::string name() const { return model_->describe().backend + " " + model_->describe().isa; }

 private:
  void run_input(std::size_t i) {
    const auto status = model_->run(in_.data() + i * model_->input_size(), out_.data(), scratch_);
    if (!status.is_ok()) std::exit(1);
  }

  std::shared_ptr<const inference::Executor> model_;
  std::vector<std::int8_t> in_;
  std::vector<std::int8_t> out_;
  inference::Scratch scratch_;
};

int serve(Side& side) {
  std::printf("{\"ready\": true, \"version\": \"%s\"}\n", side.name().c_str());
  std::fflush(stdout);
  char line[256];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    long long count = 0;
    if (std::sscanf(line, "{\"run\": %lld}", &count) != 1) return 2;
    const std::int64_t wall = now_ns(CLOCK_MONOTONIC);
    const std::int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    side.run(count);
    const std::int64_t cpu_spent = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    const std::int64_t wall_spent = now_ns(CLOCK_MONOTONIC) - wall;
    std::printf("{\"cpu_ns\": %lld, \"wall_ns\": %lld, \"checksum\": %u}\n",
                static_cast<long long>(cpu_spent), static_cast<long long>(wall_spent),
                side.checksum());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: inference_bench native|litert MODEL LIBRARY [rss]\n");
    return 2;
  }
  const std::int64_t before = resident_bytes();
  Side side(argv[1], argv[2], argv[3]);
  if (argc == 4) return serve(side);
  side.run(kInputs);
  std::printf("%lld\n", static_cast<long long>(resident_bytes() - before));
  return 0;
}
