/* What the loops of native/ have in common. */

#ifndef LUTHIER_SAMPLES_H
#define LUTHIER_SAMPLES_H

#include <stdint.h>
#include <string.h>

/* Bits of the largest absolute value; those of NaN or infinity where there is one: patterns of positive floats are
 * ordered as they are. */
static inline int32_t highest_bits(const float *samples, int64_t count) {
    int32_t most = 0;
    for (int64_t i = 0; i < count; i++) {
        int32_t bits;
        memcpy(&bits, samples + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        most = bits > most ? bits : most;
    }
    return most;
}

static inline float as_float(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
