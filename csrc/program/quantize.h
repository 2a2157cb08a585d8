// The search for codes, scales and minimums over whole matrices, on all threads of the pool.
#pragma once

#include <cstdint>

#include "kernels/table.h"
#include "kernels/weight_type.h"

namespace miaotui {

struct QuantizeTask {
    WeightType type;
    const float* weights;  // [rows][cols], finite
    int64_t rows, cols;
    const float* importance;   // [cols]: what a squared error costs there; null: the same everywhere
    bool by_magnitude;         // times √(mean square of the row + weight²), so that large weights are kept better
    const float* feedback;     // [32][32] strictly upper, where cols is 32: see kernels/quantize.h; or null
    const float* units;        // [rows][2]: what scales and minimums are whole multiples of, where cols is 32; or null
    const float* near;         // [rows][2]: scales and minimums to search around, where cols is 32; null: everywhere
    uint8_t* codes;            // [rows][cols]
    float *scales, *minimums;  // [rows][groups]: float16 values, or whole numbers under units
    float* found_units;        // [rows][super-blocks][2]: of types with super-blocks, unless units are given
};

// Weights that share a scale; 0 for a type that nothing is quantized to.
int group_weights(WeightType type);
// Whether scales are multiples of a unit that 256 weights share.
bool has_units(WeightType type);

// Throws BadInput for a type or a shape that does not fit.
void quantize(const KernelTable& table, const QuantizeTask& task);

}  // namespace miaotui
