/* What the processor can do. Not by the compiler's own question, whose variable Zig does not have. */

#ifndef LUTHIER_PROCESSOR_H
#define LUTHIER_PROCESSOR_H

#define LUTHIER_WITHIN __attribute__((visibility("hidden")))

/* Whether it has AVX-512F, and whether it also counts the bits of eight words at once (AVX-512VL and VPOPCNTDQ), and the
 * system keeps their registers. 0 on others than x86-64. */
LUTHIER_WITHIN int luthier_has_avx512f(void);
LUTHIER_WITHIN int luthier_counts_eight_at_once(void);

#endif
