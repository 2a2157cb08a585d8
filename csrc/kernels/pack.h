// Rows of a model file → the packed layout of packed.h, in the file's own number of bits, and back.
#pragma once

#include <cstdint>

#include "kernels/packed.h"

namespace miaotui {

// The layout of a rows × cols matrix with `data` still null. Throws BadInput if the type or the shape cannot be packed.
PackedView plan_packed(WeightType type, int64_t rows, int64_t cols);

inline int64_t packed_bytes(const PackedView& view) { return view.num_blocks() * view.block_bytes; }

// Bytes of `rows` rows in the file's own layout.
int64_t file_bytes(WeightType type, int64_t rows, int64_t cols);

// Packs block `block` (16 rows) from the file rows at `source` (row 0 of the matrix) into `target` (block 0 of the packed matrix),
// which is zero before.
void pack_block(const PackedView& view, int64_t block, const uint8_t* source, uint8_t* target);

// Largest panel any token-heavy linear of this matrix needs: bytes of codes, floats of scales and of minimums.
struct PanelSize {
    int64_t code_bytes, scale_floats;
};
PanelSize panel_size(const PackedView& view);

}  // namespace miaotui
