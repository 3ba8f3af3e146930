/* How many bits of a row of words differ from those of another, at each place of it. Called through native.py.
 *
 * Of words [n] only the bits of `mask` [n] count. Two words are compared at a time.
 */

#include <stdint.h>
#include <string.h>

static inline uint64_t two(const uint32_t *words) {
    uint64_t value;
    memcpy(&value, words, sizeof value);
    return value;
}

/* differ, counted [places]: of the query's `length` words laid on words and mask from each place on, the bits that differ
 * and those that count. words and mask have places + length - 1. */
void luthier_masked_distances(const uint32_t *words, const uint32_t *mask, int64_t places, const uint32_t *query, int64_t length,
                              int32_t *differ, int32_t *counted) {
    int32_t count = 0;
    for (int64_t k = 0; k < length; k++) count += __builtin_popcount(mask[k]);
    for (int64_t place = 0; place < places; place++) {
        const uint32_t *at = words + place, *of = mask + place;
        int64_t apart = 0, k = 0;
        for (; k + 1 < length; k += 2) apart += __builtin_popcountll((two(at + k) ^ two(query + k)) & two(of + k));
        if (k < length) apart += __builtin_popcount((at[k] ^ query[k]) & of[k]);
        differ[place] = (int32_t)apart;
        counted[place] = count;
        if (place + 1 < places) count += __builtin_popcount(of[length]) - __builtin_popcount(of[0]);
    }
}
