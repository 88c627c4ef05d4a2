// A processor that says it stops at AVX2: what asks it (cpuid) gets a signal instead, and the
// answer of the processor with everything newer taken out. So a runtime that chooses its kernels
// by asking chooses those of an older machine. x86 Linux, where the processor can fault cpuid.
#pragma once

#if defined(__x86_64__)
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace edgecore::bench {

inline bool set_cpuid_works(bool works) {
  return ::syscall(SYS_arch_prctl, ARCH_SET_CPUID, works ? 1UL : 0UL) == 0;
}

// Leaf 7: AVX-512 in all its parts, AMX, AVX-VNNI.
inline void take_out_newer(unsigned leaf, unsigned subleaf, unsigned (&r)[4]) {
  const auto clear = [&](int at, std::initializer_list<int> bits) {
    for (const int bit : bits) r[at] &= ~(1U << bit);
  };
  if (leaf != 7) return;
  if (subleaf == 0) {
    clear(1, {16, 17, 21, 26, 27, 28, 30, 31});
    clear(2, {1, 6, 11, 12, 14});
    clear(3, {2, 3, 8, 22, 23, 24, 25});
  } else if (subleaf == 1) {
    clear(0, {4, 5, 21});
    clear(3, {4, 5, 8, 10, 19});
  }
}

inline void answer_cpuid(int, siginfo_t*, void* context) {
  auto* at = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto* code = reinterpret_cast<const unsigned char*>(at[REG_RIP]);
  if (code[0] != 0x0f || code[1] != 0xa2) {  // a fault of another kind
    ::signal(SIGSEGV, SIG_DFL);
    return;
  }
  const auto leaf = static_cast<unsigned>(at[REG_RAX]);
  const auto subleaf = static_cast<unsigned>(at[REG_RCX]);
  unsigned r[4];
  set_cpuid_works(true);
  __cpuid_count(leaf, subleaf, r[0], r[1], r[2], r[3]);
  set_cpuid_works(false);
  take_out_newer(leaf, subleaf, r);
  at[REG_RAX] = r[0];
  at[REG_RBX] = r[1];
  at[REG_RCX] = r[2];
  at[REG_RDX] = r[3];
  at[REG_RIP] += 2;
}

// False where the processor or the kernel cannot fault cpuid.
inline bool mask_cpuid() {
  struct sigaction action = {};
  action.sa_sigaction = answer_cpuid;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGSEGV, &action, nullptr);
  return set_cpuid_works(false);
}

}  // namespace edgecore::bench
#else
namespace edgecore::bench {
inline bool mask_cpuid() {
  return false;
}
}  // namespace edgecore::bench
#endif
