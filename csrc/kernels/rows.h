// Row-wise operators: norms, quantization, rotary embedding, activations. Sums run over 16 partial sums in a fixed order, so
// every tier rounds alike. Included once per tier after a vec_*.h.
#pragma once

#include "kernels/inline.h"
#include "kernels/packed.h"
#include "kernels/row_peak.h"

namespace miaotui::MIAOTUI_TIER {

inline constexpr int kParts = 16 / W;  // registers that hold 16 partial sums

struct Sum16 {
    F32 part[kParts];
};

MT_INLINE Sum16 sum16_zero() {
    Sum16 s;
    for (int i = 0; i < kParts; ++i) s.part[i] = zero();
    return s;
}

MT_INLINE float sum16_total(const Sum16& s) { return sum_of_lanes(s.part); }

// e^x[i], N registers in turns: each step waits for the one before it, and one chain of them would fill the processor's window.
// Cephes-style: eˣ = 2ⁿ·eʳ with |r| ≤ ln2/2 and a degree-6 polynomial; relative error below 2e-7. Exactly 0 under −87.3, NaN for
// NaN (max and min return their second operand then).
template <int N>
MT_INLINE void exp_all(F32* x) {
    const F32 lowest = set1(-87.33F);
    I32 n[N];
    F32 r[N], p[N];
    const auto each = [](const auto& body) MT_LAMBDA { unrolled<N>(body); };
    const auto multiply_add = [&](float constant)
                                  MT_LAMBDA { each([&](int i) MT_LAMBDA { p[i] = fma(p[i], r[i], set1(constant)); }); };
    each([&](int i) MT_LAMBDA { r[i] = max(lowest, x[i]); });
    each([&](int i) MT_LAMBDA { r[i] = min(set1(88.37F), r[i]); });
    each([&](int i) MT_LAMBDA { p[i] = mul(r[i], set1(1.44269504088896341F)); });
    each([&](int i) MT_LAMBDA { n[i] = round_i32(p[i]); });
    each([&](int i) MT_LAMBDA { p[i] = to_f32(n[i]); });
    each([&](int i) MT_LAMBDA { r[i] = fma(p[i], set1(-0.693359375F), r[i]); });
    each([&](int i) MT_LAMBDA { r[i] = fma(p[i], set1(2.12194440e-4F), r[i]); });
    each([&](int i) MT_LAMBDA { p[i] = set1(1.9875691500e-4F); });
    multiply_add(1.3981999507e-3F);
    multiply_add(8.3334519073e-3F);
    multiply_add(4.1665795894e-2F);
    multiply_add(1.6666665459e-1F);
    multiply_add(5.0000001201e-1F);
    each([&](int i) MT_LAMBDA { p[i] = fma(p[i], mul(r[i], r[i]), r[i]); });
    each([&](int i) MT_LAMBDA { p[i] = add(p[i], set1(1.0F)); });
    each([&](int i) MT_LAMBDA { p[i] = mul(p[i], bits_to_f32(ishl<23>(iadd(n[i], iset1(127))))); });
    each([&](int i) MT_LAMBDA { x[i] = zero_where_less(x[i], lowest, p[i]); });
}

MT_INLINE F32 exp(F32 x) {
    exp_all<1>(&x);
    return x;
}

MT_INLINE F32 silu(F32 x) { return div(x, add(set1(1.0F), exp(sub(zero(), x)))); }

// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = x·(1 − 1/(1 + e^{2u}))
MT_INLINE F32 gelu_tanh(F32 x) {
    const F32 u = mul(mul(set1(1.59576912160573F), x), fma(mul(set1(0.044715F), x), x, set1(1.0F)));
    return div(x, add(set1(1.0F), exp(sub(zero(), u))));
}

// x·Φ(x) (Hendrycks & Gimpel 2016) = max(x, 0) − |x|·Φ(−|x|), with Φ(−a) = t·e^(−a²/2 + P(t)) and t = 1 / (1 + a/4). P is our own
// fit in Chebyshev points: the tail is right to 4e-8 of itself, where 1 + erf(x/√2) would have nothing left of it.
MT_INLINE F32 gelu(F32 x) {
    const F32 a = min(set1(14.0F), bits_to_f32(magnitude_bits(x)));  // Φ(−14) is 0 in float32; NaN passes
    const F32 t = div(set1(1.0F), fma(set1(0.25F), a, set1(1.0F)));
    F32 p = set1(-1.895761131e-1F);
    p = fma(p, t, set1(8.090665138e-1F));
    p = fma(p, t, set1(-1.193477371F));
    p = fma(p, t, set1(6.488701435e-1F));
    p = fma(p, t, set1(-1.459982699e-1F));
    p = fma(p, t, set1(-9.142981383e-3F));
    p = fma(p, t, set1(2.704147667e-1F));
    p = fma(p, t, set1(4.195509258e-1F));
    p = fma(p, t, set1(1.002519808F));
    p = fma(p, t, set1(-2.305374639F));
    const F32 tail = mul(t, exp(fma(mul(set1(-0.5F), a), a, p)));
    return sub(max(zero(), x), mul(a, tail));
}

template <int ACTIVATION>
MT_INLINE F32 activated(F32 x) {
    return ACTIVATION == 0 ? silu(x) : ACTIVATION == 1 ? gelu_tanh(x) : ACTIVATION == 2 ? gelu(x) : max(zero(), x);
}

// y = activation(gate) · up, n values; without up, the activation alone.
template <int ACTIVATION>
MT_INLINE void activate_all(const float* gate, const float* up, int64_t n, float* y) {
    for (int64_t i = 0; i < n; i += W) {
        if (i + W <= n) {
            const F32 a = activated<ACTIVATION>(load(gate + i));
            store(y + i, up != nullptr ? mul(a, load(up + i)) : a);
            continue;
        }
        float g[W] = {}, out[W];
        for (int64_t k = i; k < n; ++k) g[k - i] = gate[k];
        store(out, activated<ACTIVATION>(load(g)));
        for (int64_t k = i; k < n; ++k) y[k] = up != nullptr ? out[k - i] * up[k] : out[k - i];
    }
}

static void activate_mul(int activation, const float* gate, const float* up, int64_t n, float* y) {
    if (activation == 0)
        activate_all<0>(gate, up, n, y);
    else if (activation == 1)
        activate_all<1>(gate, up, n, y);
    else if (activation == 2)
        activate_all<2>(gate, up, n, y);
    else
        activate_all<3>(gate, up, n, y);
}

MT_INLINE float sum_of_squares(const float* x, int64_t n, float center) {
    Sum16 s = sum16_zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int p = 0; p < kParts; ++p) {
            const F32 v = sub(load(x + i + p * W), set1(center));
            s.part[p] = fma(v, v, s.part[p]);
        }
    float total = sum16_total(s);
    for (; i < n; ++i) total = __builtin_fmaf(x[i] - center, x[i] - center, total);
    return total;
}

