// Dot products of one int8 vector with many, for the search of embeddings. Integers, so exact and alike on every tier.
// Included once per tier after a vec_*.h.
#pragma once

#include <cstdint>

#include "kernels/inline.h"

namespace miaotui::MIAOTUI_TIER {

// out[r] = Σ_i query[i]·rows[r·n + i]; n a multiple of 32, at most 2¹⁶: 2¹⁶·128² = 2³⁰ fits.
static void dot_rows_i8(const int8_t* query, const int8_t* rows, int64_t n, int64_t num_rows, int32_t* out) {
    const auto* q = reinterpret_cast<const uint8_t*>(query);
    for (int64_t r = 0; r < num_rows; ++r) {
        const auto* row = reinterpret_cast<const uint8_t*>(rows + r * n);
        __builtin_prefetch(row + 8 * n);  // beyond the last row too: a prefetch never faults
        I32 sum = iset1(0);
        for (int64_t i = 0; i < n; i += 2 * W) sum = madd_pairs(sum, load_pairs_i8(row + i), load_pairs_i8(q + i));
        out[r] = lane_sum(sum);
    }
}

}  // namespace miaotui::MIAOTUI_TIER
