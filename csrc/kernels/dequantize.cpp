// Every block format of model files as plain code: the oracle of the packed kernels and their documentation.
// Each sum and product rounds to float32 once, in the order written here (which is why contraction is off).
#include "kernels/dequantize.h"

#include <cstring>
#include <string>

#include "base/error.h"
#include "base/half.h"

namespace miaotui {
namespace {

using Bytes = const uint8_t*;

uint16_t load16(Bytes at) { return static_cast<uint16_t>(at[0] | at[1] << 8); }
uint32_t load32(Bytes at) { return load16(at) | static_cast<uint32_t>(load16(at + 2)) << 16; }
float load_half(Bytes at) { return half_to_float(load16(at)); }

void block_f32(Bytes in, float* out) { std::memcpy(out, in, sizeof(float)); }
void block_f16(Bytes in, float* out) { *out = load_half(in); }
void block_bf16(Bytes in, float* out) { *out = bfloat_to_float(load16(in)); }

// Blocks of 32: scale f16 [, minimum f16] [, fifth bits u32], 16 bytes of nibbles (low nibbles first half).

void block_q4_0(Bytes in, float* out) {
    const float scale = load_half(in);
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>((in[2 + i] & 15) - 8);
        out[i + 16] = scale * static_cast<float>((in[2 + i] >> 4) - 8);
    }
}

void block_q4_1(Bytes in, float* out) {
    const float scale = load_half(in), minimum = load_half(in + 2);
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>(in[4 + i] & 15) + minimum;
        out[i + 16] = scale * static_cast<float>(in[4 + i] >> 4) + minimum;
    }
}

int fifth_bit(uint32_t high, int index) { return static_cast<int>(high >> index & 1) << 4; }

void block_q5_0(Bytes in, float* out) {
    const float scale = load_half(in);
    const uint32_t high = load32(in + 2);
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>(((in[6 + i] & 15) | fifth_bit(high, i)) - 16);
        out[i + 16] = scale * static_cast<float>(((in[6 + i] >> 4) | fifth_bit(high, i + 16)) - 16);
    }
}

void block_q5_1(Bytes in, float* out) {
    const float scale = load_half(in), minimum = load_half(in + 2);
    const uint32_t high = load32(in + 4);
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>((in[8 + i] & 15) | fifth_bit(high, i)) + minimum;
        out[i + 16] = scale * static_cast<float>((in[8 + i] >> 4) | fifth_bit(high, i + 16)) + minimum;
    }
}

void block_q8_0(Bytes in, float* out) {
    const float scale = load_half(in);
    for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(in[2 + i]));
}

// Blocks of 256: 16 groups of 16, or 8 groups of 32, whose own small scales are quantized once more.

// scales[16] (low nibble scale, high nibble minimum), codes[64] of 2 bits, d, dmin
void block_q2_k(Bytes in, float* out) {
    const float d = load_half(in + 80), dmin = load_half(in + 82);
    for (int group = 0; group < 16; ++group) {
        const float scale = d * static_cast<float>(in[group] & 15), minimum = dmin * static_cast<float>(in[group] >> 4);
        const Bytes codes = in + 16 + group / 8 * 32 + group % 2 * 16;
        const int shift = group % 8 / 2 * 2;
        for (int i = 0; i < 16; ++i) *out++ = scale * static_cast<float>(codes[i] >> shift & 3) - minimum;
    }
}

// Q3_K keeps 16 scales of 6 bits in 12 bytes: 8 bytes of low nibbles, then 4 bytes of high bit pairs.
int q3_k_scale(Bytes scales, int group) {
    const int low = scales[group % 8] >> group / 8 * 4 & 15;
    const int high = scales[8 + group % 4] >> group / 4 * 2 & 3;
    return (low | high << 4) - 32;
}

// high bits[32], codes[64] of 2 bits, scales[12], d; a cleared high bit subtracts 4
void block_q3_k(Bytes in, float* out) {
    const float d = load_half(in + 108);
    for (int group = 0; group < 16; ++group) {
        const float scale = d * static_cast<float>(q3_k_scale(in + 96, group));
        const Bytes high = in + group % 2 * 16;
        const Bytes codes = in + 32 + group / 8 * 32 + group % 2 * 16;
        const int shift = group % 8 / 2 * 2;
        for (int i = 0; i < 16; ++i) {
            const int offset = (high[i] >> group / 2 & 1) != 0 ? 0 : 4;
            *out++ = scale * static_cast<float>((codes[i] >> shift & 3) - offset);
        }
    }
}

struct ScaleMin {
    float scale;
    float minimum;
};

