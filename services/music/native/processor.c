/* See processor.h. */

#include "processor.h"

#ifdef __x86_64__
int luthier_has_avx512f(void) { return __builtin_cpu_supports("avx512f") != 0; }

int luthier_counts_eight_at_once(void) {
    return __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq");
}
#else
int luthier_has_avx512f(void) { return 0; }

int luthier_counts_eight_at_once(void) { return 0; }
#endif
