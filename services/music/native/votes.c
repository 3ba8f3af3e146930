/* Votes of an inverted index for places of a plane, counted without an array of them. Called through native.py.
 *
 * An entry of the index is a place: its row in the upper 24 bits, its column in the lower 8. A run of entries, less what
 * it is asked with, votes for one place each. Places are counted in cells of 2^(row_bits - 8) rows; `column_cells` [256] tells
 * of each column the cell, below `width`. Results are whole numbers, so any order gives the same ones.
 */

#include <stdint.h>

enum { COLUMNS = 255, MOST = 32767, AHEAD = 12, LATER = 64 };

static inline uint32_t cell_at(uint32_t place, uint32_t row_bits, const uint8_t *column_cells, uint32_t width) {
    return (place >> row_bits) * width + column_cells[place & COLUMNS];
}

/* counts [cells]: the sum of the weights of the votes for each, no more added within 255 of MOST; zeros before; other places
 * are passed over. cell_of [votes]: of each vote, in the order of the runs. first, lengths, asked, weights: [runs]. Cells lie
 * anywhere in more memory than a core's cache holds: each is asked for when its vote is read, and counted LATER votes later. */
void luthier_count_votes(const uint32_t *entries, const uint32_t *first, const uint32_t *lengths, const uint32_t *asked,
                         int64_t runs, const uint8_t *column_cells, uint32_t width, uint32_t row_bits, const uint8_t *weights,
                         uint16_t *counts, int64_t cells, uint32_t *cell_of) {
    uint32_t waiting[LATER];
    uint8_t weighs[LATER];
    uint32_t at = 0;
    for (int i = 0; i < LATER; i++) waiting[i] = UINT32_MAX, weighs[i] = 0;
    for (int64_t run = 0; run < runs; run++) {
        if (run + AHEAD < runs) __builtin_prefetch(entries + first[run + AHEAD]); /* runs lie anywhere */
        const uint32_t *entry = entries + first[run], *end = entry + lengths[run];
        const uint32_t less = asked[run];
        for (; entry < end; entry++) {
            const uint32_t cell = cell_at(*entry - less, row_bits, column_cells, width), before = waiting[at];
            if (before < cells && counts[before] <= MOST - 255) counts[before] += weighs[at];
            if (cell < cells) __builtin_prefetch(counts + cell, 1);
            *cell_of++ = cell;
            waiting[at] = cell, weighs[at] = weights[run];
            at = (at + 1) % LATER;
        }
    }
    for (int i = 0; i < LATER; i++, at = (at + 1) % LATER)
        if (waiting[at] < cells && counts[waiting[at]] <= MOST - 255) counts[waiting[at]] += weighs[at];
}

/* Of the votes [votes] those for a cell below `cells` whose bit of `chosen` [cells / 64, rounded up] is set, by their positions, the
 * first `room` of them. Returns how many. */
int64_t luthier_votes_in_cells(const uint32_t *cell_of, int64_t votes, const uint64_t *chosen, int64_t cells, int64_t room,
                               uint32_t *found) {
    int64_t count = 0;
    for (int64_t vote = 0; vote < votes; vote++) {
        const uint32_t cell = cell_of[vote];
        if (cell >= cells || !(chosen[cell / 64] >> (cell % 64) & 1)) continue;
        if (count == room) break;
        found[count++] = (uint32_t)vote;
    }
    return count;
}
