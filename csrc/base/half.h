// Scalar conversions between float32 and the 16-bit float formats; no intrinsics, so every tier may include them.
// `static`: each translation unit keeps its own copy, so that no tier's code is linked into another's.
#pragma once

#include <cstdint>

namespace miaotui {

static constexpr inline float bits_to_float(uint32_t bits) { return __builtin_bit_cast(float, bits); }
static constexpr inline uint32_t float_to_bits(float value) { return __builtin_bit_cast(uint32_t, value); }

// Exact for every input; NaN payloads are kept.
static constexpr inline float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t magnitude = half & 0x7fffu;
    if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    if (magnitude >= 0x0400u) return bits_to_float(sign | ((magnitude << 13) + (112u << 23)));
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;  // exact: 10 significant bits
    return bits_to_float(sign | float_to_bits(subnormal));
}

// Rounds to nearest even; from 65520 on the result is infinity; a NaN stays one and becomes quiet.
static constexpr inline uint16_t float_to_half(float value) {
    const uint32_t bits = float_to_bits(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu));
    if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {
        // Below 2^-14: one unit of 0.5f's last place is the step of half's subnormals, so the addition rounds for us.
        const uint32_t rounded = float_to_bits(bits_to_float(magnitude) + 0.5f) - float_to_bits(0.5f);
        return static_cast<uint16_t>(sign | rounded);
    }
    magnitude += 0xfffu + (magnitude >> 13 & 1u);
    return static_cast<uint16_t>(sign | (magnitude - (112u << 23)) >> 13);
}

static constexpr inline float bfloat_to_float(uint16_t value) {
    return bits_to_float(static_cast<uint32_t>(value) << 16);
}

// Rounds to nearest even; a NaN stays one and becomes quiet.
static constexpr inline uint16_t float_to_bfloat(float value) {
    const uint32_t bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

static_assert(half_to_float(0x0001) == 0x1p-24f && half_to_float(0xfbff) == -65504.0f);
static_assert(float_to_half(0x1p-25f) == 0 && float_to_half(0x1.8p-24f) == 2 && float_to_half(0x1.ffcp-15f) == 0x400 &&
              float_to_half(2049.0f) == 0x6800 && float_to_half(2051.0f) == 0x6802 &&
              float_to_half(-65519.0f) == 0xfbff && float_to_half(-65520.0f) == 0xfc00);
static_assert(float_to_bfloat(0x1.01p0f) == 0x3f80 && float_to_bfloat(0x1.03p0f) == 0x3f82 &&
              float_to_bfloat(-0x1.ffp127f) == 0xff80);

}  // namespace miaotui
