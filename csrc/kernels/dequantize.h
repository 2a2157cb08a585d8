// Blocks of a model file → float32, bit for bit as the format's reference implementation gives them.
#pragma once

#include <cstdint>

#include "kernels/weight_type.h"

namespace miaotui {

// Writes `count` floats (a multiple of the type's block size) from the blocks at `source`, which needs no alignment.
void dequantize_row(WeightType type, const void* source, float* target, int64_t count);

}  // namespace miaotui
