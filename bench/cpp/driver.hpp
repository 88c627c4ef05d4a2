// What every driver of bench/cpp has: an end with a reason, a file as bytes, and the protocol of
// bench/pair.py over standard input and output.
#pragma once

#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>

#include "base/bytes.hpp"

namespace edgecore::bench {

inline std::int64_t now_ns(clockid_t clock) {
  timespec at{};
  ::clock_gettime(clock, &at);
  return std::int64_t{at.tv_sec} * 1'000'000'000 + at.tv_nsec;
}

[[noreturn]] inline void end(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

inline Bytes read_file(const char* path) {  // in one block of its size: what is read is resident
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) end(std::string(path) + ": can't be read");
  Bytes bytes(static_cast<std::size_t>(file.tellg()));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// Answers {"run": n} lines until there are none; `run` takes n, and `checksum`, a u32, is not
// timed. Returns the exit status.
template <typename Run, typename Checksum>
int serve(const std::string& version, Run run, Checksum checksum) {
  std::printf("{\"ready\": true, \"version\": \"%s\"}\n", version.c_str());
  std::fflush(stdout);
  char line[256];
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    long long count = 0;
    if (std::sscanf(line, "{\"run\": %lld}", &count) != 1) return 2;
    const std::int64_t wall = now_ns(CLOCK_MONOTONIC);
    const std::int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    run(count);
    const std::int64_t cpu_spent = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    const std::int64_t wall_spent = now_ns(CLOCK_MONOTONIC) - wall;
    std::printf("{\"cpu_ns\": %lld, \"wall_ns\": %lld, \"checksum\": %u}\n",
                static_cast<long long>(cpu_spent), static_cast<long long>(wall_spent), checksum());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace edgecore::bench
