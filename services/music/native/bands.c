/* Energies of a spectrum in bands, each a weighed sum of neighbouring bins. Called through native.py. */

#include <stdint.h>

enum { FRAMES = 8 }; /* at once: one weight multiplies neighbours, and their squares stay in the first cache */

/* powers [bands, stride], its first `frames` columns: of each frame of spectra [frames, bins], pairs of real and imaginary parts,
 * in each band the squared magnitudes of the bins from first[band] on, weighed by weights[starts[band]] up to those of the next
 * band, summed in this order in single precision. All bands lie between the bins `lowest` and `highest`. squares [bins, FRAMES]:
 * room. */
void luthier_band_powers(const float *spectra, int64_t frames, int64_t bins, const int32_t *starts, const int32_t *first,
                         const float *weights, int64_t bands, int64_t lowest, int64_t highest, float *squares, float *powers,
                         int64_t stride) {
    for (int64_t frame = 0; frame < frames; frame += FRAMES) {
        const int64_t some = frames - frame < FRAMES ? frames - frame : FRAMES;
        for (int64_t k = 0; k < some; k++) {
            const float *of = spectra + 2 * bins * (frame + k);
            for (int64_t bin = lowest; bin < highest; bin++)
                squares[bin * FRAMES + k] = of[2 * bin] * of[2 * bin] + of[2 * bin + 1] * of[2 * bin + 1];
        }
        for (int64_t band = 0; band < bands; band++) {
            float sums[FRAMES] = {0};
            const float *from = squares + (int64_t)first[band] * FRAMES;
            for (int32_t at = starts[band]; at < starts[band + 1]; at++, from += FRAMES)
                for (int64_t k = 0; k < FRAMES; k++) sums[k] += weights[at] * from[k];
            for (int64_t k = 0; k < some; k++) powers[band * stride + frame + k] = sums[k];
        }
    }
}
