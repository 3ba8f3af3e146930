/* Levels of the peaks of one recording held against those of another, in which it may be one of several. Called through native.py.
 *
 * `levels` [bins, columns] of bytes tells how loud the first recording is, in steps below LEVELS; its chance part is `near` [bins,
 * LEVELS]: what it counts that it is as loud as expected, by bin and the level expected. A peak of the other has a frame, a bin in
 * 64ths and a level; at a gain it is expected that loud. Softer by more than `below` steps it is not there, which counts `missed`;
 * louder by more than `above` it may be under something else, which counts nothing. Sums are double, in the order of the peaks.
 */

#include <stdint.h>

enum { LEVELS = 128, STEPS = 64 };

typedef struct {
    const uint8_t *levels;
    const float *near;
    int64_t bins, columns;
    int32_t below, above;
    float missed;
} Map;

typedef struct {
    int32_t bin, heard, level, block; /* heard: of the first recording, -1 where the peak lies beyond it */
} Peak;

typedef struct {
    float frame, near; /* the frame at no offset; what it counts that the first recording is as loud there */
    int64_t row;
    int32_t expected;
} Moved;

static inline Peak peak_at(const Map *map, float bin, float frame, int32_t level, int64_t block_frames) {
    if (!(bin >= 0 && bin < map->bins - 0.5f && frame >= 0 && frame < map->columns - 0.5f)) return (Peak){0, -1, 0, 0};
    const int64_t row = (int64_t)(bin + 0.5f), column = (int64_t)(frame + 0.5f);
    return (Peak){(int32_t)row, map->levels[row * map->columns + column], level, (int32_t)(column / block_frames)};
}

static inline float evidence_of(const Map *map, const Peak *peak, int32_t gain) {
    int32_t expected = peak->level + gain;
    expected = expected < 0 ? 0 : expected > LEVELS - 1 ? LEVELS - 1 : expected;
    const int32_t louder = peak->heard - expected;
    return louder < -map->below ? map->missed : louder <= map->above ? map->near[peak->bin * LEVELS + expected] : 0;
}

/* What a peak counts at each gain from `lowest` to `highest`, added to `sums` [gains]; where it is not there, `misses` [gains] has 1
 * more at the first gain at which it is not: it is not at any higher one. */
static inline void add_at_gains(const Map *map, const Peak *peak, int32_t lowest, int32_t highest, double *sums, int32_t *misses) {
    if (peak->level + lowest < 0 || peak->level + highest > LEVELS - 1) { /* what is expected would leave the scale */
        for (int32_t gain = lowest; gain <= highest; gain++) sums[gain - lowest] += evidence_of(map, peak, gain);
        return;
    }
    const int32_t first = peak->heard - map->above - peak->level, last = peak->heard + map->below - peak->level;
    const float *near = map->near + peak->bin * LEVELS + peak->level;
    for (int32_t gain = first < lowest ? lowest : first; gain <= last && gain <= highest; gain++)
        sums[gain - lowest] += near[gain];
    if (last < highest) misses[last < lowest ? 0 : last + 1 - lowest]++;
}

/* evidence [last - first]: of each peak at one alignment, 0 beyond the map, at the gain from `lowest` to `highest` at which the run of
 * blocks with the most has the most; returns that gain. held: room for as many peaks; sums and misses [blocks of the map, gains]:
 * zeros. */
int32_t luthier_level_evidence(const uint8_t *levels, const float *near, int64_t bins, int64_t columns, int32_t below,
                               int32_t above, float missed, const uint16_t *frames, const uint16_t *peak_bins,
                               const uint8_t *peak_levels, int64_t first, int64_t last, float offset, float stretch, float shift,
                               int32_t lowest, int32_t highest, int64_t block_frames, Peak *held, double *sums,
                               int32_t *misses, float *evidence) {
    const Map map = {levels, near, bins, columns, below, above, missed};
    const int64_t blocks = (columns + block_frames - 1) / block_frames, gains = highest - lowest + 1;
    for (int64_t i = 0; i < last - first; i++) {
        held[i] = peak_at(&map, peak_bins[first + i] * (1.0f / STEPS) + shift, offset + stretch * frames[first + i],
                          peak_levels[first + i], block_frames);
        if (held[i].heard >= 0)
            add_at_gains(&map, held + i, lowest, highest, sums + held[i].block * gains, misses + held[i].block * gains);
    }
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t gain = 0, gone = 0; gain < gains; gain++)
            sums[block * gains + gain] += (double)missed * (double)(gone += misses[block * gains + gain]);
    int32_t best = lowest;
    double most = -1;
    for (int64_t gain = 0; gain < gains; gain++) {
        double run = 0, found = 0;
        for (int64_t block = 0; block < blocks; block++) {
            run = run + sums[block * gains + gain] > 0 ? run + sums[block * gains + gain] : 0;
            if (run > found) found = run;
        }
        if (found > most) most = found, best = lowest + (int32_t)gain;
    }
    for (int64_t i = 0; i < last - first; i++) evidence[i] = held[i].heard < 0 ? 0 : evidence_of(&map, held + i, best);
    return best;
}

/* sums [offsets]: of the evidence of the peaks first to last at each offset, at one gain. held: room for as many peaks. */
void luthier_sum_levels(const uint8_t *levels, const float *near, int64_t bins, int64_t columns, int32_t below, int32_t above,
                        float missed, const uint16_t *frames, const uint16_t *peak_bins, const uint8_t *peak_levels,
                        int64_t first, int64_t last, const float *offsets, int64_t count, float stretch, float shift, int32_t gain,
                        Moved *held, double *sums) {
    int64_t some = 0;
    for (int64_t i = first; i < last; i++) {
        const float bin = peak_bins[i] * (1.0f / STEPS) + shift;
        if (!(bin >= 0 && bin < bins - 0.5f)) continue;
        const int64_t row = (int64_t)(bin + 0.5f);
        const int32_t at_gain = peak_levels[i] + gain;
        const int32_t expected = at_gain < 0 ? 0 : at_gain > LEVELS - 1 ? LEVELS - 1 : at_gain;
        held[some++] = (Moved){stretch * frames[i], near[row * LEVELS + expected], row * columns, expected};
    }
    for (int64_t at = 0; at < count; at++) {
        double total = 0;
        for (int64_t i = 0; i < some; i++) {
            const float frame = offsets[at] + held[i].frame;
            if (!(frame >= 0 && frame < columns - 0.5f)) continue;
            const int32_t louder = levels[held[i].row + (int64_t)(frame + 0.5f)] - held[i].expected;
            total += louder < -below ? missed : louder <= above ? held[i].near : 0;
        }
        sums[at] = total;
    }
}
