// Weight types of model files, numbered as in the GGUF specification (ggml type ids).
#pragma once

#include <cstddef>
#include <cstdint>

namespace miaotui {

enum class WeightType : int32_t {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
};

// X(type) for every type that is not a float.
#define MT_QUANTIZED_TYPES(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)

// Weights per block and bytes per block of a file type; {0, 0} for a type that is not supported.
struct BlockShape {
    int32_t weights;
    int32_t bytes;
};

constexpr BlockShape block_shape(WeightType type) {
    switch (type) {
        case WeightType::F32: return {1, 4};
        case WeightType::F16: return {1, 2};
        case WeightType::BF16: return {1, 2};
        case WeightType::Q4_0: return {32, 18};
        case WeightType::Q4_1: return {32, 20};
        case WeightType::Q5_0: return {32, 22};
        case WeightType::Q5_1: return {32, 24};
        case WeightType::Q8_0: return {32, 34};
        case WeightType::Q2_K: return {256, 84};
        case WeightType::Q3_K: return {256, 110};
        case WeightType::Q4_K: return {256, 144};
        case WeightType::Q5_K: return {256, 176};
        case WeightType::Q6_K: return {256, 210};
        case WeightType::IQ4_NL: return {32, 18};
        case WeightType::IQ4_XS: return {256, 136};
    }
    return {0, 0};
}

}  // namespace miaotui
