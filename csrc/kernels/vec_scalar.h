// The vector interface of the kernel bodies with one lane: plain code, the oracle of all other tiers.
#pragma once

#include <cstdint>

#include "kernels/inline.h"

namespace miaotui::MIAOTUI_TIER {

inline constexpr int W = 1;
using F32 = float;
using I32 = int32_t;
struct Codes {
    uint8_t k[4];  // four columns of one row
};

MT_INLINE F32 zero() { return 0.0F; }
MT_INLINE F32 set1(float x) { return x; }
MT_INLINE F32 load(const float* p) { return *p; }
MT_INLINE void store(float* p, F32 x) { *p = x; }
MT_INLINE F32 bits_to_f32(I32 a) {
    float f;
    __builtin_memcpy(&f, &a, 4);
    return f;
}
MT_INLINE F32 load_f16(const uint16_t* p) {
    const int32_t sign = (*p & 0x8000) << 16, exponent = (*p >> 10) & 31, mantissa = *p & 1023;
    if (exponent == 0) {  // zero and subnormals: mantissa · 2⁻²⁴
        const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
        return sign != 0 ? -magnitude : magnitude;
    }
    return bits_to_f32(sign | ((exponent == 31 ? 255 : exponent + 112) << 23) | (mantissa << 13));
}
MT_INLINE F32 load_bf16(const uint16_t* p) {
    return bits_to_f32(static_cast<int32_t>(static_cast<uint32_t>(*p) << 16));
}
MT_INLINE F32 load_u8(const uint8_t* p) { return static_cast<float>(*p); }
MT_INLINE F32 load_i8(const uint8_t* p) { return static_cast<float>(static_cast<int8_t>(*p)); }
MT_INLINE void store_f16(uint16_t* p, F32 x) {  // to nearest, ties to even
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    const uint32_t sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7FFFFFFF;
    uint32_t half;
    if (magnitude > 0x7F800000) {
        half = 0x7E00 | ((magnitude >> 13) & 0x3FF);  // NaN keeps its payload, made quiet
    } else if (magnitude >= 0x477FF000) {
        half = 0x7C00;  // rounds to infinity
    } else if (magnitude < 0x38800000) {
        half = static_cast<uint32_t>(__builtin_lrintf(__builtin_fabsf(x) * 0x1p24F));  // subnormal: units of 2⁻²⁴
    } else {
        half = (magnitude - 0x38000000 + 0xFFF + ((magnitude >> 13) & 1)) >> 13;
    }
    *p = static_cast<uint16_t>(sign | half);
}
MT_INLINE int32_t lane_sum(I32 a) { return a; }
MT_INLINE int32_t lane_max(I32 a) { return a; }
// 16 lanes of one or more registers: lane i + lane i + 8, of these i + (i + 4) and so on, the same bits on every tier.
MT_INLINE float sum_of_lanes(const F32* part) {
    float s[8];
    for (int i = 0; i < 8; ++i) s[i] = part[i] + part[i + 8];
    for (int half = 4; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) s[i] += s[i + half];
    return s[0];
}
MT_INLINE float highest_lane(F32 a) { return a; }
MT_INLINE int32_t sum_of_codes(const int8_t* codes) {  // of 16
    int32_t sum = 0;
    for (int i = 0; i < 16; ++i) sum += codes[i];
    return sum;
}
MT_INLINE F32 add(F32 a, F32 b) { return a + b; }
MT_INLINE F32 sub(F32 a, F32 b) { return a - b; }
MT_INLINE F32 mul(F32 a, F32 b) { return a * b; }
MT_INLINE F32 div(F32 a, F32 b) { return a / b; }
MT_INLINE F32 fma(F32 a, F32 b, F32 c) { return __builtin_fmaf(a, b, c); }
MT_INLINE F32 max(F32 a, F32 b) { return a > b ? a : b; }  // as the hardware: b where either is NaN
MT_INLINE F32 min(F32 a, F32 b) { return a < b ? a : b; }
MT_INLINE F32 zero_where_less(F32 x, F32 limit, F32 value) { return x < limit ? 0.0F : value; }
MT_INLINE F32 where_less(F32 a, F32 b, F32 x, F32 y) { return a < b ? x : y; }
MT_INLINE F32 lookup(const float* table, I32 index) { return table[index]; }

MT_INLINE I32 iset1(int32_t x) { return x; }
MT_INLINE I32 iadd(I32 a, I32 b) {  // wraps, as the hardware
    return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}
template <int N>
MT_INLINE I32 ishl(I32 a) {
    return static_cast<int32_t>(static_cast<uint32_t>(a) << N);
}
template <int N>
MT_INLINE I32 ishr(I32 a) {
    return a >> N;
}
MT_INLINE I32 iand(I32 a, I32 b) { return a & b; }
MT_INLINE I32 imax(I32 a, I32 b) { return a > b ? a : b; }
MT_INLINE I32 magnitude_bits(F32 a) {
    I32 bits;
    __builtin_memcpy(&bits, &a, 4);
    return bits & 0x7FFFFFFF;
}
// The two largest of 32 values' eight quads, by their largest magnitude: its bits, of which the lowest three are replaced with
// 7 − the quad's number.
MT_INLINE void largest_quads(const float* x, int32_t keys[2]) {
    keys[0] = keys[1] = 0;
    for (int q = 0; q < 8; ++q) {
        int32_t key = 0;
        for (int i = 0; i < 4; ++i) key = imax(key, magnitude_bits(x[4 * q + i]));
        key = (key & ~7) | (7 - q);
        keys[1] = imax(keys[1], key < keys[0] ? key : keys[0]);
        keys[0] = imax(keys[0], key);
    }
}
MT_INLINE F32 to_f32(I32 a) { return static_cast<float>(a); }
MT_INLINE I32 round_i32(F32 a) {  // to nearest even; INT32_MIN for NaN and out of range, as the hardware
    return a >= -0x1p31F && a < 0x1p31F ? static_cast<int32_t>(__builtin_lrintf(a)) : INT32_MIN;
}
MT_INLINE void store_i8(int8_t* p, I32 a) { *p = static_cast<int8_t>(a < -128 ? -128 : a > 127 ? 127 : a); }
MT_INLINE void store_low_bytes(int8_t* p, I32 a) { *p = static_cast<int8_t>(a); }
MT_INLINE void store_i16(int16_t* p, I32 a) { *p = static_cast<int16_t>(a < -32768 ? -32768 : a > 32767 ? 32767 : a); }

MT_INLINE Codes load_codes(const uint8_t* line, int lane) {
    Codes c;
    __builtin_memcpy(c.k, line + 4 * lane, 4);
    return c;
}
MT_INLINE Codes code_and(Codes c, uint8_t mask) {
    for (uint8_t& k : c.k) k = static_cast<uint8_t>(k & mask);
    return c;
}
MT_INLINE Codes code_or(Codes a, Codes b) {
    for (int i = 0; i < 4; ++i) a.k[i] = static_cast<uint8_t>(a.k[i] | b.k[i]);
    return a;
}
template <int N>
MT_INLINE Codes code_shr(Codes c) {
    for (uint8_t& k : c.k) k = static_cast<uint8_t>(k >> N);
    return c;
}
MT_INLINE Codes code_shr(Codes c, int n) {
    for (uint8_t& k : c.k) k = static_cast<uint8_t>(k >> n);
    return c;
}
template <int N>
MT_INLINE Codes code_shl(Codes c) {
    for (uint8_t& k : c.k) k = static_cast<uint8_t>(k << N);
    return c;
}
MT_INLINE void store_codes(uint8_t* line, int lane, Codes c) { __builtin_memcpy(line + 4 * lane, c.k, 4); }
// One bit per code from an 8-byte word, as `value` or 0.
MT_INLINE Codes code_bits(const uint8_t* word, int lane, uint8_t value) {
    const int four = word[lane / 2] >> (4 * (lane & 1));
    Codes c;
    for (int i = 0; i < 4; ++i) c.k[i] = (four >> i) & 1 ? value : uint8_t{0};
    return c;
}
MT_INLINE Codes code_lookup(const uint8_t* table16, Codes c) {
    for (uint8_t& k : c.k) k = table16[k & 15];
    return c;
}
template <int K>
MT_INLINE F32 code_column(Codes c) {
    return static_cast<float>(c.k[K]);
}

inline constexpr int kDotsAtOnce = 8;

// acc + Σ over N quads of codes × activations (int8).
template <int BITS, int N>
MT_INLINE I32 dot(I32 acc, const Codes* codes, const int8_t* x) {
    for (int q = 0; q < N; ++q)
        for (int i = 0; i < 4; ++i) acc += static_cast<int32_t>(codes[q].k[i]) * x[4 * q + i];
    return acc;
}

MT_INLINE Codes load_pairs_i8(const uint8_t* p) {  // a pair of int8 as a pair of int16
    const int16_t pair[2] = {static_cast<int8_t>(p[0]), static_cast<int8_t>(p[1])};
    Codes c;
    __builtin_memcpy(c.k, pair, 4);
    return c;
}

// acc + pairs of int16 × pairs of int16, lane by lane.
MT_INLINE I32 madd_pairs(I32 acc, Codes a, Codes b) {
    int16_t first[2], second[2];
    __builtin_memcpy(first, a.k, 4);
    __builtin_memcpy(second, b.k, 4);
    return iadd(iadd(acc, first[0] * second[0]), first[1] * second[1]);
}

// acc + pairs of int16 × one pair for all lanes.
MT_INLINE I32 dot_pairs(I32 acc, Codes pairs, const int16_t* x) {
    int16_t pair[2];
    __builtin_memcpy(pair, pairs.k, 4);
    return iadd(iadd(acc, pair[0] * x[0]), pair[1] * x[1]);
}

}  // namespace miaotui::MIAOTUI_TIER
