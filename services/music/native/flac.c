/* FLAC frames (RFC 9639) of 16 bit from float samples, for audio_flac.py, which writes the file around them.
 *
 * A frame has up to FLAC_BLOCK samples of each channel. Each channel is predicted by one of the five fixed polynomials
 * (9.2.5) and its residual stored in Rice codes (9.2.7); of two channels, left, right, their difference and their mean
 * are tried, and the two that need least are stored (9.1.3). Linear prediction would save some percent more and take
 * several times as long.
 */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <smmintrin.h>

enum {
    BLOCK = 4096,           /* samples of a channel in a frame */
    CHANNELS = 8,           /* most that the format knows */
    ORDERS = 5,             /* fixed predictors: 0 to 4 samples of history */
    DEEPEST = 6,            /* the residual of a whole block has up to 2^6 partitions, each with a Rice parameter */
    LARGEST_PARAMETER = 14, /* 15 is the escape code */
    SIDE_BITS = 17,
};

/* ---- bits ---- */

typedef struct {
    uint8_t *next;
    uint64_t bits; /* at its upper end those not yet whole bytes */
    int count;     /* of them, below 8 between calls */
} writer_t;

/* Append the lowest `count` bits of `value`, at most 56, its other bits zero. Eight bytes beyond `next` are written to. */
static inline void put(writer_t *w, uint64_t value, int count) {
    w->count += count;
    w->bits |= value << (64 - w->count);
    const uint64_t swapped = __builtin_bswap64(w->bits);
    memcpy(w->next, &swapped, 8);
    w->next += w->count >> 3;
    w->bits <<= w->count & ~7;
    w->count &= 7;
}

static inline void put_signed(writer_t *w, int32_t value, int count) {
    put(w, (uint64_t)(uint32_t)value & ((1ULL << count) - 1), count);
}

static void align(writer_t *w) {
    if (w->count) put(w, 0, 8 - w->count);
}

/* ---- checksums: of the header x^8 + x^2 + x + 1, of the frame x^16 + x^15 + x^2 + 1 ---- */

static uint8_t crc_8(const uint8_t *from, const uint8_t *end) {
    unsigned crc = 0;
    for (; from < end; from++) {
        crc ^= *from;
        for (int bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc & 0x80 ? 0x107 : 0);
    }
    return (uint8_t)crc;
}

static uint16_t crc_table[8][256]; /* [k][byte]: of a byte with k zero bytes behind it */

__attribute__((constructor)) static void fill_crc_table(void) {
    for (int byte = 0; byte < 256; byte++) {
        unsigned crc = (unsigned)byte << 8;
        for (int bit = 0; bit < 8; bit++) crc = crc << 1 ^ (crc & 0x8000 ? 0x18005 : 0);
        crc_table[0][byte] = (uint16_t)crc;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++) {
            const uint16_t before = crc_table[k - 1][byte];
            crc_table[k][byte] = (uint16_t)(before << 8 ^ crc_table[0][before >> 8]);
        }
}

static uint16_t crc_16(const uint8_t *from, const uint8_t *end) {
    unsigned crc = 0;
    for (; end - from >= 8; from += 8)
        crc = crc_table[7][from[0] ^ crc >> 8] ^ crc_table[6][from[1] ^ (crc & 0xFF)] ^ crc_table[5][from[2]] ^
              crc_table[4][from[3]] ^ crc_table[3][from[4]] ^ crc_table[2][from[5]] ^ crc_table[1][from[6]] ^
              crc_table[0][from[7]];
    for (; from < end; from++) crc = (crc << 8 & 0xFFFF) ^ crc_table[0][crc >> 8 ^ *from];
    return (uint16_t)crc;
}

/* ---- prediction ---- */

