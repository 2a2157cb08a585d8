// The search for scales, minimums and codes that cost least: Σ cost · (target − weight)² over a group.
// Scales are tried over a wide range; the codes that each gives are fitted once more by weighted least squares, in closed form;
// the best is rounded as the file keeps it, and codes and scales take turns until they agree.
// With feedback, a weight's error is passed on to later weights before those are rounded (Frantar et al. 2022, arXiv:2210.17323, as
// the triangular form of Chee et al. 2023, arXiv:2307.13304, section 3.1): y = value + Σ feedback · earlier values then stands where
// the value stood, and everything else is the same. Included once per tier after a vec_*.h.
#pragma once

#include "kernels/inline.h"
#include "kernels/quantize_task.h"

namespace miaotui::MIAOTUI_TIER {

// IQ4_NL's values, and the nearest of them to every quarter from −127 to 113.
struct CodeBook {
    static constexpr int kSteps = 4;
    float nearest[240 * kSteps + 1];
    constexpr CodeBook() : nearest{} {
        constexpr float values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
        int code = 0;
        for (int i = 0; i <= 240 * kSteps; ++i) {
            const float x = static_cast<float>(i) / kSteps - 127.0F;
            while (code < 15 && x > (values[code] + values[code + 1]) / 2) ++code;
            nearest[i] = values[code];
        }
    }
};
static constexpr CodeBook kCodeBook;

// Whole values from kLowest to kHighest, or the code book. Affine ones have a minimum; that of Q4_K is not positive, nor is its
// scale negative. Scales are tried from kFirst to kLast: the value that the group's extreme weight (affine: its range) would get.
template <WeightType kType>
struct Grid;
template <int kLow, int kHigh, int kMostScale>
struct Symmetric {
    static constexpr bool kAffine = false, kBook = false, kBelowZero = false;
    static constexpr float kLowest = kLow, kHighest = kHigh, kLeastScale = -kMostScale - 1, kMost = kMostScale;
};
template <int kHigh>
struct Affine {
    static constexpr bool kAffine = true, kBook = false;
    static constexpr float kLowest = 0, kHighest = kHigh, kLeastScale = 0, kMost = 63;
    static constexpr int kTried = 28;
};
template <>
struct Grid<WeightType::Q4_0> : Symmetric<-8, 7, 127> {
    static constexpr int kGroup = 32, kTried = 36;
    static constexpr float kFirst = 4.75F, kLast = 10.5F;
};
template <>
struct Grid<WeightType::Q5_0> : Symmetric<-16, 15, 127> {
    static constexpr int kGroup = 32, kTried = 36;
    static constexpr float kFirst = 11.5F, kLast = 18.0F;
};
template <>
struct Grid<WeightType::Q8_0> : Symmetric<-127, 127, 127> {
    static constexpr int kGroup = 32, kTried = 16;
    static constexpr float kFirst = 120.0F, kLast = 130.0F;
};
template <>
struct Grid<WeightType::Q6_K> : Symmetric<-32, 31, 127> {
    static constexpr int kGroup = 16, kTried = 24;
    static constexpr float kFirst = 27.0F, kLast = 34.0F;
};
template <>
struct Grid<WeightType::IQ4_NL> : Symmetric<-127, 113, 127> {
    static constexpr bool kBook = true;
    static constexpr int kGroup = 32, kTried = 40;
    static constexpr float kFirst = 75.0F, kLast = 165.0F;
};
template <>
struct Grid<WeightType::Q4_1> : Affine<15> {
    static constexpr bool kBelowZero = false;
    static constexpr int kGroup = 32;
    static constexpr float kFirst = 6.0F, kLast = 19.5F;
};
template <>
struct Grid<WeightType::Q4_K> : Affine<15> {
    static constexpr bool kBelowZero = true;
    static constexpr int kGroup = 32;
    static constexpr float kFirst = 6.0F, kLast = 19.5F;
};
template <>
struct Grid<WeightType::Q5_1> : Affine<31> {
    static constexpr bool kBelowZero = false;
    static constexpr int kGroup = 32;
    static constexpr float kFirst = 22.0F, kLast = 35.5F;
};

MT_INLINE F32 absolute(F32 x) { return bits_to_f32(magnitude_bits(x)); }
MT_INLINE F32 clamped(F32 x, float low, float high) { return max(set1(low), min(set1(high), x)); }
MT_INLINE F32 whole(F32 x) { return to_f32(round_i32(x)); }
// a / b, and 0 where b is not above `least`
MT_INLINE F32 divided(F32 a, F32 b, float least) {
    return where_less(set1(least), b, div(a, max(b, set1(least))), zero());
}
MT_INLINE F32 inverse(F32 x) { return where_less(set1(1e-30F), absolute(x), div(set1(1.0F), x), zero()); }
MT_INLINE F32 as_half(F32 x) {
    uint16_t halves[W];
    store_f16(halves, clamped(x, -65504.0F, 65504.0F));
    return load_f16(halves);
}

template <class G>
MT_INLINE F32 nearest(F32 x) {
    const F32 inside = clamped(x, G::kLowest, G::kHighest);
    if constexpr (!G::kBook) return whole(inside);
    return lookup(kCodeBook.nearest,
                  round_i32(mul(sub(inside, set1(G::kLowest)), set1(static_cast<float>(CodeBook::kSteps)))));
}

// W groups. r: targets with what the feedback makes of them, z: the same of a constant 1.
template <class G>
struct Problem {
    static constexpr int N = G::kGroup;
    F32 r[N], cost[N];
    float z[N];
    const float* feedback;   // transposed: [i][j < i]
    F32 low, high, extreme;  // of the targets
    F32 zz, rz;              // Σ cost · z², Σ cost · r · z
};

struct Fit {
    F32 scale, minimum;
};

struct Sums {
    F32 ry, yy, yz;
};

template <class G, bool kFeedback>
static void state(Problem<G>& p, const float* targets, const float* costs, const float* feedback) {
    p.feedback = feedback;
    p.extreme = p.low = p.high = load(targets);
    p.zz = p.rz = zero();
    for (int i = 0; i < G::kGroup; ++i) {
        const F32 t = load(targets + i * kTileGroups);
        p.low = min(p.low, t);
        p.high = max(p.high, t);
        p.extreme = where_less(absolute(p.extreme), absolute(t), t, p.extreme);
        p.r[i] = t;
        p.z[i] = 1.0F;
        if constexpr (kFeedback)
            for (int j = 0; j < i; ++j) {
                p.r[i] = fma(load(targets + j * kTileGroups), set1(feedback[i * G::kGroup + j]), p.r[i]);
                p.z[i] += feedback[i * G::kGroup + j];
            }
        p.cost[i] = load(costs + i * kTileGroups);
        const F32 cz = mul(p.cost[i], set1(p.z[i]));
        p.zz = fma(cz, set1(p.z[i]), p.zz);
        p.rz = fma(cz, p.r[i], p.rz);
    }
}

// The values that a scale (given as its inverse) and a minimum lead to, and what a fit to them needs; returns nothing else.
template <class G, bool kFeedback>
static Sums sweep(const Problem<G>& p, F32 inverse_scale, F32 minimum, F32* values, F32* y) {
    Sums s{zero(), zero(), zero()};
    const F32 shift = mul(sub(zero(), minimum), inverse_scale);
    for (int i = 0; i < G::kGroup; ++i) {
        F32 carried = zero();
        if constexpr (kFeedback)
            for (int j = 0; j < i; ++j) carried = fma(values[j], set1(p.feedback[i * G::kGroup + j]), carried);
        F32 x = mul(p.r[i], inverse_scale);
        if constexpr (G::kAffine) x = fma(set1(p.z[i]), shift, x);
        if constexpr (kFeedback) x = sub(x, carried);
        values[i] = nearest<G>(x);
        y[i] = kFeedback ? add(values[i], carried) : values[i];
        const F32 cy = mul(p.cost[i], y[i]);
        s.ry = fma(cy, p.r[i], s.ry);
        s.yy = fma(cy, y[i], s.yy);
        if constexpr (G::kAffine) s.yz = fma(cy, set1(p.z[i]), s.yz);
    }
    return s;
}

template <class G>
static F32 cost_of(const Problem<G>& p, const F32* y, Fit fit) {
    F32 sum = zero();
    for (int i = 0; i < G::kGroup; ++i) {
        F32 e = sub(p.r[i], mul(fit.scale, y[i]));
        if constexpr (G::kAffine) e = sub(e, mul(fit.minimum, set1(p.z[i])));
        sum = fma(mul(p.cost[i], e), e, sum);
    }
    return sum;
}

template <class G>
MT_INLINE F32 allowed_minimum(F32 minimum) {
    if constexpr (G::kAffine && G::kBelowZero) return min(minimum, zero());
    return minimum;
}

template <class G>
MT_INLINE F32 minimum_for(const Problem<G>& p, const Sums& s, F32 scale) {
    if constexpr (!G::kAffine) return zero();
    return allowed_minimum<G>(divided(sub(p.rz, mul(scale, s.yz)), p.zz, 1e-30F));
}

// Weighted least squares for given values; an affine scale is never negative.
template <class G>
MT_INLINE Fit fitted(const Problem<G>& p, const Sums& s) {
    if constexpr (!G::kAffine) return {divided(s.ry, s.yy, 1e-30F), zero()};
    const F32 determinant = sub(mul(s.yy, p.zz), mul(s.yz, s.yz));
    const F32 least = mul(mul(s.yy, p.zz), set1(1e-5F));  // values that are all the same say nothing of the scale
    F32 scale = sub(mul(s.ry, p.zz), mul(p.rz, s.yz));
    scale = where_less(least, determinant, div(scale, max(determinant, set1(1e-30F))), zero());
    scale = max(scale, zero());
    const F32 minimum = minimum_for(p, s, scale);
    if constexpr (G::kAffine && G::kBelowZero) {  // at the bound, the scale alone
        scale = where_less(minimum, zero(), scale, max(divided(s.ry, s.yy, 1e-30F), zero()));
    }
    return {scale, minimum};
}

// How much less than Σ cost · r² a fit costs.
template <class G>
MT_INLINE F32 gain(const Problem<G>& p, const Sums& s, Fit f) {
    F32 g = mul(f.scale, sub(mul(set1(2.0F), s.ry), mul(f.scale, s.yy)));
    if constexpr (G::kAffine) {
        const F32 cross = sub(p.rz, mul(f.scale, s.yz));
        g = fma(f.minimum, sub(mul(set1(2.0F), cross), mul(f.minimum, p.zz)), g);
    }
    return g;
}

template <class G, bool kFeedback>
struct Search {
    const Problem<G>& p;
    Fit best{zero(), zero()};
    F32 best_gain = set1(-1.0F);