MT_INLINE float sum_of(const float* x, int64_t n) {
    Sum16 s = sum16_zero();
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int p = 0; p < kParts; ++p) s.part[p] = add(s.part[p], load(x + i + p * W));
    float total = sum16_total(s);
    for (; i < n; ++i) total += x[i];
    return total;
}

// RMSNorm (Zhang & Sennrich 2019): y = x / √(mean(x²) + eps) · gain
static void rms_norm(const float* x, const float* gain, float eps, int64_t n, float* y) {
    const float scale = 1.0F / __builtin_sqrtf(sum_of_squares(x, n, 0.0F) / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * gain[i];
}

// LayerNorm (Ba et al. 2016): y = (x − mean) / √(variance + eps) · gain + bias
static void layer_norm(const float* x, const float* gain, const float* bias, float eps, int64_t n, float* y) {
    const float mean = sum_of(x, n) / static_cast<float>(n);
    const float scale = 1.0F / __builtin_sqrtf(sum_of_squares(x, n, mean) / static_cast<float>(n) + eps);
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * scale * gain[i] + (bias != nullptr ? bias[i] : 0.0F);
}

MT_INLINE float float_of_bits(int32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}

// Largest magnitude of n values, n a multiple of W; NaN if one of them is. Compared as integers: NaN is above infinity there.
MT_INLINE float largest_magnitude(const float* x, int64_t n) {
    I32 m = iset1(0);
    for (int64_t i = 0; i < n; i += W) m = imax(magnitude_bits(load(x + i)), m);
    return float_of_bits(lane_max(m));
}

// Factor from values to codes −steps … steps. Groups below 2⁻¹¹⁰ count as zero: the factor, or that of low codes, would overflow.
MT_INLINE float code_factor(float largest, float steps) { return largest >= 0x1p-110F ? steps / largest : 0.0F; }

// Low codes of one group: what the codes left over, in units of d / 256.
MT_INLINE void quantize_rest(const float* x, const int8_t* codes, float d, F32 inverse, int8_t* low) {
    const F32 finer = mul(inverse, set1(256.0F)), minus_d = set1(-d);
    for (int i = 0; i < kGroup; i += W) {
        const F32 rest = fma(minus_d, load_i8(reinterpret_cast<const uint8_t*>(codes) + i), load(x + i));
        store_i8(low + i, round_i32(mul(rest, finer)));
    }
}

MT_INLINE void put_sums(Q8Group& group, float d, int32_t first, int32_t second) {
    group.scale = d;
    group.sum = d * static_cast<float>(first + second);
    group.negative = -(first + second);
    group.negative16[0] = -first;
    group.negative16[1] = -second;
}

// All 32 values in 16 bits, the low bytes elsewhere.
MT_INLINE void quantize_wide(const float* x, Q8Group& group, int8_t* low) {
    const float largest = largest_magnitude(x, kGroup), d = largest / 127.0F;
    const F32 inverse = set1(code_factor(largest, 127));
    for (int i = 0; i < kGroup; i += W) store_i8(group.codes + i, round_i32(mul(load(x + i), inverse)));
    quantize_rest(x, group.codes, d, inverse, low);
    __builtin_memset(group.high, 0, sizeof(group.high));
    group.high_quad = 0;
    put_sums(group, d * 0x1p-8F, 256 * sum_of_codes(group.codes) + sum_of_codes(low),
             256 * sum_of_codes(group.codes + 16) + sum_of_codes(low + 16));
}

// The quad with the largest value in 16 bits, so that the largest outside it sets the step, unless 16 bits are too few for those
// inside.
MT_INLINE void quantize_narrow(const float* x, Q8Group& group) {
    constexpr int kMostOf16 = 32512;  // 127 · 256, so that high bytes round to 127 at most
    int32_t keys[2];
    largest_quads(x, keys);
    const float inside = float_of_bits(keys[0] & ~7), outside = float_of_bits(keys[1] & ~7);
    const bool fits = outside >= inside * 0x1p-8F;  // not so with infinities and NaN, which then reach the scale
    const float largest = fits ? outside : inside, steps = fits ? 127.0F : static_cast<float>(kMostOf16);
    const F32 inverse = set1(code_factor(largest, steps));
    I32 half[2] = {iset1(0), iset1(0)};
    alignas(64) int8_t high[kGroup];
    for (int i = 0; i < kGroup; i += W) {
        const I32 code = imax(round_i32(mul(load(x + i), inverse)), iset1(-kMostOf16));
        store_low_bytes(group.codes + i, code);
        store_low_bytes(high + i, ishr<8>(iadd(code, iset1(128))));
        half[i / 16] = iadd(half[i / 16], code);
    }
    group.high_quad = 7 - (keys[0] & 7);
    __builtin_memcpy(group.high, high + 4 * group.high_quad, 4);
    put_sums(group, largest / steps, lane_sum(half[0]), lane_sum(half[1]));
}

// Writes groups g0 … g1 of one quantized row from the floats x (x[0] is the first column of group g0).
static void quantize_groups(const float* x, uint8_t* row, int64_t cols, bool wide, int64_t g0, int64_t g1) {
    for (int64_t g = g0; g < g1; ++g, x += kGroup) {
        auto& group = reinterpret_cast<Q8Group*>(row)[g];
        if (wide)
            quantize_wide(x, group, reinterpret_cast<int8_t*>(row + q8_low_offset(cols)) + kGroup * g);
        else
            quantize_narrow(x, group);
    }
}

// Rotary embedding (Su et al. 2021) of one head: pairs are (i, i + half) or, interleaved, (2i, 2i + 1). cos_sin: [half][2].
static void rope_head(const float* x, const float* cos_sin, int64_t rope_dim, int64_t head_dim, int interleaved,
                      float* y) {
    const int64_t half = rope_dim / 2;
    for (int64_t i = 0; i < half; ++i) {
        const int64_t a = interleaved != 0 ? 2 * i : i, b = interleaved != 0 ? 2 * i + 1 : i + half;
        const float c = cos_sin[2 * i], s = cos_sin[2 * i + 1], first = x[a], second = x[b];
        // Written as fmas: GCC 12 turns alternating a·b − c, a·b + c into fmaddsub even where contraction is off.
        y[a] = __builtin_fmaf(first, c, -(second * s));
        y[b] = __builtin_fmaf(second, c, first * s);
    }
    for (int64_t i = rope_dim; i < head_dim; ++i) y[i] = x[i];
}

static void add_rows(const float* a, const float* b, int64_t n, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}

// y = cap · tanh(x / cap), with tanh(u) = 1 − 2 / (e^{2u} + 1)
static void softcap(const float* x, float cap, int64_t n, float* y) {
    const F32 one = set1(1.0F), two = set1(2.0F), c = set1(cap);
    for (int64_t i = 0; i < n; i += W) {
        float lanes[W] = {};
        const int64_t count = n - i < W ? n - i : W;
        for (int64_t k = 0; k < count; ++k) lanes[k] = x[i + k];
        const F32 e = exp(mul(two, div(load(lanes), c)));
        store(lanes, mul(c, sub(one, div(two, add(e, one)))));
        for (int64_t k = 0; k < count; ++k) y[i + k] = lanes[k];
    }
}

// One pass over the row, block by block; of the block that holds the maximum, another for its place.
static void row_peak(const float* x, int64_t n, RowPeak* peak) {
    constexpr int64_t kBlock = 1024;
    constexpr int kRegisters = 4;
    constexpr float kInfinity = __builtin_inff();
    const F32 lowest = set1(-__FLT_MAX__);
    F32 highest[kRegisters], zeros[kRegisters];  // 0 · x, which is NaN for NaN and +∞; −∞ was lifted before
    for (F32& z : zeros) z = zero();
    float maximum = -kInfinity;
    bool is_usable = true;
    int64_t best = 0;
    for (int64_t block = 0; block < n; block += kBlock) {
        const int64_t end = block + kBlock < n ? block + kBlock : n;
        for (F32& h : highest) h = set1(-kInfinity);
        int64_t i = block;
        for (; i + kRegisters * W <= end; i += kRegisters * W)
            unrolled<kRegisters>([&](int r) MT_LAMBDA {
                const F32 value = load(x + i + r * W);
                highest[r] = max(value, highest[r]);
                zeros[r] = fma(max(lowest, value), zero(), zeros[r]);
            });
        float largest = highest_lane(max(max(highest[0], highest[1]), max(highest[2], highest[3])));
        for (; i < end; ++i) {
            largest = x[i] > largest ? x[i] : largest;
            is_usable = is_usable && x[i] < kInfinity;
        }
        if (largest > maximum) {
            maximum = largest;
            best = block;
        }
    }
    float lanes[W];
    store(lanes, add(add(zeros[0], zeros[1]), add(zeros[2], zeros[3])));
    for (const float lane : lanes) is_usable = is_usable && lane == 0.0F;
    while (best + 1 < n && x[best] != maximum) ++best;
    *peak = {maximum, static_cast<int32_t>(best), is_usable};
}

}  // namespace miaotui::MIAOTUI_TIER
