/* The mean of a sound's channels at a rate that is a whole part of its own, by a low-pass filter. Called through native.py.
 *
 * Samples are sorted by their place within `factor`, so that one weight multiplies neighbours: 32 results at a time. Each
 * result is the sum of the same products in the same order, whatever the processor adds at once.
 */

#include <stdint.h>
#include <string.h>

#include "processor.h"

#define INLINE static inline __attribute__((always_inline))

typedef float some_t __attribute__((vector_size(64)));

enum { AT_ONCE = 32, BLOCK = 1024, MOST_FACTOR = 16, MOST_TAPS = 512 };

/* The mean of the channels of a frame; silence before the first and behind the last. */
INLINE float mean(const float *samples, int64_t frames, int channels, int64_t frame) {
    if (frame < 0 || frame >= frames) return 0.0f;
    float sum = samples[frame * channels];
    for (int channel = 1; channel < channels; channel++) sum += samples[frame * channels + channel];
    return sum / (float)channels;
}

INLINE void decimated(const float *samples, int64_t frames, int channels, const float *taps, int count, int factor, float *out,
                      int64_t wanted) {
    float phases[MOST_FACTOR][BLOCK + MOST_TAPS];
    const int rows = (count + factor - 1) / factor, half = count / 2;
    for (int64_t first = 0; first < wanted; first += BLOCK) {
        const int64_t begin = first * factor - half;
        const int columns = BLOCK + rows;
        const float *inner = begin >= 0 && begin + (int64_t)columns * factor <= frames ? samples + begin * channels : NULL;
        for (int column = 0; column < columns; column++)
            for (int phase = 0; phase < factor; phase++) {
                const int64_t at = (int64_t)column * factor + phase;
                if (inner && channels == 2) phases[phase][column] = (inner[2 * at] + inner[2 * at + 1]) / 2.0f;
                else phases[phase][column] = mean(samples, frames, channels, begin + at);
            }
        for (int at = 0; at < BLOCK && first + at < wanted; at += AT_ONCE) {
            some_t left = {0}, right = {0};
            for (int tap = 0; tap < count; tap++) {
                const float *from = phases[tap % factor] + tap / factor + at;
                some_t one, other;
                memcpy(&one, from, sizeof one);
                memcpy(&other, from + AT_ONCE / 2, sizeof other);
                left += one * taps[tap];
                right += other * taps[tap];
            }
            float sums[AT_ONCE];
            memcpy(sums, &left, sizeof left);
            memcpy(sums + AT_ONCE / 2, &right, sizeof right);
            const int64_t left_over = wanted - first - at;
            memcpy(out + first + at, sums, sizeof(float) * (left_over < AT_ONCE ? left_over : AT_ONCE));
        }
    }
}

#ifdef __x86_64__
__attribute__((target("avx512f"))) static void quick_decimated(const float *samples, int64_t frames, int channels,
                                                               const float *taps, int count, int factor, float *out,
                                                               int64_t wanted) {
    decimated(samples, frames, channels, taps, count, factor, out, wanted);
}
#endif

/* out [wanted]: of samples [frames, channels] the mean of the channels, each `factor` frames, weighed by taps [count], the
 * middle one (count is odd) at that frame. factor: 1 to MOST_FACTOR; count: 1 to MOST_TAPS. */
void luthier_decimated(const float *samples, int64_t frames, int channels, const float *taps, int count, int factor,
                       float *out, int64_t wanted) {
#ifdef __x86_64__
    if (luthier_has_avx512f()) {
        quick_decimated(samples, frames, channels, taps, count, factor, out, wanted);
        return;
    }
#endif
    decimated(samples, frames, channels, taps, count, factor, out, wanted);
}