    MT_MEMBER void attempt(F32 inverse_scale, F32 minimum) {
        F32 values[G::kGroup], y[G::kGroup];
        const Sums s = sweep<G, kFeedback>(p, inverse_scale, minimum, values, y);
        const Fit f = fitted(p, s);
        const F32 g = gain(p, s, f);
        best.scale = where_less(best_gain, g, f.scale, best.scale);
        best.minimum = where_less(best_gain, g, f.minimum, best.minimum);
        best_gain = max(g, best_gain);
    }
};

// The best fit over many scales (and minimums), before any rounding of them.
template <class G, bool kFeedback>
static Fit explore(const Problem<G>& p) {
    Search<G, kFeedback> search{p};
    constexpr float step = (G::kLast - G::kFirst) / (G::kTried - 1);
    if constexpr (!G::kAffine) {
        const F32 unit = inverse(p.extreme);
        for (int k = 0; k < 2 * G::kTried; ++k) {
            const float value = G::kFirst + step * static_cast<float>(k / 2);
            search.attempt(mul(unit, set1(k % 2 == 0 ? -value : value)), zero());
        }
    } else {
        const F32 low = allowed_minimum<G>(p.low), range = sub(p.high, low), unit = inverse(range);
        for (int k = 0; k < G::kTried; ++k) {
            const float steps = G::kFirst + step * static_cast<float>(k);
            const F32 scale = mul(range, set1(1.0F / steps));
            const float slack = G::kHighest - steps < 1.0F ? G::kHighest - steps : 1.0F;
            for (int part = 0; part < 5; ++part)  // how far below the lowest weight the first value lies
                search.attempt(
                    mul(unit, set1(steps)),
                    allowed_minimum<G>(sub(low, mul(scale, set1(slack * static_cast<float>(part) * 0.25F)))));
        }
    }
    return search.best;
}

// The same around a fit that was the best for targets not far from these.
template <class G, bool kFeedback>
static Fit explore_near(const Problem<G>& p, Fit near) {
    Search<G, kFeedback> search{p};
    for (int k = -4; k <= 4; ++k) {
        const float factor = 1.0F + 0.03F * static_cast<float>(k);
        const F32 scale = mul(near.scale, set1(factor));
        if constexpr (!G::kAffine) {
            search.attempt(inverse(scale), zero());
        } else {  // the middle of the values stays where it was, or moves by a quarter of a step
            const F32 minimum = fma(near.scale, set1((1.0F - factor) * G::kHighest / 2), near.minimum);
            for (int quarter = -1; quarter <= 1; ++quarter)
                search.attempt(inverse(scale),
                               allowed_minimum<G>(fma(scale, set1(0.25F * static_cast<float>(quarter)), minimum)));
        }
    }
    return search.best;
}

template <class G>
struct Settled {
    F32 values[G::kGroup];
    F32 scale = zero(), minimum = zero();  // as the file keeps them: float16, or whole multiples
    F32 cost = set1(__builtin_inff());
    Fit refit{zero(), zero()};  // what the values would rather have
    Sums sums{zero(), zero(), zero()};
};

// One way to round a fit; kept where it costs less than what is there.
template <class G, bool kFeedback>
static void consider(const Problem<G>& p, Fit kept, Fit real, Settled<G>& best) {
    F32 values[G::kGroup], y[G::kGroup];
    const Sums s = sweep<G, kFeedback>(p, inverse(real.scale), real.minimum, values, y);
    const F32 cost = cost_of(p, y, real);
    for (int i = 0; i < G::kGroup; ++i) best.values[i] = where_less(cost, best.cost, values[i], best.values[i]);
    const Fit f = fitted(p, s);
    best.scale = where_less(cost, best.cost, kept.scale, best.scale);
    best.minimum = where_less(cost, best.cost, kept.minimum, best.minimum);
    best.refit.scale = where_less(cost, best.cost, f.scale, best.refit.scale);
    best.refit.minimum = where_less(cost, best.cost, f.minimum, best.refit.minimum);
    best.sums.ry = where_less(cost, best.cost, s.ry, best.sums.ry);
    best.sums.yy = where_less(cost, best.cost, s.yy, best.sums.yy);
    best.sums.yz = where_less(cost, best.cost, s.yz, best.sums.yz);
    best.cost = min(cost, best.cost);
}

inline constexpr int kTurns = 4;

template <class G, bool kFeedback>
MT_INLINE void settle_half(const Problem<G>& p, Fit fit, Settled<G>& best) {
    for (int turn = 0; turn < kTurns; ++turn) {
        const Fit rounded{as_half(fit.scale), as_half(fit.minimum)};
        consider<G, kFeedback>(p, rounded, rounded, best);
        fit = best.refit;
    }
}

// Whole multiples of the units near a fit, the neighbours included.
template <class G, bool kFeedback>
MT_INLINE void settle_units(const Problem<G>& p, Fit fit, F32 unit, F32 minimum_unit, Settled<G>& best) {
    const F32 per_unit = inverse(unit), per_minimum = inverse(minimum_unit);
    for (int turn = 0; turn < 2; ++turn) {
        const F32 scale = mul(fit.scale, per_unit), minimum = mul(fit.minimum, per_minimum);
        for (int i = -1; i <= 1; ++i) {
            const F32 a = clamped(add(whole(clamped(scale, G::kLeastScale, G::kMost)), set1(static_cast<float>(i))),
                                  G::kLeastScale, G::kMost);
            for (int j = G::kAffine ? -1 : 0; j <= (G::kAffine ? 1 : 0); ++j) {
                const F32 b =
                    clamped(add(whole(clamped(minimum, 0.0F, G::kMost)), set1(static_cast<float>(j))), 0.0F, G::kMost);
                consider<G, kFeedback>(p, {a, b}, {mul(a, unit), mul(b, minimum_unit)}, best);
            }
        }
        fit = best.refit;
    }
}

template <class G, bool kFeedback>
static void quantize_lanes(const GroupTask& task, const float* transposed, int lane) {
    Problem<G> p;
    state<G, kFeedback>(p, task.targets + lane, task.costs + lane, transposed);
    const Fit fit = task.near_scale == nullptr
                        ? explore<G, kFeedback>(p)
                        : explore_near<G, kFeedback>(p, {load(task.near_scale + lane), load(task.near_minimum + lane)});
    Settled<G> best;
    if (task.unit == nullptr)
        settle_half<G, kFeedback>(p, fit, best);
    else
        settle_units<G, kFeedback>(p, fit, load(task.unit + lane), load(task.minimum_unit + lane), best);
    for (int i = 0; i < G::kGroup; ++i) store(task.values + i * kTileGroups + lane, best.values[i]);
    store(task.scale + lane, best.scale);
    store(task.minimum + lane, best.minimum);
}

template <WeightType kType>
static void quantize_tile(const GroupTask& task) {
    using G = Grid<kType>;
    float transposed[G::kGroup * G::kGroup];
    if (task.feedback != nullptr)
        for (int i = 0; i < G::kGroup; ++i)
            for (int j = 0; j < i; ++j) transposed[i * G::kGroup + j] = task.feedback[j * G::kGroup + i];
    for (int lane = 0; lane < kTileGroups; lane += W) {
        if (task.feedback != nullptr)
            quantize_lanes<G, true>(task, transposed, lane);
        else
            quantize_lanes<G, false>(task, nullptr, lane);
    }
}

static void search_codes(const GroupTask& task) {
    switch (task.type) {
        case WeightType::Q4_0: return quantize_tile<WeightType::Q4_0>(task);
        case WeightType::Q4_1: return quantize_tile<WeightType::Q4_1>(task);
        case WeightType::Q5_0: return quantize_tile<WeightType::Q5_0>(task);
        case WeightType::Q5_1: return quantize_tile<WeightType::Q5_1>(task);
        case WeightType::Q8_0: return quantize_tile<WeightType::Q8_0>(task);
        case WeightType::Q4_K: return quantize_tile<WeightType::Q4_K>(task);
        case WeightType::IQ4_NL: return quantize_tile<WeightType::IQ4_NL>(task);
        default: return;
    }
}

// The float16 unit whose multiples (at most `most`) come nearest to what the groups want, each as much as its values weigh.
template <int kGroups>
static F32 best_unit(const F32* wanted, const F32* weight, float least, float most) {
    F32 top = zero();
    for (int g = 0; g < kGroups; ++g) top = where_less(absolute(top), absolute(wanted[g]), wanted[g], top);
    if (least >= 0.0F) top = max(top, zero());
    F32 best = zero(), best_cost = set1(__builtin_inff());
    for (int k = 0; k < 24; ++k) {
        const F32 near =
            mul(top, set1((k % 2 != 0 && least < 0.0F ? -1.0F : 1.0F) / (most - static_cast<float>(k) * most / 63.0F)));
        F32 up = zero(), down = zero(), cost = zero(), whole_scale[kGroups];
        for (int g = 0; g < kGroups; ++g) {
            whole_scale[g] = whole(clamped(mul(wanted[g], inverse(near)), least, most));
            const F32 w = mul(weight[g], whole_scale[g]);
            up = fma(w, wanted[g], up);
            down = fma(w, whole_scale[g], down);
        }
        const F32 unit = as_half(divided(up, down, 1e-30F));
        for (int g = 0; g < kGroups; ++g) {
            const F32 e = sub(wanted[g], mul(unit, whole_scale[g]));
            cost = fma(mul(weight[g], e), e, cost);
        }
        best = where_less(cost, best_cost, unit, best);
        best_cost = min(cost, best_cost);
    }
    return best;
}

// All groups of W super-blocks.
template <class G>
struct SuperLanes {
    static constexpr int kGroups = kSuperWeights / G::kGroup;
    const SuperTask& task;
    const int lane;
    Problem<G> problems[kGroups];
    Fit wanted[kGroups];
    Settled<G> best[kGroups], now[kGroups];
    F32 best_unit_, best_minimum_unit_, best_cost;