/* Sums of the absolute residual of each fixed predictor over samples [4, count): which predicts best. */
static int best_order(const int32_t *x, int count, uint64_t sums[ORDERS]) {
    memset(sums, 0, ORDERS * sizeof *sums);
    if (count <= ORDERS) return 0;
    __m128i totals[ORDERS]; 
    for (int order = 0; order < ORDERS; order++) totals[order] = _mm_setzero_si128();
    for (int i = ORDERS - 1; i + 4 <= count; i += 4) {
        const __m128i now = _mm_loadu_si128((const __m128i *)(x + i));
        const __m128i by_1 = _mm_loadu_si128((const __m128i *)(x + i - 1));
        const __m128i by_2 = _mm_loadu_si128((const __m128i *)(x + i - 2));
        const __m128i by_3 = _mm_loadu_si128((const __m128i *)(x + i - 3));
        const __m128i by_4 = _mm_loadu_si128((const __m128i *)(x + i - 4));
        const __m128i a = _mm_sub_epi32(now, by_1), b = _mm_sub_epi32(by_1, by_2), c = _mm_sub_epi32(by_2, by_3);
        const __m128i aa = _mm_sub_epi32(a, b), bb = _mm_sub_epi32(b, c), cc = _mm_sub_epi32(c, _mm_sub_epi32(by_3, by_4));
        const __m128i aaa = _mm_sub_epi32(aa, bb), bbb = _mm_sub_epi32(bb, cc);
        totals[0] = _mm_add_epi32(totals[0], _mm_abs_epi32(now));
        totals[1] = _mm_add_epi32(totals[1], _mm_abs_epi32(a));
        totals[2] = _mm_add_epi32(totals[2], _mm_abs_epi32(aa));
        totals[3] = _mm_add_epi32(totals[3], _mm_abs_epi32(aaa));
        totals[4] = _mm_add_epi32(totals[4], _mm_abs_epi32(_mm_sub_epi32(aaa, bbb)));
    }
    for (int order = 0; order < ORDERS; order++) {
        uint32_t lanes[4];
        _mm_storeu_si128((__m128i *)lanes, totals[order]);
        sums[order] = (uint64_t)lanes[0] + lanes[1] + lanes[2] + lanes[3];
    }
    int best = 0;
    for (int order = 1; order < ORDERS; order++)
        if (sums[order] < sums[best]) best = order;
    return best;
}

/* Residual [order, count) of a fixed predictor. */
static void residual(const int32_t *restrict x, int count, int order, int32_t *restrict r) {
    switch (order) {
    case 0: memcpy(r, x, (size_t)count * sizeof *r); break;
    case 1:
        for (int i = 1; i < count; i++) r[i] = x[i] - x[i - 1];
        break;
    case 2:
        for (int i = 2; i < count; i++) r[i] = x[i] - 2 * x[i - 1] + x[i - 2];
        break;
    case 3:
        for (int i = 3; i < count; i++) r[i] = x[i] - 3 * x[i - 1] + 3 * x[i - 2] - x[i - 3];
        break;
    default:
        for (int i = 4; i < count; i++) r[i] = x[i] - 4 * x[i - 1] + 6 * x[i - 2] - 4 * x[i - 3] + x[i - 4];
    }
}

/* ---- Rice codes ---- */

/* Bits of `count` residuals whose absolute values sum to `sum`, about; and the parameter that needs fewest. */
static uint64_t rice_bits(uint64_t sum, int count, int *parameter) {
    const uint64_t mean = sum / (unsigned)count, half = (unsigned)count / 2;
    const int low = mean ? 63 - __builtin_clzll(mean) : 0;
    uint64_t fewest = UINT64_MAX;
    for (int k = low < LARGEST_PARAMETER ? low : LARGEST_PARAMETER; k <= low + 2 && k <= LARGEST_PARAMETER; k++) {
        /* the code of v is 2 v or -2 v - 1: its upper bits in unary, rounded down, a stop bit, k bits */
        const uint64_t unary = k ? sum >> (k - 1) : 2 * sum;
        const uint64_t bits = (uint64_t)(k + 1) * (unsigned)count + (k && unary > half ? unary - half : unary);
        if (bits < fewest) fewest = bits, *parameter = k;
    }
    return fewest;
}

typedef struct {
    int depth;                    /* 2^depth partitions */
    int parameters[1 << DEEPEST]; /* of each */
} rice_t;

/* How to split the residual [order, count) of a channel: bits that it takes, about. */
static uint64_t plan(const int32_t *r, int count, int order, rice_t *best) {
    int depth = DEEPEST;
    while (depth && (count & ((1 << depth) - 1) || count >> depth < 16)) depth--;
    uint64_t sums[1 << DEEPEST];
    const int length = count >> depth;
    for (int p = 0; p < 1 << depth; p++) {
        uint32_t sum = 0; /* at most 4096 times 65535 * 16: the difference of two channels, four times differenced */
        for (int i = p ? p * length : order; i < (p + 1) * length; i++) sum += (uint32_t)abs(r[i]);
        sums[p] = sum;
    }
    uint64_t fewest = UINT64_MAX;
    for (;; depth--) {
        rice_t tried = {.depth = depth};
        uint64_t bits = 0;
        for (int p = 0; p < 1 << depth; p++)
            bits += 4 + rice_bits(sums[p], (count >> depth) - (p ? 0 : order), &tried.parameters[p]);
        if (bits < fewest) {
            fewest = bits;
            best->depth = depth;
            memcpy(best->parameters, tried.parameters, sizeof(int) << depth);
        }
        if (!depth) return fewest;
        for (int p = 0; p < 1 << (depth - 1); p++) sums[p] = sums[2 * p] + sums[2 * p + 1];
    }
}

