/* What is done to every sample of a stem and of the mix: one pass each, where numpy needs five. Called through native.py.
 *
 * Each operation is one of IEEE 754 in single precision and rounds by itself, as numpy's do.
 */

#include "samples.h"

/* The largest absolute value of `count` samples; NaN or infinity where there is one. */
float luthier_highest(const float *samples, int64_t count) { return as_float(highest_bits(samples, count)); }

/* samples [frames, 2] *= gain, their last `faded` frames *= fade [faded] besides; mix [frames, 2] += samples.
 * peaks: [blocks], of each `block` frames the largest absolute sample then. Silent blocks cost a look. */
void luthier_add_to_mix(float *samples, int64_t frames, float gain, const float *fade, int64_t faded, float *mix,
                        int64_t block, float *peaks) {
    for (int64_t first = 0; first < frames; first += block, peaks++) {
        const int64_t last = first + block < frames ? first + block : frames;
        *peaks = 0.0f;
        if (highest_bits(samples + 2 * first, 2 * (last - first)) == 0) continue;
        for (int64_t i = 2 * first; i < 2 * last; i++) samples[i] *= gain;
        for (int64_t i = first > frames - faded ? first : frames - faded; i < last; i++) {
            samples[2 * i] *= fade[i - (frames - faded)];
            samples[2 * i + 1] *= fade[i - (frames - faded)];
        }
        for (int64_t i = 2 * first; i < 2 * last; i++) mix[i] += samples[i];
        *peaks = as_float(highest_bits(samples + 2 * first, 2 * (last - first)));
    }
}

/* steps [channels, frames] of 16 bit from samples [frames, channels] times gain, rounded to the nearest, to the even one of
 * two: full scale is 1.0, and what would be 32768 is 32767. Returns the largest absolute value of samples times gain; where
 * that is above 1.0, or no number, steps mean nothing. */
float luthier_to_steps(const float *samples, int64_t frames, int channels, float gain, int32_t *steps) {
    const float magic = 12582912.0f; /* 1.5 * 2^23: a sum with it has no place for less than 1 */
    uint32_t zero; /* differences of bits are taken without a sign: that wraps, where a signed one is undefined */
    int32_t most = 0;
    memcpy(&zero, &magic, sizeof zero);
    for (int channel = 0; channel < channels; channel++) {
        const float *from = samples + channel;
        int32_t *to = steps + channel * frames;
        for (int64_t i = 0; i < frames; i++) {
            const float levelled = from[i * channels] * gain;
            const float sum = levelled * 32768.0f + magic;
            uint32_t sum_bits;
            int32_t bits;
            memcpy(&bits, &levelled, sizeof bits);
            memcpy(&sum_bits, &sum, sizeof sum_bits);
            bits &= 0x7FFFFFFF;
            most = bits > most ? bits : most;
            const int32_t step = (int32_t)(sum_bits - zero);
            to[i] = step > 32767 ? 32767 : step;
        }
    }
    return as_float(most);
}
