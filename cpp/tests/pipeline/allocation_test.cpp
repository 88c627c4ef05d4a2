// What an event costs in memory: what keeps it, and nothing of the path once it is warm.
// Not under sanitizers, which count with operators of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/pipeline/fixture.hpp"

namespace {
std::atomic<std::uint64_t> allocations{0};
}  // namespace

void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* found = std::malloc(size)) return found;
  std::abort();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(size);
}
void operator delete(void* at) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t) noexcept {
  std::free(at);
}

namespace edgecore::pipeline {
namespace {

using namespace edgecore::pipeline::testing;

TEST(PipelineAllocation, AThousandEventsOnlyGrowTheBuffersThatKeepThem) {
  Device device;
  ASSERT_TRUE(device.serve().is_ok());
  // Half an hour of readings in order, so that every window is full.
  RowBatch one(device.source);
  std::int64_t time = kStart;
  const auto send = [&](int count) {
    for (int i = 0; i < count; ++i) {
      one.clear();
      time += kSecond;
      const std::size_t row = one.add_row(time);
      one.set_bytes(row, 0, as_byte_span("a"));
      one.set_i64(row, 1, 20'000 + (time / kSecond) % 700);
      ASSERT_TRUE(device.process(one).is_ok());
    }
  };
  send(2'000);
  ASSERT_TRUE(device.log->sync().is_ok());
  const std::uint64_t before = allocations.load();
  send(1'000);
  // The log keeps these events until its next commit, the features keep them for a day: doublings
  // of their buffers, and nothing per event.
  EXPECT_LE(allocations.load() - before, 64u);
}

}  // namespace
}  // namespace edgecore::pipeline
#endif