static void put_residual(writer_t *writer, const int32_t *r, int count, int order, const rice_t *rice) {
    writer_t w = *writer;
    put(&w, 0, 2); /* parameters of 4 bits */
    put(&w, (unsigned)rice->depth, 4);
    const int length = count >> rice->depth;
    for (int p = 0; p < 1 << rice->depth; p++) {
        const int k = rice->parameters[p];
        put(&w, (unsigned)k, 4);
        const uint32_t low = (1U << k) - 1;
        for (int i = p ? p * length : order; i < (p + 1) * length; i++) {
            const uint32_t code = ((uint32_t)r[i] << 1) ^ (uint32_t)(r[i] >> 31);
            uint32_t zeros = code >> k;
            while (zeros > 32) { /* 32 + 1 + 14 bits fit into one */
                put(&w, 0, 32);
                zeros -= 32;
            }
            put(&w, 1U << k | (code & low), (int)zeros + 1 + k);
        }
    }
    *writer = w;
}

/* ---- subframes ---- */

static int constant(const int32_t *x, int count) {
    int32_t differ = x[count / 2] ^ x[0];
    for (int i = 0; i < count && !differ; i += 64)
        for (int j = i; j < i + 64 && j < count; j++) differ |= x[j] ^ x[0];
    return !differ;
}

/* One channel of a frame: constant (9.2.3), verbatim (9.2.4) or predicted (9.2.5). `order`: of the best predictor. */
static void put_subframe(writer_t *w, const int32_t *x, int count, int bits, int order) {
    if (constant(x, count)) {
        put(w, 0, 8);
        put_signed(w, x[0], bits);
        return;
    }
    int32_t r[BLOCK];
    rice_t rice;
    residual(x, count, order, r);
    const uint64_t needed = (uint64_t)(order * bits) + 6 + plan(r, count, order, &rice);
    if (needed >= (uint64_t)count * (unsigned)bits) {
        put(w, 1 << 1, 8);
        for (int i = 0; i < count; i++) put_signed(w, x[i], bits);
        return;
    }
    put(w, (8U | (unsigned)order) << 1, 8);
    for (int i = 0; i < order; i++) put_signed(w, x[i], bits);
    put_residual(w, r, count, order, &rice);
}

/* ---- frames ---- */

/* A number in one to seven bytes, as UTF-8 would write it (9.1.5). */
static void put_number(writer_t *w, uint64_t number) {
    if (number < 0x80) {
        put(w, number, 8);
        return;
    }
    int more = 1;
    while (number >> (6 * more + (6 - more))) more++;
    put(w, (0xFF00U >> (more + 1) & 0xFF) | number >> (6 * more), 8);
    while (more--) put(w, 0x80 | (number >> (6 * more) & 0x3F), 8);
}

static void put_header(writer_t *w, int count, unsigned assignment, uint64_t number) {
    const uint8_t *begin = w->next;
    put(w, 0xFFF8, 16);                /* blocks of one size */
    put(w, count == BLOCK ? 12 : 7, 4); /* 7: its size less one in 16 bits behind the number */
    put(w, 0, 4);                      /* the sample rate is that of the stream */
    put(w, assignment, 4);
    put(w, 4 << 1, 4); /* 16 bits a sample */
    put_number(w, number);
    if (count != BLOCK) put(w, (unsigned)count - 1, 16);
    put(w, crc_8(begin, w->next), 8);
}

