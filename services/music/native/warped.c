/* Samples read at other moments than they were played at. Called through native.py.
 *
 * Between two samples lie `up - 1` more, by a low-pass filter; between two of these, a straight line. Only those that a
 * moment lies between are computed. Sums of products are in single precision, lines in double, each in the order of time
 * and rounded by itself, as scipy.signal.resample_poly and numpy.interp do: so are the results.
 */

#include "samples.h"

typedef float quad_t __attribute__((vector_size(16))); /* left and right at a place, left and right at the next one */

enum { MOST_WEIGHTS = 1024 };

/* The sum of one product for each tap: of the filter's phase for a place on the fine grid, and of the sample that it
 * weighs, the oldest first. Samples outside of those that were played are zero. */
static void place(const float *played, int64_t count, const float *phases, int up, int taps, int64_t at, float *sums) {
    const float *weights = phases + at % up * taps;
    const int64_t first = at / up - taps / 2;
    sums[0] = sums[1] = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
        const int64_t sample = first + tap;
        if (sample < 0 || sample >= count) continue;
        sums[0] += played[2 * sample] * weights[tap];
        sums[1] += played[2 * sample + 1] * weights[tap];
    }
}

/* out [frames, 2]: what was played [count, 2] at the places `at` [frames] of the grid that is `up` times as fine, 0 or
 * more. phases: [up, taps], taps is odd, up * taps at most MOST_WEIGHTS; the middle one weighs the sample at or before a
 * place. */
void luthier_read_warped(const float *played, int64_t count, const float *phases, int up, int taps, const double *at,
                         int64_t frames, float *out) {
    const int64_t last = count * up - 1; /* on the fine grid */
    quad_t weights[MOST_WEIGHTS]; /* [up, taps]: twice those of a place, twice those of the next one */
    for (int phase = 0; phase < up; phase++)
        for (int tap = 0; tap < taps; tap++) {
            const float one = phases[phase * taps + tap], next = phases[(phase + 1) % up * taps + tap];
            weights[phase * taps + tap] = (quad_t){one, one, next, next};
        }
    for (int64_t frame = 0; frame < frames; frame++, out += 2) {
        const int64_t left = at[frame] >= (double)last ? last : (int64_t)at[frame];
        if (left == last) { /* nothing was played so late: the end holds */
            place(played, count, phases, up, taps, left, out);
            continue;
        }
        const int64_t sample = left / up, first = sample - taps / 2;
        const int phase = (int)(left - sample * up), shift = phase + 1 == up; /* the next place is by the next sample */
        float sums[4];
        if (first < 0 || first + shift + taps > count) {
            place(played, count, phases, up, taps, left, sums);
            place(played, count, phases, up, taps, left + 1, sums + 2);
        } else {
            const float *one = played + 2 * first, *next = one + 2 * shift;
            const quad_t *by = weights + phase * taps;
            quad_t sum = {0.0f, 0.0f, 0.0f, 0.0f};
            for (int tap = 0; tap < taps; tap++, one += 2, next += 2)
                sum += (quad_t){one[0], one[1], next[0], next[1]} * by[tap];
            memcpy(sums, &sum, sizeof sums);
        }
        const double share = at[frame] - (double)left;
        for (int side = 0; side < 2; side++) {
            const double before = sums[side], after = sums[2 + side];
            out[side] = (float)((after - before) * share + before);
        }
    }
}