// Q4_K and Q5_K keep 8 scales and 8 minimums of 6 bits in 12 bytes; groups 4 to 7 are spread over three bytes.
ScaleMin k_scale_min(Bytes block, int group) {
    const float d = load_half(block), dmin = load_half(block + 2);
    const Bytes packed = block + 4;
    if (group < 4)
        return {d * static_cast<float>(packed[group] & 63), dmin * static_cast<float>(packed[group + 4] & 63)};
    const int scale = (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
    const int minimum = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
    return {d * static_cast<float>(scale), dmin * static_cast<float>(minimum)};
}

// d, dmin, scales[12], nibbles[128]: each 32 bytes hold one group in the low and the next in the high nibbles
void block_q4_k(Bytes in, float* out) {
    for (int group = 0; group < 8; ++group) {
        const ScaleMin s = k_scale_min(in, group);
        const Bytes codes = in + 16 + group / 2 * 32;
        const int shift = group % 2 * 4;
        for (int i = 0; i < 32; ++i) *out++ = s.scale * static_cast<float>(codes[i] >> shift & 15) - s.minimum;
    }
}

// d, dmin, scales[12], fifth bits[32] (bit g belongs to group g), nibbles[128] as in Q4_K
void block_q5_k(Bytes in, float* out) {
    for (int group = 0; group < 8; ++group) {
        const ScaleMin s = k_scale_min(in, group);
        const Bytes high = in + 16, codes = in + 48 + group / 2 * 32;
        const int shift = group % 2 * 4;
        for (int i = 0; i < 32; ++i) {
            const int code = (codes[i] >> shift & 15) | (high[i] >> group & 1) << 4;
            *out++ = s.scale * static_cast<float>(code) - s.minimum;
        }
    }
}

// nibbles[128], high bit pairs[64], scales[16] of int8, d
void block_q6_k(Bytes in, float* out) {
    const float d = load_half(in + 208);
    for (int group = 0; group < 16; ++group) {
        const float scale = d * static_cast<float>(static_cast<int8_t>(in[192 + group]));
        const Bytes low = in + group / 8 * 64 + group % 4 * 16;
        const Bytes high = in + 128 + group / 8 * 32 + group % 2 * 16;
        const int low_shift = group % 8 / 4 * 4, high_shift = group % 8 / 2 * 2;
        for (int i = 0; i < 16; ++i) {
            const int code = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
            *out++ = scale * static_cast<float>(code - 32);
        }
    }
}

// The non-linear 4-bit code book of IQ4_NL and IQ4_XS.
constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void expand_iq4(float scale, Bytes codes, float* out) {
    for (int i = 0; i < 16; ++i) {
        out[i] = scale * kIq4Values[codes[i] & 15];
        out[i + 16] = scale * kIq4Values[codes[i] >> 4];
    }
}

void block_iq4_nl(Bytes in, float* out) { expand_iq4(load_half(in), in + 2, out); }

// d, high scale bits u16, low scale nibbles[4], nibbles[128]
void block_iq4_xs(Bytes in, float* out) {
    const float d = load_half(in);
    const int high = load16(in + 2);
    for (int group = 0; group < 8; ++group) {
        const int scale = ((in[4 + group / 2] >> group % 2 * 4 & 15) | (high >> group * 2 & 3) << 4) - 32;
        expand_iq4(d * static_cast<float>(scale), in + 8 + group * 16, out + group * 32);
    }
}

template <WeightType kType, void (*kBlock)(Bytes, float*)>
void expand(Bytes source, float* target, int64_t count) {
    constexpr BlockShape shape = block_shape(kType);
    for (int64_t done = 0; done < count; done += shape.weights) {
        kBlock(source, target + done);
        source += shape.bytes;
    }
}

using Expand = void (*)(Bytes, float*, int64_t);

Expand expand_function(WeightType type) {
    switch (type) {
        case WeightType::F32: return expand<WeightType::F32, block_f32>;
        case WeightType::F16: return expand<WeightType::F16, block_f16>;
        case WeightType::BF16: return expand<WeightType::BF16, block_bf16>;
        case WeightType::Q4_0: return expand<WeightType::Q4_0, block_q4_0>;
        case WeightType::Q4_1: return expand<WeightType::Q4_1, block_q4_1>;
        case WeightType::Q5_0: return expand<WeightType::Q5_0, block_q5_0>;
        case WeightType::Q5_1: return expand<WeightType::Q5_1, block_q5_1>;
        case WeightType::Q8_0: return expand<WeightType::Q8_0, block_q8_0>;
        case WeightType::Q2_K: return expand<WeightType::Q2_K, block_q2_k>;
        case WeightType::Q3_K: return expand<WeightType::Q3_K, block_q3_k>;
        case WeightType::Q4_K: return expand<WeightType::Q4_K, block_q4_k>;
        case WeightType::Q5_K: return expand<WeightType::Q5_K, block_q5_k>;
        case WeightType::Q6_K: return expand<WeightType::Q6_K, block_q6_k>;
        case WeightType::IQ4_NL: return expand<WeightType::IQ4_NL, block_iq4_nl>;
        case WeightType::IQ4_XS: return expand<WeightType::IQ4_XS, block_iq4_xs>;
    }
    throw BadInput("weight type " + std::to_string(static_cast<int>(type)) + " is not supported");
}

}  // namespace

void dequantize_row(WeightType type, const void* source, float* target, int64_t count) {
    const Expand function = expand_function(type);
    if (count < 0 || count % block_shape(type).weights != 0) {
        throw BadInput("cannot dequantize " + std::to_string(count) + " weights: not a whole number of blocks");
    }
    function(static_cast<Bytes>(source), target, count);
}

}  // namespace miaotui