    MT_MEMBER void explore_all() {
        for (int g = 0; g < kGroups; ++g) {
            const int at = g * G::kGroup * kTileGroups + lane;
            state<G, false>(problems[g], task.targets + at, task.costs + at, nullptr);
            wanted[g] = explore<G, false>(problems[g]);
        }
        best_cost = set1(__builtin_inff());
    }

    // Codes and whole scales for these units; all of it is kept where it costs less.
    MT_MEMBER void adopt(F32 unit, F32 minimum_unit) {
        F32 cost = zero();
        for (int g = 0; g < kGroups; ++g) {
            now[g].cost = set1(__builtin_inff());
            settle_units<G, false>(problems[g], wanted[g], unit, minimum_unit, now[g]);
            cost = add(cost, now[g].cost);
        }
        for (int g = 0; g < kGroups; ++g) {
            for (int i = 0; i < G::kGroup; ++i)
                best[g].values[i] = where_less(cost, best_cost, now[g].values[i], best[g].values[i]);
            best[g].scale = where_less(cost, best_cost, now[g].scale, best[g].scale);
            best[g].minimum = where_less(cost, best_cost, now[g].minimum, best[g].minimum);
        }
        best_unit_ = where_less(cost, best_cost, unit, best_unit_);
        best_minimum_unit_ = where_less(cost, best_cost, minimum_unit, best_minimum_unit_);
        best_cost = min(cost, best_cost);
    }

