/* How many bits of a row differ from those of another, at each place of it. Called through native.py.
 *
 * Where the processor counts the bits of eight words at once (AVX-512 VPOPCNTDQ) it does: the counts are the same.
 */

#include <stdint.h>
#include <string.h>

#include "processor.h"

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

#ifdef __x86_64__
EIGHT_AT_ONCE static void quick_masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places,
                                                 const uint32_t *query, int64_t length, int32_t *differ, int32_t *counted) {
    masked_distances(words, mask, places, query, length, differ, counted);
}
#endif

/* differ, counted [places]: of the query's `length` words laid on words and mask from each place on, the bits that the
 * mask has which differ, and those that it has. words and mask have places + length - 1. */
void luthier_masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places, const uint32_t *query, int64_t length,
                              int32_t *differ, int32_t *counted) {
#ifdef __x86_64__
    if (luthier_counts_eight_at_once()) {
        quick_masked_distances(words, mask, places, query, length, differ, counted);
        return;
    }
#endif
    masked_distances(words, mask, places, query, length, differ, counted);
}

/* Bits of `from` [bytes] from bit `first` on (the highest of a byte is its first) to `to` [bytes + 8], which ends in zeros. */
static void shifted(const uint8_t *from, int64_t bytes, int64_t first, uint8_t *to) {
    const int64_t skipped = first / 8;
    const int shift = (int)(first % 8);
    for (int64_t at = 0; at < bytes - skipped; at++) {
        const int next = at + 1 < bytes - skipped ? from[skipped + at + 1] : 0;
        to[at] = (uint8_t)(from[skipped + at] << shift | next >> (8 - shift));
    }
    memset(to + (bytes - skipped), 0, (size_t)skipped + 8);
}

INLINE void bit_agreements(const uint64_t *ours, int64_t count, const uint8_t *theirs, int64_t bytes, int64_t lags, uint8_t *room,
                           int32_t *agreed) {
    const int64_t words = count / 64;
    const int rest = (int)(count % 64);
    const uint64_t of_the_last = rest ? __builtin_bswap64(~0ull << (64 - rest)) : 0;
    for (int shift = 0; shift < 8 && shift < lags; shift++) {
        shifted(theirs, bytes, shift, room);
        for (int64_t lag = shift; lag < lags; lag += 8) {
            const uint8_t *at = room + lag / 8;
            int64_t apart = 0;
            for (int64_t k = 0; k < words; k++) apart += __builtin_popcountll(eight_bytes(at + 8 * k) ^ ours[k]);
            if (rest) apart += __builtin_popcountll((eight_bytes(at + 8 * words) ^ ours[words]) & of_the_last);
            agreed[lag] = (int32_t)(count - apart);
        }
    }
}

#ifdef __x86_64__
EIGHT_AT_ONCE static void quick_bit_agreements(const uint64_t *ours, int64_t count, const uint8_t *theirs, int64_t bytes,
                                               int64_t lags, uint8_t *room, int32_t *agreed) {
    bit_agreements(ours, count, theirs, bytes, lags, room, agreed);
}
#endif

/* agreed [lags]: how many of our `count` bits are those of theirs [8 * bytes] from each lag on; count + lags - 1 of theirs are
 * there. ours: as many words as hold the bits, of bytes in memory's order. room [bytes + 8]: for this function alone. */
void luthier_bit_agreements(const uint64_t *ours, int64_t count, const uint8_t *theirs, int64_t bytes, int64_t lags, uint8_t *room,
                            int32_t *agreed) {
#ifdef __x86_64__
    if (luthier_counts_eight_at_once()) {
        quick_bit_agreements(ours, count, theirs, bytes, lags, room, agreed);
        return;
    }
#endif
    bit_agreements(ours, count, theirs, bytes, lags, room, agreed);
}
