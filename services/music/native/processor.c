/* See processor.h. Intel's manual, volume 2, CPUID: leaves 1 and 7; volume 1, 14.3: XCR0. */

#include "processor.h"

enum { AVX512F = 1, COUNTS = 2, ASKED = 4 };

#ifdef __x86_64__
#include <cpuid.h>

static int asked(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return 0; /* OSXSAVE */
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if ((low & 0xE6) != 0xE6) return 0; /* XMM, YMM and the three of AVX-512 */
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & 1u << 16)) return 0;
    return AVX512F | (b & 1u << 31 && c & 1u << 14 ? COUNTS : 0);
}
#else
static int asked(void) { return 0; }
#endif

static int can(void) {
    static int known; /* asking takes a virtual machine microseconds */
    int found = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!found) {
        found = asked() | ASKED;
        __atomic_store_n(&known, found, __ATOMIC_RELAXED);
    }
    return found;
}

int luthier_has_avx512f(void) { return (can() & AVX512F) != 0; }

int luthier_counts_eight_at_once(void) { return (can() & COUNTS) != 0; }
