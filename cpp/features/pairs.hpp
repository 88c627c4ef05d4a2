// Two doubles at once: +, -, *, / and the square root round each as if it were alone.
#pragma once

#include <cmath>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace edgecore::features {

typedef double Pair __attribute__((vector_size(16)));

inline Pair load(const double* from) {
  Pair out;
  std::memcpy(&out, from, sizeof out);
  return out;
}
inline void store(double* to, Pair value) {
  std::memcpy(to, &value, sizeof value);
}
inline Pair both(double value) {
  return Pair{value, value};
}
inline Pair root(Pair value) {
#if defined(__SSE2__)
  return _mm_sqrt_pd(value);
#elif defined(__aarch64__)
  return vsqrtq_f64(value);
#else
  return Pair{std::sqrt(value[0]), std::sqrt(value[1])};
#endif
}
// The first ones of both, and the second ones.
inline Pair firsts(Pair a, Pair b) {
#if defined(__SSE2__)
  return _mm_unpacklo_pd(a, b);
#else
  return Pair{a[0], b[0]};
#endif
}
inline Pair seconds(Pair a, Pair b) {
#if defined(__SSE2__)
  return _mm_unpackhi_pd(a, b);
#else
  return Pair{a[1], b[1]};
#endif
}
// The lesser ones; no NaN, and equal numbers have equal bits.
inline Pair least(Pair a, Pair b) {
#if defined(__SSE2__)
  return _mm_min_pd(a, b);
#elif defined(__aarch64__)
  return vminq_f64(a, b);
#else
  return Pair{a[0] < b[0] ? a[0] : b[0], a[1] < b[1] ? a[1] : b[1]};
#endif
}

}  // namespace edgecore::features
