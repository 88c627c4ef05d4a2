// The one vocabulary of outcomes. Every fallible call of the core returns a Status or a Result<T>;
// the bindings turn a Status into the exception of the same name (edgecore.errors), metrics and
// runbooks use the same eight words. The core throws nothing of its own.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace edgecore {

enum class Outcome : std::uint8_t {
  kOk = 0,
  kStale = 1,         // right, but older than the caller allows
  kIncompatible = 2,  // well-formed, but this build or device can't use it
  kCorrupt = 3,       // bytes that fail their checksum or structure
  kUntrusted = 4,     // bytes that fail their signature or authority
  kExhausted = 5,     // out of space, quota, budget or memory
  kUnavailable = 6,   // the disk, peer or link did not answer; trying again may help
  kInvalid = 7,       // the caller's argument or input data is wrong
};

constexpr std::string_view outcome_word(Outcome outcome) {
  constexpr std::string_view kWords[] = {"Ok",        "Stale",     "Incompatible", "Corrupt",
                                         "Untrusted", "Exhausted", "Unavailable",  "Invalid"};
  return kWords[static_cast<std::size_t>(outcome)];
}

// A value type; thread-compatible (no shared state).
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Outcome outcome, std::string message) : outcome_(outcome), message_(std::move(message)) {}

  static Status ok() { return {}; }
  static Status stale(std::string m) { return {Outcome::kStale, std::move(m)}; }
  static Status incompatible(std::string m) { return {Outcome::kIncompatible, std::move(m)}; }
  static Status corrupt(std::string m) { return {Outcome::kCorrupt, std::move(m)}; }
  static Status untrusted(std::string m) { return {Outcome::kUntrusted, std::move(m)}; }
  static Status exhausted(std::string m) { return {Outcome::kExhausted, std::move(m)}; }
  static Status unavailable(std::string m) { return {Outcome::kUnavailable, std::move(m)}; }
  static Status invalid(std::string m) { return {Outcome::kInvalid, std::move(m)}; }

  bool is_ok() const { return outcome_ == Outcome::kOk; }
  Outcome outcome() const { return outcome_; }
  const std::string& message() const { return message_; }
  std::string to_string() const {
    return message_.empty() ? std::string(outcome_word(outcome_))
                            : std::string(outcome_word(outcome_)) + ": " + message_;
  }

 private:
  Outcome outcome_ = Outcome::kOk;
  std::string message_;
};

// Programmer errors only, on in release builds too. Input from disk, wire or a file is never an
// assert: it is a Status.
[[noreturn]] inline void assert_failed(const char* what, const char* file, int line) {
  std::fprintf(stderr, "edgecore: broken invariant: %s (%s:%d)\n", what, file, line);
  std::abort();
}
#define EDGECORE_ASSERT(condition) \
  ((condition) ? void(0) : ::edgecore::assert_failed(#condition, __FILE__, __LINE__))

// A value or the Status that explains its absence (std::expected is C++23).
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    EDGECORE_ASSERT(!status_.is_ok());
  }

  bool is_ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & {
    EDGECORE_ASSERT(is_ok());
    return *value_;
  }
  const T& value() const& {
    EDGECORE_ASSERT(is_ok());
    return *value_;
  }
  T&& value() && {
    EDGECORE_ASSERT(is_ok());
    return std::move(*value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

#define EDGECORE_CONCAT_(a, b) a##b
#define EDGECORE_CONCAT(a, b) EDGECORE_CONCAT_(a, b)

// Returns from the enclosing function when `expression` is a Status that is not Ok.
#define EDGECORE_TRY(expression)                                    \
  do {                                                              \
    ::edgecore::Status edgecore_try_status_ = (expression);         \
    if (!edgecore_try_status_.is_ok()) return edgecore_try_status_; \
  } while (false)

// `EDGECORE_ASSIGN(auto x, f());` takes the value of a Result, or returns its Status.
#define EDGECORE_ASSIGN(declaration, expression) \
  EDGECORE_ASSIGN_(declaration, expression, EDGECORE_CONCAT(edgecore_result_, __LINE__))
#define EDGECORE_ASSIGN_(declaration, expression, name) \
  auto name = (expression);                             \
  if (!name.is_ok()) return name.status();              \
  declaration = std::move(name).value()

}  // namespace edgecore
