// What the AVX2 and AVX-512 tiers do alike, in registers of 128 and 256 bits. Included by their vec_*.h.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/inline.h"

namespace miaotui::MIAOTUI_TIER {

// Lane i + lane i + 4, of these i + (i + 2), then the last two.
MT_INLINE float sum_of_lanes8(__m256 a) {
    const __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 t = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(t, _mm_movehdup_ps(t)));
}

// Of 16 codes: as bytes without sign, 128 too large each, which the processor adds up by eights.
MT_INLINE int32_t sum_of_codes(const int8_t* codes) {
    const __m128i c = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m128i eights = _mm_sad_epu8(_mm_xor_si128(c, _mm_set1_epi8(-128)), _mm_setzero_si128());
    return _mm_cvtsi128_si32(_mm_add_epi32(eights, _mm_shuffle_epi32(eights, 0x4E))) - 16 * 128;
}

// Each lane the largest of its quad's four magnitudes, of which the lowest three bits are replaced with those of `numbers`.
MT_INLINE __m256i quad_keys(__m256 x, __m256i numbers) {
    __m256i m = _mm256_castps_si256(x);
    m = _mm256_and_si256(m, _mm256_set1_epi32(0x7FFFFFFF));
    m = _mm256_max_epi32(m, _mm256_shuffle_epi32(m, 0xB1));
    m = _mm256_max_epi32(m, _mm256_shuffle_epi32(m, 0x4E));
    return _mm256_or_si256(_mm256_andnot_si256(_mm256_set1_epi32(7), m), numbers);
}

// As the scalar tier's.
MT_INLINE void largest_quads(const float* x, int32_t keys[2]) {
    const auto two = [](int first, int second) {
        return _mm256_setr_epi32(first, first, first, first, second, second, second, second);
    };
    const __m256i a = quad_keys(_mm256_loadu_ps(x), two(7, 6)), b = quad_keys(_mm256_loadu_ps(x + 8), two(5, 4));
    const __m256i c = quad_keys(_mm256_loadu_ps(x + 16), two(3, 2)), d = quad_keys(_mm256_loadu_ps(x + 24), two(1, 0));
    const __m256i ab = _mm256_max_epi32(a, b), cd = _mm256_max_epi32(c, d);
    const __m256i first = _mm256_max_epi32(ab, cd);
    const __m256i second =
        _mm256_max_epi32(_mm256_min_epi32(ab, cd), _mm256_max_epi32(_mm256_min_epi32(a, b), _mm256_min_epi32(c, d)));
    const auto upper = [](__m256i v) { return _mm256_extracti128_si256(v, 1); };
    const __m128i f0 = _mm256_castsi256_si128(first), f1 = upper(first);
    keys[0] = _mm_cvtsi128_si32(_mm_max_epi32(f0, f1));
    keys[1] = _mm_cvtsi128_si32(
        _mm_max_epi32(_mm_min_epi32(f0, f1), _mm_max_epi32(_mm256_castsi256_si128(second), upper(second))));
}

}  // namespace miaotui::MIAOTUI_TIER
