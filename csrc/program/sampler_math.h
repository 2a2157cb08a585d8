// Whole-vocabulary passes of the sampler, written so that the baseline compiler vectorizes them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

#include "base/error.h"
#include "kernels/table.h"

namespace miaotui {

inline constexpr size_t kLanes = 16;

// Four floats in a register that every x86-64 CPU has; the compiler left the plain loop below scalar.
using Float4 = float __attribute__((vector_size(16)));
using Bits4 = uint32_t __attribute__((vector_size(16)));

// e^x for x ≤ 0, relative error < 3e-7, exactly 1 at 0 and 0 below -87 (where floats end).
// Cephes' expf: x = n ln 2 + r, polynomial in r, 2^n put into the exponent bits.
inline Float4 exp_nonpositive(Float4 x) {
    const Bits4 underflows = reinterpret_cast<Bits4>(x < -87.0f);
    const Float4 clamped = x < -87.0f ? Float4{-87.0f, -87.0f, -87.0f, -87.0f} : x;
    const Float4 shifted = clamped * 1.44269504088896341f + 12582912.0f;  // 1.5·2^23 rounds to an integer
    const Float4 n = shifted - 12582912.0f;
    const Float4 r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
    Float4 p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    // The low mantissa bits of `shifted` are n; p is in [0.7, 1.5], so adding to the exponent cannot leave the range.
    const Bits4 scaled = reinterpret_cast<Bits4>(p) + (reinterpret_cast<Bits4>(shifted) << 23);
    return reinterpret_cast<Float4>(scaled & ~underflows);
}

inline float exp_nonpositive(float x) { return exp_nonpositive(Float4{x, x, x, x})[0]; }

// The largest value and where it first is; throws BadInput if any is NaN or the largest is infinite.
inline RowPeak checked_peak(std::span<const float> row) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    RowPeak peak;
    kernels().row_peak(row.data(), static_cast<int64_t>(row.size()), &peak);
    if (!peak.is_usable || peak.maximum == -kInfinity) {
        const bool any_nan = std::any_of(row.begin(), row.end(), [](float x) { return x != x; });
        throw BadInput(std::string("the model computed logits that are ") + (any_nan ? "not numbers" : "not finite") +
                       ": its weights are damaged, or values overflow");
    }
    return peak;
}

// Calls visit(id) for every value ≥ cut, ids ascending; blocks without a hit cost one vector comparison.
template <class Visit>
inline void visit_at_least(std::span<const float> row, float cut, Visit visit) {
    size_t i = 0;
    for (; i + kLanes <= row.size(); i += kLanes) {
        int32_t hit = 0;
        for (size_t j = 0; j < kLanes; ++j) hit |= row[i + j] >= cut ? 1 : 0;
        if (hit == 0) continue;
        for (size_t j = i; j < i + kLanes; ++j) {
            if (row[j] >= cut) visit(static_cast<int32_t>(j));
        }
    }
    for (; i < row.size(); ++i) {
        if (row[i] >= cut) visit(static_cast<int32_t>(i));
    }
}

// weights[i] = e^((row[i] - maximum) / temperature).
inline void exponentials(std::span<const float> row, float maximum, float temperature, float* weights) {
    size_t i = 0;
    for (; i + 4 <= row.size(); i += 4) {
        Float4 x;
        std::memcpy(&x, row.data() + i, sizeof x);
        x = exp_nonpositive((x - maximum) / temperature);
        std::memcpy(weights + i, &x, sizeof x);
    }
    for (; i < row.size(); ++i) weights[i] = exp_nonpositive((row[i] - maximum) / temperature);
}

// Sum of at most a few thousand floats in lanes of 16, so that each lane adds few terms.
inline double lane_sum(std::span<const float> values) {
    float lanes[kLanes] = {};
    size_t i = 0;
    for (; i + kLanes <= values.size(); i += kLanes) {
        for (size_t j = 0; j < kLanes; ++j) lanes[j] += values[i + j];
    }
    double total = 0.0;
    for (; i < values.size(); ++i) total += static_cast<double>(values[i]);
    for (const float lane : lanes) total += static_cast<double>(lane);
    return total;
}

// Sum of the values ≥ cut; a lane adds at most 16 floats before it goes into a double.
inline double sum_at_least(std::span<const float> values, float cut) {
    Float4 lanes[4] = {};
    double total = 0.0;
    size_t i = 0;
    for (size_t added = 1; i + kLanes <= values.size(); i += kLanes, ++added) {
        for (size_t j = 0; j < 4; ++j) {
            Float4 x;
            std::memcpy(&x, values.data() + i + 4 * j, sizeof x);
            lanes[j] += x >= cut ? x : Float4{};
        }
        if (added % 16 != 0 && i + 2 * kLanes <= values.size()) continue;
        for (Float4& lane : lanes) {
            total += static_cast<double>(lane[0]) + static_cast<double>(lane[1]) + static_cast<double>(lane[2]) +
                     static_cast<double>(lane[3]);
            lane = Float4{};
        }
    }
    for (; i < values.size(); ++i) total += values[i] >= cut ? static_cast<double>(values[i]) : 0.0;
    return total;
}

// Elements handled between two trips to double precision; a float lane adds 16 of them.
inline constexpr size_t kSumBlock = 16 * kLanes;

// Sum of e^((row[i] - maximum) / temperature), good to about 1e-6; also stored in `weights` unless that is null.
inline double exponential_sum(std::span<const float> row, float maximum, float temperature, float* weights) {
    float buffer[kSumBlock];
    double total = 0.0;
    for (size_t i = 0; i < row.size(); i += kSumBlock) {
        const std::span<const float> block = row.subspan(i, std::min(kSumBlock, row.size() - i));
        float* target = weights != nullptr ? weights + i : buffer;
        exponentials(block, maximum, temperature, target);
        total += lane_sum({target, block.size()});
    }
    return total;
}

}  // namespace miaotui
