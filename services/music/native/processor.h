/* What the processor can do, asked in one file: the linker of Zig refuses compilers' `__cpu_model` of several. */

#ifndef LUTHIER_PROCESSOR_H
#define LUTHIER_PROCESSOR_H

#define LUTHIER_WITHIN __attribute__((visibility("hidden")))

/* Whether it has AVX-512F, and whether it also counts the bits of eight words at once; 0 on others than x86-64. */
LUTHIER_WITHIN int luthier_has_avx512f(void);
LUTHIER_WITHIN int luthier_counts_eight_at_once(void);

#endif
