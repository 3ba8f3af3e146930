/* How many bits of a row differ from those of another, at each place of it. Called through native.py.
 *
 * Where the processor counts the bits of eight words at once (AVX-512 VPOPCNTDQ) it does: the counts are the same.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EIGHT_AT_ONCE __attribute__((target("avx512f,avx512vl,avx512vpopcntdq")))
#define INLINE static inline __attribute__((always_inline))

INLINE uint64_t eight_bytes(const void *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

INLINE void masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places, const uint32_t *query,
                             int64_t length, int32_t *differ, int32_t *counted) {
    int32_t count = 0;
    for (int64_t k = 0; k < length; k++) count += __builtin_popcount(mask[k]);
    for (int64_t place = 0; place < places; place++) {
        const uint32_t *at = words + place, *of = mask + place;
        int64_t apart = 0;
        for (int64_t k = 0; k < length / 2; k++) {
            const uint64_t unlike = eight_bytes(at + 2 * k) ^ eight_bytes(query + 2 * k);
            apart += __builtin_popcountll(unlike & eight_bytes(of + 2 * k));
        }
        if (length % 2) apart += __builtin_popcount((at[length - 1] ^ query[length - 1]) & of[length - 1]);
        differ[place] = (int32_t)apart;
        counted[place] = count;
        if (place + 1 < places) count += __builtin_popcount(of[length]) - __builtin_popcount(of[0]);
    }
}

EIGHT_AT_ONCE static void quick_masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places,
                                                 const uint32_t *query, int64_t length, int32_t *differ, int32_t *counted) {
    masked_distances(words, mask, places, query, length, differ, counted);
}

/* differ, counted [places]: of the query's `length` words laid on words and mask from each place on, the bits that the
 * mask has which differ, and those that it has. words and mask have places + length - 1. */
void luthier_masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places, const uint32_t *query, int64_t length,
                              int32_t *differ, int32_t *counted) {
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq"))
        quick_masked_distances(words, mask, places, query, length, differ, counted);
    else
        masked_distances(words, mask, places, query, length, differ, counted);
}
