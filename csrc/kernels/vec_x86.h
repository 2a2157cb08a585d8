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

}  // namespace miaotui::MIAOTUI_TIER