    // Least squares for both units, given all else of `now`.
    MT_MEMBER Fit refit() const {
        F32 aa = zero(), ab = zero(), bb = zero(), ra = zero(), rb = zero();
        for (int g = 0; g < kGroups; ++g) {
            const Settled<G>& s = now[g];
            aa = fma(mul(s.scale, s.scale), s.sums.yy, aa);
            ra = fma(s.scale, s.sums.ry, ra);
            if constexpr (G::kAffine) {
                ab = fma(mul(s.scale, s.minimum), s.sums.yz, ab);
                bb = fma(mul(s.minimum, s.minimum), problems[g].zz, bb);
                rb = fma(s.minimum, problems[g].rz, rb);
            }
        }
        const F32 determinant = sub(mul(aa, bb), mul(ab, ab)), alone = divided(ra, aa, 1e-30F);
        if constexpr (!G::kAffine) return {alone, zero()};
        const F32 least = mul(mul(aa, bb), set1(1e-5F));
        const F32 down = max(determinant, set1(1e-30F));
        return {where_less(least, determinant, div(sub(mul(ra, bb), mul(rb, ab)), down), alone),
                min(where_less(least, determinant, div(sub(mul(rb, aa), mul(ra, ab)), down), zero()), zero())};
    }

    MT_MEMBER void run() {
        explore_all();
        F32 scales[kGroups], minimums[kGroups], scale_weight[kGroups], minimum_weight[kGroups];
        for (int g = 0; g < kGroups; ++g) {
            F32 values[G::kGroup], y[G::kGroup];
            const Sums s = sweep<G, false>(problems[g], inverse(wanted[g].scale), wanted[g].minimum, values, y);
            scales[g] = wanted[g].scale;
            minimums[g] = sub(zero(), wanted[g].minimum);
            scale_weight[g] = s.yy;
            minimum_weight[g] = problems[g].zz;
        }
        const F32 unit = best_unit<kGroups>(scales, scale_weight, G::kLeastScale, G::kMost);
        F32 minimum_unit = zero();
        if constexpr (G::kAffine)
            minimum_unit = sub(zero(), best_unit<kGroups>(minimums, minimum_weight, 0.0F, G::kMost));
        adopt(unit, minimum_unit);
        for (int turn = 0; turn < 3; ++turn) {
            const Fit f = refit();
            adopt(as_half(f.scale), as_half(f.minimum));
        }
    }

    MT_MEMBER void write() const {
        for (int g = 0; g < kGroups; ++g) {
            for (int i = 0; i < G::kGroup; ++i)
                store(task.values + (g * G::kGroup + i) * kTileGroups + lane, best[g].values[i]);
            store(task.scale + g * kTileGroups + lane, best[g].scale);
            store(task.minimum + g * kTileGroups + lane, best[g].minimum);
        }
        store(task.unit + lane, best_unit_);
        store(task.minimum_unit + lane, best_minimum_unit_);
    }
};

template <WeightType kType>
static void quantize_super(const SuperTask& task) {
    for (int lane = 0; lane < kTileGroups; lane += W) {
        SuperLanes<Grid<kType>> lanes{task, lane, {}, {}, {}, {}, zero(), zero(), zero()};
        lanes.run();
        lanes.write();
    }
}

static void search_super_codes(const SuperTask& task) {
    if (task.type == WeightType::Q4_K) return quantize_super<WeightType::Q4_K>(task);
    if (task.type == WeightType::Q6_K) return quantize_super<WeightType::Q6_K>(task);
}

}  // namespace miaotui::MIAOTUI_TIER
