// What the search for codes is asked: 16 groups of weights side by side, one to a lane, so that no lane's result depends on
// another's and every tier gives the same bits.
#pragma once

#include <cstdint>

#include "kernels/weight_type.h"

namespace miaotui {

inline constexpr int kTileGroups = 16;
inline constexpr int kMostGroupWeights = 32;
inline constexpr int kSuperWeights = 256;

// Blocks of 32, or a group of a super-block whose units are decided: weight = scale · value + minimum.
struct GroupTask {
    WeightType type;
    const float* targets;  // [32][16]
    const float* costs;    // [32][16]: of a squared error, not negative
    const float*
        feedback;       // [32][32], i at row j < i: the share of weight j's error that i is asked to make good; or null
    const float* unit;  // [16]: scales are whole multiples of it; null: float16
    const float* minimum_unit;               // [16], likewise
    const float *near_scale, *near_minimum;  // [16]: search around these only; null: everywhere
    float* values;                           // [32][16]: what the codes stand for before they are scaled
    float *scale, *minimum;                  // [16]: as whole multiples where there are units
};

// Blocks of 256 from their own float16 units: weight = unit · scale · value + minimum_unit · minimum, scales and minimums whole.
struct SuperTask {
    WeightType type;
    const float *targets, *costs;  // [256][16]
    float* values;                 // [256][16]
    float *scale, *minimum;        // [groups][16]
    float *unit, *minimum_unit;    // [16]
};

}  // namespace miaotui
