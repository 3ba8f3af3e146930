/* Votes of an inverted index for places of a plane, counted without an array of them. Called through native.py.
 *
 * An entry of the index is a place: its row in the upper 24 bits, its column in the lower 8. A run of entries, less what
 * it is asked with, votes for one place each. Places are counted in cells of 2^(row_bits - 8) rows; `column_cells` [256] tells
 * of each column the cell, below `width`. Results are whole numbers, so any order gives the same ones.
 */

#include <stdint.h>

enum { COLUMNS = 255, MOST = 32767, AHEAD = 12 };

static inline uint32_t cell_of(uint32_t place, uint32_t row_bits, const uint8_t *column_cells, uint32_t width) {
    return (place >> row_bits) * width + column_cells[place & COLUMNS];
}

/* counts [cells]: the sum of the weights of the votes for each, no more added within 255 of MOST; zeros before; other places
 * are passed over. first, lengths, asked, weights: [runs]. */
void luthier_count_votes(const uint32_t *entries, const uint32_t *first, const uint32_t *lengths, const uint32_t *asked,
                         int64_t runs, const uint8_t *column_cells, uint32_t width, uint32_t row_bits, const uint8_t *weights,
                         uint16_t *counts, int64_t cells) {
    for (int64_t run = 0; run < runs; run++) {
        if (run + AHEAD < runs) __builtin_prefetch(entries + first[run + AHEAD]); /* runs lie anywhere */
        const uint32_t *entry = entries + first[run], *end = entry + lengths[run];
        const uint32_t less = asked[run];
        const uint16_t weight = weights[run];
        for (; entry < end; entry++) {
            const uint32_t cell = cell_of(*entry - less, row_bits, column_cells, width);
            if (cell < cells && counts[cell] <= MOST - 255) counts[cell] += weight;
        }
    }
}

/* Of the votes for a cell whose `groups` [cells] is not 0, in the order of the runs: run and entry, `room` at most.
 * Returns how many. */
int64_t luthier_votes_in_groups(const uint32_t *entries, const uint32_t *first, const uint32_t *lengths,
                                const uint32_t *asked, int64_t runs, const uint8_t *column_cells, uint32_t width, uint32_t row_bits,
                                const uint16_t *groups, int64_t cells, int64_t room, uint32_t *run_of,
                                uint32_t *entry_of) {
    int64_t found = 0;
    for (int64_t run = 0; run < runs; run++) {
        if (run + AHEAD < runs) __builtin_prefetch(entries + first[run + AHEAD]); /* runs lie anywhere */
        const uint32_t *entry = entries + first[run], *end = entry + lengths[run];
        const uint32_t less = asked[run];
        for (; entry < end; entry++) {
            const uint32_t cell = cell_of(*entry - less, row_bits, column_cells, width);
            if (cell >= cells || !groups[cell]) continue;
            if (found == room) return found;
            run_of[found] = (uint32_t)run;
            entry_of[found++] = *entry;
        }
    }
    return found;
}
