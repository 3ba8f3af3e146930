/* The place of each clip at which most of its peaks lie on those of a recording: all places are tried. Called through native.py.
 *
 * Peaks have a tick and a bin. A recording's are listed by bin: those of bin b are `asked` from starts[b] to starts[b + 1], and
 * each counts weights[b] where it meets one of a clip's. A clip's are `ticks` and `bins` from first[c] to last[c], those below
 * lengths[c] and `bin_count`. The counts of one clip fit into the first cache. Whole numbers, so any order gives the same ones.
 */

#include <stdint.h>
#include <string.h>

enum { CHUNK = 64 };

/* Of each of the clips `which` [some]: the most that two neighbouring ticks count together, most [some]; the first of them, at
 * [some], as the tick of the recording, of `rows`, at which the clip begins; the most that eight ticks count, wide [some]; and
 * what all its peaks count at all places, total [some]. counts [rows, the longest clip, and 2 CHUNK]: room, each modulo 65536. */
void luthier_best_places(const uint16_t *ticks, const uint8_t *bins, const int64_t *first, const int64_t *last,
                         const int32_t *lengths, const int64_t *which, int64_t some, const uint32_t *starts,
                         const uint16_t *asked, const uint8_t *weights, int32_t bin_count, int32_t rows, uint16_t *counts,
                         int32_t *most, int32_t *at, int32_t *wide, int32_t *total) {
    for (int64_t i = 0; i < some; i++) {
        const int64_t clip = which[i];
        const int32_t length = lengths[clip], places = rows + length;
        int64_t sum = 0;
        memset(counts, 0, (size_t)(places + 2 * CHUNK) * sizeof *counts);
        for (int64_t peak = first[clip]; peak < last[clip]; peak++) {
            const int32_t bin = bins[peak];
            if (ticks[peak] >= length || bin >= bin_count) continue;
            uint16_t *from = counts + length - 1 - ticks[peak];
            const uint16_t *tick = asked + starts[bin], *end = asked + starts[bin + 1];
            const uint16_t weight = weights[bin];
            sum += weight * (end - tick);
            for (; tick < end; tick++) from[*tick] += weight;
        }
        uint16_t best = 0, widest = 0;
        int32_t chunk = 0;
        for (int32_t start = 0; start < places; start += CHUNK) {
            uint16_t here = 0;
            for (int32_t place = start; place < start + CHUNK; place++) {
                counts[place] += counts[place + 1]; /* of two ticks */
                here = counts[place] > here ? counts[place] : here;
            }
            if (here > best) best = here, chunk = start;
        }
        while (counts[chunk] != best) chunk++;
        for (int32_t place = 0; place < places; place++) {
            const uint16_t eight = counts[place] + counts[place + 2] + counts[place + 4] + counts[place + 6];
            widest = eight > widest ? eight : widest;
        }
        most[i] = best, at[i] = chunk - (length - 1), wide[i] = widest;
        total[i] = sum > INT32_MAX ? INT32_MAX : (int32_t)sum;
    }
}
