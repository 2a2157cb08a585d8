// The vector interface of the kernel bodies on AVX-512: 16 lanes.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/vec_x86.h"

namespace miaotui::MIAOTUI_TIER {

inline constexpr int W = 16;
using F32 = __m512;
using I32 = __m512i;
using Codes = __m512i;

MT_INLINE F32 zero() { return _mm512_setzero_ps(); }
MT_INLINE F32 set1(float x) { return _mm512_set1_ps(x); }
MT_INLINE F32 load(const float* p) { return _mm512_loadu_ps(p); }
MT_INLINE void store(float* p, F32 x) { _mm512_storeu_ps(p, x); }
MT_INLINE F32 load_f16(const uint16_t* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
MT_INLINE F32 load_bf16(const uint16_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
MT_INLINE F32 load_u8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
MT_INLINE F32 load_i8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
MT_INLINE void store_f16(uint16_t* p, F32 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
MT_INLINE int32_t lane_sum(I32 a) { return _mm512_reduce_add_epi32(a); }
MT_INLINE int32_t lane_max(I32 a) { return _mm512_reduce_max_epi32(a); }
// 16 lanes of one or more registers: lane i + lane i + 8, of these i + (i + 4) and so on, the same bits on every tier.
MT_INLINE float sum_of_lanes(const F32* part) {
    return sum_of_lanes8(_mm256_add_ps(_mm512_castps512_ps256(*part), _mm512_extractf32x8_ps(*part, 1)));
}
MT_INLINE float highest_lane(F32 a) { return _mm512_reduce_max_ps(a); }
MT_INLINE F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
MT_INLINE F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
MT_INLINE F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
MT_INLINE F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
MT_INLINE F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
MT_INLINE F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
MT_INLINE F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
MT_INLINE F32 zero_where_less(F32 x, F32 limit, F32 value) {  // x < limit ? 0 : value
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_NLT_UQ), value);
}
MT_INLINE F32 where_less(F32 a, F32 b, F32 x, F32 y) {  // a < b ? x : y
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
MT_INLINE F32 lookup(const float* table, I32 index) { return _mm512_i32gather_ps(index, table, 4); }

MT_INLINE I32 iset1(int32_t x) { return _mm512_set1_epi32(x); }
MT_INLINE I32 iadd(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
template <int N>
MT_INLINE I32 ishl(I32 a) {
    return _mm512_slli_epi32(a, N);
}
template <int N>
MT_INLINE I32 ishr(I32 a) {
    return _mm512_srai_epi32(a, N);
}
MT_INLINE I32 iand(I32 a, I32 b) { return _mm512_and_si512(a, b); }
MT_INLINE I32 imax(I32 a, I32 b) { return _mm512_max_epi32(a, b); }
MT_INLINE I32 magnitude_bits(F32 a) { return _mm512_and_si512(_mm512_castps_si512(a), iset1(0x7FFFFFFF)); }
MT_INLINE F32 to_f32(I32 a) { return _mm512_cvtepi32_ps(a); }
MT_INLINE I32 round_i32(F32 a) { return _mm512_cvtps_epi32(a); }
MT_INLINE F32 bits_to_f32(I32 a) { return _mm512_castsi512_ps(a); }
MT_INLINE void store_i8(int8_t* p, I32 a) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(a)); }
MT_INLINE void store_low_bytes(int8_t* p, I32 a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
MT_INLINE void store_i16(int16_t* p, I32 a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(a));
}

MT_INLINE Codes load_codes(const uint8_t* line, int lane) {
    (void)lane;  // all 16 rows at once
    return _mm512_loadu_si512(line);
}
MT_INLINE Codes code_and(Codes c, uint8_t mask) {
    return _mm512_and_si512(c, _mm512_set1_epi8(static_cast<char>(mask)));
}
MT_INLINE Codes code_or(Codes a, Codes b) { return _mm512_or_si512(a, b); }
template <int N>
MT_INLINE Codes code_shr(Codes c) {
    return _mm512_srli_epi16(c, N);
}  // mask afterwards: bits cross bytes
MT_INLINE Codes code_shr(Codes c, int n) { return _mm512_srl_epi16(c, _mm_cvtsi32_si128(n)); }
template <int N>
MT_INLINE Codes code_shl(Codes c) {
    return _mm512_slli_epi16(c, N);
}  // codes small enough that no bit crosses a byte
MT_INLINE void store_codes(uint8_t* line, int lane, Codes c) {
    (void)lane;
    _mm512_storeu_si512(line, c);
}
// One bit per code from an 8-byte word, as `value` or 0.
MT_INLINE Codes code_bits(const uint8_t* word, int lane, uint8_t value) {
    (void)lane;
    uint64_t mask;
    __builtin_memcpy(&mask, word, 8);
    return _mm512_maskz_mov_epi8(mask, _mm512_set1_epi8(static_cast<char>(value)));
}
MT_INLINE Codes code_lookup(const uint8_t* table16, Codes c) {
    const __m128i table = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table16));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), c);
}
template <int K>
MT_INLINE F32 code_column(Codes c) {  // column K (0…3) of the quad, one value per row
    return _mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(c, 8 * K), _mm512_set1_epi32(255)));
}

