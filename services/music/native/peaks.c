/* Peaks of one recording held against those of another, at places, stretches and pitch shifts. Called through native.py.
 *
 * A map [3 x bins, 2 x frames + 2 x MARGIN] of bytes tells of each third of a bin and each half of a frame how near a peak of the
 * first recording is: a class, 1 = nearest to 3, 0 = none near. Peaks of the other have a frame, a bin in 64ths and a rank;
 * `evidence` [bins, GROUPS, CLASSES] tells what each counts, by its bin, the tenth of its rank and the class that is found
 * there. Sums are double, in the order of the peaks.
 */

#include <math.h>
#include <stdint.h>

enum { FRAME_PARTS = 2, BIN_PARTS = 3, MARGIN = 8, CLASSES = 4, GROUPS = 5, STEPS = 64, OUTSIDE = 255 };

typedef struct {
    const uint8_t *near; /* the map */
    const float *evidence;
    int64_t bins, frames, columns;
} Map;

/* near, zeros before: for each peak, its surroundings by their class, the nearest class where they overlap. */
void luthier_mark_peaks(uint8_t *near, int64_t bins, int64_t columns, const uint16_t *peak_frames, const uint16_t *peak_bins,
                        int64_t peaks) {
    for (int64_t i = 0; i < peaks; i++) {
        const int64_t row = (peak_bins[i] * BIN_PARTS + STEPS / 2) / STEPS, column = peak_frames[i] * FRAME_PARTS + MARGIN;
        for (int64_t up = -2; up <= 2; up++) {
            if (row + up < 0 || row + up >= bins * BIN_PARTS) continue;
            for (int64_t late = -5; late <= 5; late++) {
                const int64_t away = late < 0 ? -late : late, apart = up < 0 ? -up : up;
                const uint8_t class = apart <= 1 ? (away <= 1 ? 1 : away <= 3 ? 2 : 3) : away <= 3 ? 3 : 0;
                uint8_t *at = near + (row + up) * columns + column + late;
                if (class && (!*at || class < *at)) *at = class;
            }
        }
    }
}

/* counts [bins, CLASSES]: cells of each class in each bin; heard [frames]: cells of any class at each frame. Zeros before. */
void luthier_count_marks(const uint8_t *near, int64_t bins, int64_t frames, int64_t columns, int64_t *counts, int32_t *heard) {
    for (int64_t row = 0; row < bins * BIN_PARTS; row++) {
        const uint8_t *cells = near + row * columns + MARGIN;
        for (int class = 0; class < CLASSES; class++) {
            int32_t count = 0;
            for (int64_t cell = 0; cell < frames * FRAME_PARTS; cell++) count += cells[cell] == class;
            counts[row / BIN_PARTS * CLASSES + class] += count;
        }
        for (int64_t frame = 0; frame < frames; frame++) heard[frame] += cells[FRAME_PARTS * frame] != 0;
    }
}

/* The class at a place, OUTSIDE where there is none; its bin. */
static inline uint8_t class_at(const Map *map, float bin, float frame, int64_t *whole) {
    if (!(bin >= 0 && bin < map->bins - 0.5f && frame >= 0 && frame < map->frames - 0.5f)) return OUTSIDE;
    *whole = (int64_t)(bin + 0.5f);
    const int64_t row = (int64_t)(bin * BIN_PARTS + 0.5f), column = (int64_t)(frame * FRAME_PARTS + 0.5f) + MARGIN;
    return map->near[row * map->columns + column];
}

typedef struct {
    float frame, bin;
    int32_t group;
} Peak;

/* The peaks first to last that are stronger than `below`, in held; returns how many. */
static int64_t gather(Peak *held, const uint16_t *frames, const uint16_t *bins, const uint8_t *ranks, int64_t first,
                      int64_t last, int32_t below) {
    int64_t count = 0;
    for (int64_t i = first; i < last; i++)
        if (ranks[i] < below) held[count++] = (Peak){frames[i], bins[i] * (1.0f / STEPS), ranks[i] / 10};
    return count;
}

static double sum(const Map *map, const Peak *held, int64_t count, float offset, float stretch, float shift) {
    double total = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t bin;
        const uint8_t class = class_at(map, held[i].bin + shift, offset + stretch * held[i].frame, &bin);
        if (class != OUTSIDE) total += map->evidence[(bin * GROUPS + held[i].group) * CLASSES + class];
    }
    return total;
}

/* sums [alignments]: of the evidence of the peaks first to last that are stronger than `below`, at each alignment.
 * held: room for as many peaks as an alignment has. */
