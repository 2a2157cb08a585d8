// The vector interface of the kernel bodies on AVX2 + FMA + F16C: 8 lanes, so a block of 16 rows is done in two halves.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/vec_x86.h"

namespace miaotui::MIAOTUI_TIER {

inline constexpr int W = 8;
using F32 = __m256;
using I32 = __m256i;
using Codes = __m256i;

MT_INLINE F32 zero() { return _mm256_setzero_ps(); }
MT_INLINE F32 set1(float x) { return _mm256_set1_ps(x); }
MT_INLINE F32 load(const float* p) { return _mm256_loadu_ps(p); }
MT_INLINE void store(float* p, F32 x) { _mm256_storeu_ps(p, x); }
MT_INLINE F32 load_f16(const uint16_t* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
MT_INLINE F32 load_bf16(const uint16_t* p) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
MT_INLINE F32 load_u8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
MT_INLINE F32 load_i8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
MT_INLINE void store_f16(uint16_t* p, F32 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MT_INLINE int32_t lane_sum(I32 a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
MT_INLINE int32_t lane_max(I32 a) {
    __m128i s = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_max_epi32(s, _mm_shuffle_epi32(s, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(s, _mm_shuffle_epi32(s, 0xB1)));
}
// 16 lanes of one or more registers: lane i + lane i + 8, of these i + (i + 4) and so on, the same bits on every tier.
MT_INLINE float sum_of_lanes(const F32* part) { return sum_of_lanes8(_mm256_add_ps(part[0], part[1])); }
MT_INLINE float highest_lane(F32 a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
MT_INLINE F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
MT_INLINE F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
MT_INLINE F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
MT_INLINE F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
MT_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
MT_INLINE F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
MT_INLINE F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
MT_INLINE F32 zero_where_less(F32 x, F32 limit, F32 value) {  // x < limit ? 0 : value
    return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_NLT_UQ), value);
}
MT_INLINE F32 where_less(F32 a, F32 b, F32 x, F32 y) {  // a < b ? x : y
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
MT_INLINE F32 lookup(const float* table, I32 index) { return _mm256_i32gather_ps(table, index, 4); }

MT_INLINE I32 iset1(int32_t x) { return _mm256_set1_epi32(x); }
MT_INLINE I32 iadd(I32 a, I32 b) { return _mm256_add_epi32(a, b); }
template <int N>
MT_INLINE I32 ishl(I32 a) {
    return _mm256_slli_epi32(a, N);
}
template <int N>
MT_INLINE I32 ishr(I32 a) {
    return _mm256_srai_epi32(a, N);
}
MT_INLINE I32 iand(I32 a, I32 b) { return _mm256_and_si256(a, b); }
MT_INLINE I32 imax(I32 a, I32 b) { return _mm256_max_epi32(a, b); }
MT_INLINE I32 magnitude_bits(F32 a) { return _mm256_and_si256(_mm256_castps_si256(a), iset1(0x7FFFFFFF)); }
MT_INLINE F32 to_f32(I32 a) { return _mm256_cvtepi32_ps(a); }
MT_INLINE I32 round_i32(F32 a) { return _mm256_cvtps_epi32(a); }
MT_INLINE F32 bits_to_f32(I32 a) { return _mm256_castsi256_ps(a); }
MT_INLINE void store_i8(int8_t* p, I32 a) {
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
MT_INLINE void store_low_bytes(int8_t* p, I32 a) {
    const __m256i bytes =
        _mm256_shuffle_epi8(a, _mm256_set1_epi32(0x0C080400));  // of each half, in its first four bytes
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_unpacklo_epi32(low, high));
}
MT_INLINE void store_i16(int16_t* p, I32 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

MT_INLINE Codes load_codes(const uint8_t* line, int lane) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(line + 4 * lane));
}
MT_INLINE Codes code_and(Codes c, uint8_t mask) {
    return _mm256_and_si256(c, _mm256_set1_epi8(static_cast<char>(mask)));
}
MT_INLINE Codes code_or(Codes a, Codes b) { return _mm256_or_si256(a, b); }
template <int N>
MT_INLINE Codes code_shr(Codes c) {
    return _mm256_srli_epi16(c, N);
}  // mask afterwards: bits cross bytes
MT_INLINE Codes code_shr(Codes c, int n) { return _mm256_srl_epi16(c, _mm_cvtsi32_si128(n)); }
template <int N>
MT_INLINE Codes code_shl(Codes c) {
    return _mm256_slli_epi16(c, N);
}  // codes small enough that no bit crosses a byte
MT_INLINE void store_codes(uint8_t* line, int lane, Codes c) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(line + 4 * lane), c);
}
// One bit per code from an 8-byte word, as `value` or 0.
MT_INLINE Codes code_bits(const uint8_t* word, int lane, uint8_t value) {
    int32_t mask;
    __builtin_memcpy(&mask, word + lane / 2, 4);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(mask),
                                               _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                                                2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3));
    const __m256i bit = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201ULL));
    return code_and(_mm256_cmpeq_epi8(_mm256_and_si256(spread, bit), bit), value);
}
MT_INLINE Codes code_lookup(const uint8_t* table16, Codes c) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table16))),
                               c);
}
template <int K>
MT_INLINE F32 code_column(Codes c) {  // column K (0…3) of the quad, one value per row
    return _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(c, 8 * K), _mm256_set1_epi32(255)));
}

MT_INLINE Codes load_pairs_i8(const uint8_t* p) {  // 8 pairs of int8 as pairs of int16
    return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

MT_INLINE __m256i broadcast4(const void* x) {
    int32_t four;
    __builtin_memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}

inline constexpr int kDotsAtOnce = 8;  // they share their widening to 32 bits

// acc + Σ over N quads of codes (unsigned, BITS wide) × activations (int8).
template <int BITS, int N>
MT_INLINE I32 dot(I32 acc, const Codes* codes, const int8_t* x) {
    // maddubs saturates at 16 bits: N quads of products of BITS-wide codes must stay below 32768, wider codes go nibble by nibble.
    constexpr int kWidth = BITS == 8 ? 4 : BITS;
    constexpr int kQuads = 32767 / (2 * ((1 << kWidth) - 1) * 128) < N ? 32767 / (2 * ((1 << kWidth) - 1) * 128) : N;
    const __m256i ones = _mm256_set1_epi16(1);
    for (int q0 = 0; q0 < N; q0 += kQuads) {
        __m256i low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
        for (int q = q0; q < q0 + kQuads && q < N; ++q) {
            const __m256i xq = broadcast4(x + 4 * q);
            if constexpr (BITS == 8) {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(code_and(codes[q], 15), xq));
                high = _mm256_add_epi16(high, _mm256_maddubs_epi16(code_and(code_shr<4>(codes[q]), 15), xq));
            } else {
                low = _mm256_add_epi16(low, _mm256_maddubs_epi16(codes[q], xq));
            }
        }
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(low, ones));
        if constexpr (BITS == 8) acc = _mm256_add_epi32(acc, _mm256_madd_epi16(high, _mm256_set1_epi16(16)));
    }
    return acc;
}

// acc + pairs of int16 × pairs of int16, lane by lane.
MT_INLINE I32 madd_pairs(I32 acc, Codes a, Codes b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }

// acc + pairs of int16 × one pair for all lanes.
MT_INLINE I32 dot_pairs(I32 acc, Codes pairs, const int16_t* x) {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, broadcast4(x)));
}

}  // namespace miaotui::MIAOTUI_TIER