MT_INLINE Codes load_pairs_i8(const uint8_t* p) {  // 16 pairs of int8 as pairs of int16
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

MT_INLINE __m512i broadcast4(const void* x) {
    int32_t four;
    __builtin_memcpy(&four, x, 4);
    return _mm512_set1_epi32(four);
}

// So many quads are cheapest in one go: one where that is an instruction, all where they share their widening to 32 bits.
#ifdef __AVX512VNNI__
inline constexpr int kDotsAtOnce = 1;
#else
inline constexpr int kDotsAtOnce = 8;
#endif

// acc + Σ over N quads of codes (unsigned, BITS wide) × activations (int8).
template <int BITS, int N>
MT_INLINE I32 dot(I32 acc, const Codes* codes, const int8_t* x) {
#ifdef __AVX512VNNI__
    for (int q = 0; q < N; ++q) acc = _mm512_dpbusd_epi32(acc, codes[q], broadcast4(x + 4 * q));
    return acc;
#else
    // maddubs saturates at 16 bits: N quads of products of BITS-wide codes must stay below 32768, wider codes go nibble by nibble.
    constexpr int kWidth = BITS == 8 ? 4 : BITS;
    constexpr int kQuads = 32767 / (2 * ((1 << kWidth) - 1) * 128) < N ? 32767 / (2 * ((1 << kWidth) - 1) * 128) : N;
    const __m512i ones = _mm512_set1_epi16(1);
    for (int q0 = 0; q0 < N; q0 += kQuads) {
        __m512i low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
        for (int q = q0; q < q0 + kQuads && q < N; ++q) {
            const __m512i xq = broadcast4(x + 4 * q);
            if constexpr (BITS == 8) {
                low = _mm512_add_epi16(low, _mm512_maddubs_epi16(code_and(codes[q], 15), xq));
                high = _mm512_add_epi16(high, _mm512_maddubs_epi16(code_and(code_shr<4>(codes[q]), 15), xq));
            } else {
                low = _mm512_add_epi16(low, _mm512_maddubs_epi16(codes[q], xq));
            }
        }
        acc = _mm512_add_epi32(acc, _mm512_madd_epi16(low, ones));
        if constexpr (BITS == 8) acc = _mm512_add_epi32(acc, _mm512_madd_epi16(high, _mm512_set1_epi16(16)));
    }
    return acc;
#endif
}

// acc + pairs of int16 × pairs of int16, lane by lane.
MT_INLINE I32 madd_pairs(I32 acc, Codes a, Codes b) {
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(acc, a, b);
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b));
#endif
}

// acc + pairs of int16 × one pair for all lanes.
MT_INLINE I32 dot_pairs(I32 acc, Codes pairs, const int16_t* x) {
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(acc, pairs, broadcast4(x));
#else
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, broadcast4(x)));
#endif
}

}  // namespace miaotui::MIAOTUI_TIER