void luthier_sum_evidence(const uint8_t *near, const float *evidence, int64_t map_bins, int64_t map_frames, int64_t columns,
                          const uint16_t *frames, const uint16_t *bins, const uint8_t *ranks, const int64_t *first,
                          const int64_t *last, int32_t below, int64_t alignments, const float *offsets, const float *stretches,
                          const float *shifts, Peak *held, double *sums) {
    const Map map = {near, evidence, map_bins, map_frames, columns};
    int64_t count = 0;
    for (int64_t i = 0; i < alignments; i++) {
        if (!i || first[i] != first[i - 1] || last[i] != last[i - 1])
            count = gather(held, frames, bins, ranks, first[i], last[i], below);
        sums[i] = sum(&map, held, count, offsets[i], stretches[i], shifts[i]);
    }
}

enum { MOST_REACH = 16 };

/* The sums at 2 reach + 1 places, `step` halves of a frame from each to the next, the middle one at `offset`. */
static void sums_around(const Map *map, const Peak *held, int64_t count, float offset, float stretch, float shift, int step,
                        int reach, double *sums) {
    for (int place = 0; place <= 2 * reach; place++) sums[place] = 0;
    for (int64_t i = 0; i < count; i++) {
        const float bin = held[i].bin + shift, frame = offset + stretch * held[i].frame;
        if (!(bin >= 0 && bin < map->bins - 0.5f && frame > -MOST_REACH && frame < map->frames + MOST_REACH)) continue;
        const int64_t half = (int64_t)floorf(frame * FRAME_PARTS + 0.5f) - reach * step;
        const float *evidence = map->evidence + ((int64_t)(bin + 0.5f) * GROUPS + held[i].group) * CLASSES;
        const uint8_t *near = map->near + (int64_t)(bin * BIN_PARTS + 0.5f) * map->columns + MARGIN;
        const int64_t first = half < 0 ? (step - 1 - half) / step : 0, room = FRAME_PARTS * map->frames - 1 - half;
        const int64_t end = room <= 0 ? 0 : (room + step - 1) / step < 2 * reach + 1 ? (room + step - 1) / step : 2 * reach + 1;
        for (int64_t place = first; place < end; place++) sums[place] += evidence[near[half + place * step]];
    }
}

/* Moves each alignment to the most evidence around it: first by whole frames and steps of stretch around the frame `pivots` of
 * the peaks, then by half of each and quarters of a bin. sums [alignments]: what is found there. reach: at most MOST_REACH. */
void luthier_align_peaks(const uint8_t *near, const float *evidence, int64_t map_bins, int64_t map_frames, int64_t columns,
                         const uint16_t *frames, const uint16_t *bins, const uint8_t *ranks, const int64_t *first,
                         const int64_t *last, int32_t below, int64_t alignments, float *offsets, float *stretches, float *shifts,
                         Peak *held, const float *pivots, float stretch_step, int32_t reach, double *sums) {
    const Map map = {near, evidence, map_bins, map_frames, columns};
    for (int64_t i = 0; i < alignments; i++) {
        const int64_t count = gather(held, frames, bins, ranks, first[i], last[i], below);
        double most = sum(&map, held, count, offsets[i], stretches[i], shifts[i]);
        for (int pass = 0; pass < 2; pass++) {
            const float offset = offsets[i], stretch = stretches[i], shift = shifts[i];
            const float frame = pass ? 0.5f : 1.0f, step = pass ? stretch_step / 2 : stretch_step;
            const int widest = pass ? 1 : reach, stretched = pass ? 1 : 2;
            for (int up = -pass; up <= pass; up++)
                for (int longer = -stretched; longer <= stretched; longer++) {
                    const float changed = longer * step, moved = offset - changed * pivots[i], higher = shift + 0.25f * up;
                    double around[2 * MOST_REACH + 1];
                    sums_around(&map, held, count, moved, stretch + changed, higher, pass ? 1 : 2, widest, around);
                    for (int late = -widest; late <= widest; late++) {
                        if (around[widest + late] <= most) continue;
                        most = around[widest + late];
                        offsets[i] = moved + late * frame, stretches[i] = stretch + changed, shifts[i] = higher;
                    }
                }
        }
        sums[i] = most;
    }
}

/* classes [last - first]: of each peak at one alignment, OUTSIDE where it lies beyond the map. */
void luthier_peak_classes(const uint8_t *near, const float *evidence, int64_t map_bins, int64_t map_frames, int64_t columns,
                          const uint16_t *frames, const uint16_t *bins, int64_t first, int64_t last, float offset, float stretch,
                          float shift, uint8_t *classes) {
    const Map map = {near, evidence, map_bins, map_frames, columns};
    for (int64_t i = first; i < last; i++) {
        int64_t bin;
        classes[i - first] = class_at(&map, bins[i] * (1.0f / STEPS) + shift, offset + stretch * frames[i], &bin);
    }
}
