// Two loops that do nothing but load a tier's limits: what the machine can read and multiply, to compare real kernels with.
// Included once per tier after a vec_*.h.
#pragma once

#include "kernels/linear.h"

namespace miaotui::MIAOTUI_TIER {

inline constexpr int kPeakChains = 12;

// The chains of both loops work on different numbers, or the compiler would make one of them.
// rounds × 12 independent chains × 8 quads × W rows × 4 products of 4-bit codes and int8 activations. Returns the operations done.
static void peak_dot(int64_t rounds, const int8_t* x, int64_t* operations) {
    Codes codes[8];
    for (int q = 0; q < 8; ++q) codes[q] = code_and(load_codes(reinterpret_cast<const uint8_t*>(x) + 64 * q, 0), 15);
    I32 acc[kPeakChains];
#pragma GCC unroll 12  // or the accumulators stay in memory
    for (I32& a : acc) a = iset1(0);
    for (int64_t i = 0; i < rounds; ++i) {
        // The chains take turns: some processors look too few instructions ahead to find another chain behind eight in a row.
#pragma GCC unroll 8
        for (int q = 0; q < 8; q += kDotsAtOnce)
#pragma GCC unroll 12
            for (int c = 0; c < kPeakChains; ++c) acc[c] = dot<4, kDotsAtOnce>(acc[c], codes + q, x + 32 * c + 4 * q);
        __asm__ volatile("" ::: "memory");  // the loads of x belong to the work
    }
    I32 sum = acc[0];
#pragma GCC unroll 12
    for (int c = 1; c < kPeakChains; ++c) sum = iadd(sum, acc[c]);
    const int32_t total = lane_sum(sum);
    __asm__ volatile("" ::"r"(total));
    *operations = rounds * kPeakChains * 8 * W * 4 * 2;
}

// rounds × 12 independent chains × W fused multiply-adds of floats. Returns the operations done.
static void peak_fma(int64_t rounds, const float* x, int64_t* operations) {
    const F32 factor = load(x);
    F32 acc[kPeakChains];
#pragma GCC unroll 12
    for (int c = 0; c < kPeakChains; ++c) acc[c] = set1(static_cast<float>(c));
    for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
        for (F32& a : acc) a = fma(a, factor, factor);
        __asm__ volatile("" ::: "memory");  // each round is work of its own
    }
    F32 sum = acc[0];
#pragma GCC unroll 12
    for (int c = 1; c < kPeakChains; ++c) sum = add(sum, acc[c]);
    float lanes[W];
    store(lanes, sum);
    __asm__ volatile("" ::"m"(lanes));
    *operations = rounds * kPeakChains * W * 2;
}

// Reads `bytes` bytes (a multiple of 512) once, asking ahead as the kernels do.
static void peak_read(const uint8_t* p, int64_t bytes) {
    F32 acc[8];
    for (F32& a : acc) a = zero();
    constexpr int kStep = W * 4;
    Prefetcher ahead = Prefetcher::open(p, bytes, p + bytes);
    for (int64_t i = 0; i + 8 * kStep <= bytes; i += 8 * kStep) {
        ahead.fetch<8 * kStep>();
        for (int k = 0; k < 8; ++k) acc[k] = add(acc[k], load(reinterpret_cast<const float*>(p + i + k * kStep)));
    }
    for (int k = 1; k < 8; ++k) acc[0] = add(acc[0], acc[k]);
    float lanes[W];
    store(lanes, acc[0]);
    __asm__ volatile("" ::"m"(lanes));
}

}  // namespace miaotui::MIAOTUI_TIER
