// Linear operators on float activations: float weights, and the accuracy reference on quantized ones. The order of additions is
// fixed by the columns alone. Included once per tier after linear.h.
#pragma once

#include "kernels/linear.h"

namespace miaotui::MIAOTUI_TIER {

template <WeightType TYPE>
MT_INLINE F32 load_float(const uint8_t* base, int64_t index) {
    if constexpr (TYPE == WeightType::F32) return load(reinterpret_cast<const float*>(base) + index);
    if constexpr (TYPE == WeightType::F16) return load_f16(reinterpret_cast<const uint16_t*>(base) + index);
    if constexpr (TYPE == WeightType::BF16) return load_bf16(reinterpret_cast<const uint16_t*>(base) + index);
}

template <WeightType TYPE, int MT>
static void float_block(const PackedView& w, int64_t block, const F32Rows& x, int64_t t0, const LinearOut& out) {
    const uint8_t* base = w.data + block * w.block_bytes;
    for (int lane = 0; lane < kBlockRows; lane += W) {
        F32 acc[MT];
        for (int t = 0; t < MT; ++t) acc[t] = zero();
        for (int64_t k = 0; k < w.cols; ++k) {
            const F32 weight = load_float<TYPE>(base, 16 * k + lane);
            for (int t = 0; t < MT; ++t) acc[t] = fma(weight, set1(x.row(t0 + t)[k]), acc[t]);
        }
        for (int t = 0; t < MT; ++t) store_rows(out, t0 + t, block * kBlockRows + lane, w.rows, acc[t]);
    }
}

// Σ over one group of (q − zero)·x, column by column, for one token.
template <class P, int QUADS>
MT_INLINE F32 float_group(const Codes* codes, const float* x, float& sum) {
    const F32 zero_point = set1(P::kZeroShift >= 0 ? static_cast<float>(1 << (P::kZeroShift & 31)) : 0.0F);
    F32 acc = zero();
    sum = 0.0F;
    for (int q = 0; q < QUADS; ++q) {
        acc = fma(sub(code_column<0>(codes[q]), zero_point), set1(x[4 * q]), acc);
        acc = fma(sub(code_column<1>(codes[q]), zero_point), set1(x[4 * q + 1]), acc);
        acc = fma(sub(code_column<2>(codes[q]), zero_point), set1(x[4 * q + 2]), acc);
        acc = fma(sub(code_column<3>(codes[q]), zero_point), set1(x[4 * q + 3]), acc);
        for (int i = 0; i < 4; ++i) sum += x[4 * q + i];
    }
    return acc;
}

template <WeightType TYPE, int MT>
static void dequantized_block(const PackedView& w, int64_t block, const F32Rows& x, int64_t t0, const LinearOut& out) {
    using P = Packed<TYPE>;
    constexpr int kQuads = P::kGroupColumns / 4, kPieces = kGroup / P::kGroupColumns;
    const P p = P::open(w, block);
    for (int lane = 0; lane < kBlockRows; lane += W) {
        F32 acc[MT];
        for (int t = 0; t < MT; ++t) acc[t] = zero();
        for_tiles(p, w.cols, lane, [&](const auto& section, int j, int64_t g) MT_LAMBDA {
            Codes c[8];
            P::tile(section, j, lane, c);
            for (int part = 0; part < kPieces; ++part) {
                const ScalePair s = P::scales(section, kPieces * j + part, lane);
                for (int t = 0; t < MT; ++t) {
                    float sum;
                    const float* column = x.row(t0 + t) + kGroup * g + P::kGroupColumns * part;
                    acc[t] = fma(s.s, float_group<P, kQuads>(c + kQuads * part, column, sum), acc[t]);
                    if constexpr (P::kZeroShift < 0) acc[t] = fma(s.m, set1(sum), acc[t]);
                }
            }
        });
        for (int t = 0; t < MT; ++t) store_rows(out, t0 + t, block * kBlockRows + lane, w.rows, acc[t]);
    }
}

static void linear_f32(const PackedView& w, int64_t block0, int64_t block1, const F32Rows& x, int64_t t0, int64_t t1,
                       const LinearOut& out) {
    constexpr int kTile = W == 16 ? 8 : W == 8 ? 4 : 1;
    for (int64_t b = block0; b < block1; ++b) {
        switch (w.type) {
#define MT_TILES(FUNCTION, T)                                                                \
    case WeightType::T: {                                                                    \
        int64_t t = t0;                                                                      \
        for (; t + kTile <= t1; t += kTile) FUNCTION<WeightType::T, kTile>(w, b, x, t, out); \
        for (; t < t1; ++t) FUNCTION<WeightType::T, 1>(w, b, x, t, out);                     \
        break;                                                                               \
    }
#define MT_CASE(T) MT_TILES(dequantized_block, T)
            MT_TILES(float_block, F32)
            MT_TILES(float_block, F16)
            MT_TILES(float_block, BF16)
            MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
#undef MT_TILES
        }
    }
}

}  // namespace miaotui::MIAOTUI_TIER