static uint8_t *put_frame(uint8_t *out, int32_t (*x)[BLOCK], int channels, int count, uint64_t number) {
    writer_t w = {.next = out};
    uint64_t sums[ORDERS];
    if (channels == 2 && !(constant(x[0], count) && constant(x[1], count))) {
        int32_t *const left = x[0], *const right = x[1], *const side = x[2], *const mid = x[3];
        for (int i = 0; i < count; i++) {
            side[i] = left[i] - right[i];
            mid[i] = (left[i] + right[i]) >> 1;
        }
        int orders[4], parameter;
        uint64_t bits[4];
        for (int c = 0; c < 4; c++) {
            orders[c] = best_order(x[c], count, sums);
            const uint64_t verbatim = (uint64_t)count * (x[c] == side ? SIDE_BITS : 16);
            bits[c] = rice_bits(sums[orders[c]], count, &parameter);
            if (bits[c] > verbatim) bits[c] = verbatim;
        }
        static const int PAIRS[4][2] = {{0, 1}, {0, 2}, {2, 1}, {3, 2}};
        static const unsigned ASSIGNMENTS[4] = {1, 8, 9, 10};
        int best = 0;
        for (int pair = 1; pair < 4; pair++)
            if (bits[PAIRS[pair][0]] + bits[PAIRS[pair][1]] < bits[PAIRS[best][0]] + bits[PAIRS[best][1]]) best = pair;
        put_header(&w, count, ASSIGNMENTS[best], number);
        for (int c = 0; c < 2; c++) {
            const int which = PAIRS[best][c];
            put_subframe(&w, x[which], count, which == 2 ? SIDE_BITS : 16, orders[which]);
        }
    } else {
        put_header(&w, count, (unsigned)channels - 1, number);
        for (int c = 0; c < channels; c++) {
            const int order = best_order(x[c], count, sums);
            put_subframe(&w, x[c], count, 16, order);
        }
    }
    align(&w);
    const uint16_t crc = crc_16(out, w.next);
    put(&w, crc, 16);
    return w.next;
}

/* ---- samples ---- */

/* The samples of a block times `gain` in 16 bit, to the nearest and of two to the even; 0 where one is beyond full scale
 * or no number, else 1. */
static int quantise(const float *samples, int channels, int count, float gain, int32_t (*x)[BLOCK]) {
    const __m128 gains = _mm_set1_ps(gain), full = _mm_set1_ps(32768.0f), one = _mm_set1_ps(1.0f);
    const __m128 sign = _mm_set1_ps(-0.0f);
    const __m128i highest = _mm_set1_epi32(32767);
    int fine = 0xF, i = 0;
    if (channels == 2) {
        for (; i + 4 <= count; i += 4) {
            const __m128 a = _mm_mul_ps(_mm_loadu_ps(samples + 2 * i), gains);
            const __m128 b = _mm_mul_ps(_mm_loadu_ps(samples + 2 * i + 4), gains);
            fine &= _mm_movemask_ps(_mm_cmple_ps(_mm_andnot_ps(sign, a), one)) & _mm_movemask_ps(_mm_cmple_ps(_mm_andnot_ps(sign, b), one));
            const __m128 l = _mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0)), r = _mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1));
            _mm_storeu_si128((__m128i *)(x[0] + i), _mm_min_epi32(_mm_cvtps_epi32(_mm_mul_ps(l, full)), highest));
            _mm_storeu_si128((__m128i *)(x[1] + i), _mm_min_epi32(_mm_cvtps_epi32(_mm_mul_ps(r, full)), highest));
        }
    }
    for (; i < count; i++)
        for (int c = 0; c < channels; c++) {
            const float value = samples[(int64_t)i * channels + c] * gain;
            if (!(fabsf(value) <= 1.0f)) return 0;
            const int rounded = _mm_cvtss_si32(_mm_set_ss(value * 32768.0f));
            x[c][i] = rounded < 32767 ? rounded : 32767;
        }
    return fine == 0xF;
}

/* Most bytes that so many frames of so many channels take, with what `put` writes beyond. */
int64_t luthier_flac_bound(int64_t frames, int channels) {
    return frames * (BLOCK * 4 * channels + 64) + 64;
}

/* Encode samples [count, channels], full scale 1.0, times `gain`, into `out` as frames from `number` on; all but the
 * last of a stream must be whole. `sizes`: bytes of the smallest and the largest frame so far. Returns the bytes, or -1
 * where a sample is beyond full scale or no number. */
int64_t luthier_flac_frames(const float *samples, int64_t count, int channels, float gain, int64_t number, uint8_t *out,
                            int64_t sizes[2]) {
    int32_t x[CHANNELS][BLOCK];
    uint8_t *next = out;
    for (int64_t first = 0; first < count; first += BLOCK, number++) {
        const int block = (int)(count - first < BLOCK ? count - first : BLOCK);
        if (!quantise(samples + first * channels, channels, block, gain, x)) return -1;
        uint8_t *const end = put_frame(next, x, channels, block, (uint64_t)number);
        if (end - next < sizes[0]) sizes[0] = end - next;
        if (end - next > sizes[1]) sizes[1] = end - next;
        next = end;
    }
    return next - out;
}
