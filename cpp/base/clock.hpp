// The clock seam: nothing in the core reads time but through a Clock.
#pragma once

#include <atomic>
#include <cstdint>

namespace edgecore {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual std::int64_t wall_ns() const = 0;       // ns since 1970-01-01 UTC; may jump
  virtual std::int64_t monotonic_ns() const = 0;  // ns since an arbitrary start; never goes back
};

// The operating system's clocks (CLOCK_REALTIME, CLOCK_BOOTTIME). Thread-safe.
class SystemClock final : public Clock {
 public:
  std::int64_t wall_ns() const override;
  std::int64_t monotonic_ns() const override;
};

// Moves only when told; for tests and the simulator. Thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::int64_t wall_ns = 0) : wall_ns_(wall_ns) {}
  std::int64_t wall_ns() const override { return wall_ns_; }
  std::int64_t monotonic_ns() const override { return monotonic_ns_; }
  void advance(std::int64_t ns) {
    wall_ns_ += ns;
    monotonic_ns_ += ns;
  }
  void jump_wall(std::int64_t to_ns) { wall_ns_ = to_ns; }

 private:
  std::atomic<std::int64_t> wall_ns_;
  std::atomic<std::int64_t> monotonic_ns_{0};
};

}  // namespace edgecore
