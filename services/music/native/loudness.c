/* K-weighted energies for BS.1770-4, one pass over the samples. Called by loudness.py, which says what they are for.
 *
 * Both second-order sections run in direct form I, where a sample waits only for one multiplication and one subtraction
 * of the output before it; left and right run side by side. All is double precision, in one order and without fused
 * operations, so that every machine and compiler gives the same bits.
 */

#include "samples.h"

typedef double pair_t __attribute__((vector_size(16))); /* left, right */

/* Below this the filter's memory is taken for zero, 400 dB under full scale: silence costs nothing then, and no
 * denormal number slows the tail. */
static const double FORGOTTEN = 1e-20;

static int forgotten(const pair_t *memory, int count) {
    for (int i = 0; i < count; i++)
        for (int side = 0; side < 2; side++)
            if (memory[i][side] > FORGOTTEN || memory[i][side] < -FORGOTTEN) return 0;
    return 1;
}

/* samples: [frames, channels], 1 or 2 channels; hop h reaches from frame edges[h] to edges[h + 1].
 * sos: two sections of b0 b1 b2 a0 a1 a2, a0 = 1.
 * energies: [hops], the mean square of each hop once weighted, summed over channels; peaks: [hops], the largest
 * absolute sample of each before that. Energies behind a peak that is no finite number mean nothing. */
void luthier_hop_energies(const float *samples, int channels, const int64_t *edges, int64_t hops, const double *sos,
                          double *energies, float *peaks) {
    const double b0 = sos[0], b1 = sos[1], b2 = sos[2], a1 = sos[4], a2 = sos[5];
    const double d0 = sos[6], d1 = sos[7], d2 = sos[8], c1 = sos[10], c2 = sos[11];
    enum { IN, IN_2, MID, MID_2, OUT, OUT_2, MEMORY }; /* of the sample before, and of the one before that */
    pair_t memory[MEMORY] = {{0.0, 0.0}};
    for (int64_t hop = 0; hop < hops; hop++) {
        const float *from = samples + edges[hop] * channels;
        const int64_t frames = edges[hop + 1] - edges[hop];
        peaks[hop] = as_float(highest_bits(from, frames * channels));
        if (peaks[hop] == 0.0f && forgotten(memory, MEMORY)) {
            memset(memory, 0, sizeof memory);
            energies[hop] = 0.0;
            continue;
        }
        pair_t sum = {0.0, 0.0};
        pair_t in_1 = memory[IN], in_2 = memory[IN_2], mid_1 = memory[MID], mid_2 = memory[MID_2];
        pair_t out_1 = memory[OUT], out_2 = memory[OUT_2];
        for (int64_t i = 0; i < frames; i++) {
            const pair_t in = {from[i * channels], channels == 2 ? from[i * channels + 1] : 0.0};
            const pair_t mid = (b0 * in + b1 * in_1 + b2 * in_2 - a2 * mid_2) - a1 * mid_1;
            const pair_t out = (d0 * mid + d1 * mid_1 + d2 * mid_2 - c2 * out_2) - c1 * out_1;
            in_2 = in_1, in_1 = in, mid_2 = mid_1, mid_1 = mid, out_2 = out_1, out_1 = out;
            sum += out * out;
        }
        memory[IN] = in_1, memory[IN_2] = in_2, memory[MID] = mid_1, memory[MID_2] = mid_2;
        memory[OUT] = out_1, memory[OUT_2] = out_2;
        energies[hop] = (sum[0] + sum[1]) / (double)frames;
    }
}
