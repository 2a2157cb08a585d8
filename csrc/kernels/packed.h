// How linear weights lie in memory: blocks of 16 rows, each cut into tiles of 16 rows × 32 columns.
//
// Inside a tile the codes of 16 rows × 4 columns (a "quad") are neighbours, row-major, 64 of them, so that one register
// feeds vpdpbusd and one broadcast of four activations serves 16 rows. A code of b bits is the sum of bit planes:
//   4-bit plane: 256 B a tile; byte i of 64-byte line j holds quad j in its low and quad j+4 in its high nibble
//   2-bit plane: 128 B a tile; byte i of line j holds quads 4j … 4j+3, lowest bits first
//   1-bit plane:  64 B a tile; bit i of 8-byte word q belongs to code i of quad q
//   8-bit plane: 512 B a tile; line q is quad q
// A block is a row of sections of 256 columns (the last may be shorter), so that kernels read it as one stream. A section is:
// plane 0 of its tiles, plane 1 of its tiles, then their scales, rounded up to 64 bytes.
// Float weights are [block][column][16 rows] in the file's own float type.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/weight_type.h"

namespace miaotui {

// Goes up with every change of the layout: packed matrices are kept in files.
inline constexpr int kPackLayout = 1;

inline constexpr int kBlockRows = 16;
inline constexpr int kGroup = 32;          // columns of a tile, and activations that share one int8 scale
inline constexpr int kSuperColumns = 256;  // columns of a section, which share the float scale of a K-quant
inline constexpr int kSectionTiles = kSuperColumns / kGroup;

// How the scales of a block are stored. d, m: f16; s: 8-bit sub-scale, n: 8-bit sub-minimum; 16 rows side by side.
enum class Scales : int {
    d,        // per group: d[16]                                       w = d·(q − zero)
    dm,       // per group: d[16] m[16]                                 w = d·q + m
    super,    // per 256 columns: d[16], then s[16] (signed) per group  w = d·s·(q − zero)
    super_m,  // per 256 columns: d[16] m[16], s[16] per group, n[16] per group       w = d·s·q − m·n
    nibble_m  // per 256 columns: d[16] m[16], then (s | n << 4)[16] per group        w = d·s·q − m·n
};

struct Format {
    int bits;   // of a stored code
    int group;  // columns that share one (s, m): 32 or 16
    Scales scales;
    int zero_shift;  // zero point = 1 << zero_shift; -1: none, a minimum is added instead
    bool codebook;   // codes index the IQ4 table, whose values are then offset by 128
};

constexpr Format packed_format(WeightType type) {
    switch (type) {
        case WeightType::Q4_0: return {4, 32, Scales::d, 3, false};
        case WeightType::Q4_1: return {4, 32, Scales::dm, -1, false};
        case WeightType::Q5_0: return {5, 32, Scales::d, 4, false};
        case WeightType::Q5_1: return {5, 32, Scales::dm, -1, false};
        case WeightType::Q8_0: return {8, 32, Scales::d, 7, false};
        case WeightType::Q2_K: return {2, 16, Scales::nibble_m, -1, false};
        case WeightType::Q3_K: return {3, 16, Scales::super, 2, false};
        case WeightType::Q4_K: return {4, 32, Scales::super_m, -1, false};
        case WeightType::Q5_K: return {5, 32, Scales::super_m, -1, false};
        case WeightType::Q6_K: return {6, 16, Scales::super, 5, false};
        case WeightType::IQ4_NL: return {4, 32, Scales::d, 7, true};
        case WeightType::IQ4_XS: return {4, 32, Scales::super, 7, true};
        default: return {0, 0, Scales::d, -1, false};
    }
}

constexpr bool is_float(WeightType type) {
    return type == WeightType::F32 || type == WeightType::F16 || type == WeightType::BF16;
}

constexpr int64_t round_up64(int64_t bytes) { return (bytes + 63) / 64 * 64; }

constexpr int plane0_tile_bytes(int bits) { return bits == 8 ? 512 : bits >= 4 ? 256 : 128; }
constexpr int plane1_tile_bytes(int bits) { return bits == 6 ? 128 : bits == 5 || bits == 3 ? 64 : 0; }

// Scale bytes per 256 columns of one block of 16 rows.
constexpr int scale_bytes_per_super(const Format& f) {
    const int groups = kSuperColumns / f.group;
    switch (f.scales) {
        case Scales::d: return 32 * groups;
        case Scales::dm: return 64 * groups;
        case Scales::super: return 32 + 16 * groups;
        case Scales::super_m: return 64 + 32 * groups;
        case Scales::nibble_m: return 64 + 16 * groups;
    }
    return 0;
}

// Offsets inside a section of `tiles` tiles.
struct SectionLayout {
    int64_t plane1, scale, bytes;

    constexpr SectionLayout(const Format& f, int tiles)
        : plane1(tiles * plane0_tile_bytes(f.bits)),
          scale(plane1 + tiles * plane1_tile_bytes(f.bits)),
          bytes(round_up64(scale + tiles * scale_bytes_per_super(f) / kSectionTiles)) {}
};

constexpr int section_tiles(int64_t cols, int64_t section) {
    const int64_t tiles = cols / kGroup - section * kSectionTiles;
    return static_cast<int>(tiles < kSectionTiles ? tiles : kSectionTiles);
}

// What a kernel needs to know of a packed matrix.
struct PackedView {
    const uint8_t* data;
    int64_t rows, cols;
    int64_t block_bytes;  // from one block of 16 rows to the next
    WeightType type;

    int64_t num_blocks() const { return (rows + kBlockRows - 1) / kBlockRows; }
};

// One block unpacked for many tokens: a byte per code, scales and minimums as floats, 16 rows side by side.
struct PanelView {
    uint8_t* codes;  // [cols / 32][512]
    float* scales;   // [cols / group][16]
    float* mins;     // [cols / group][16], only where zero_shift < 0
};

// 32 activations as int8 codes d apart, with more bits where they need them: in narrow rows the quad with the largest value has
// 16 (256·high + code), in wide rows all 32 (256·code + low code, from the row's end). Sums and scale count in units of the last
// byte. One cache line, so that a kernel meets all it needs of a token at once.
struct alignas(64) Q8Group {
    int8_t codes[kGroup];
    float scale;            // d: x = d·code
    float sum;              // d·Σ code, for minimums
    int32_t negative;       // −Σ code, for zero points
    int32_t negative16[2];  // the same per half group
    int8_t high[4];         // zeros in wide rows
    int32_t high_quad;      // which four columns they belong to
};
static_assert(sizeof(Q8Group) == 64 && offsetof(Q8Group, codes) == 0);

// Rows of activations: Q8Group[cols / 32], then the low codes int8[cols]. In wide rows every group has low codes, in others only
// those that one large value would leave too coarse.
struct Q8Rows {
    const uint8_t* data;
    int64_t stride;  // bytes
    int64_t cols;
    bool wide;

    const uint8_t* row(int64_t t) const { return data + t * stride; }
};

constexpr int64_t q8_low_offset(int64_t cols) { return cols / kGroup * static_cast<int64_t>(sizeof(Q8Group)); }
constexpr int64_t q8_row_bytes(int64_t cols) { return round_up64(q8_low_offset(cols) + cols); }

struct F32Rows {
    const float* data;
    int64_t stride;  // floats
    const float* row(int64_t t) const { return data + t * stride; }
};

// Where a linear operator writes: out[token][row] (+ bias[row]) (+ residual[token][row]).
struct LinearOut {
    float* out;
    int64_t stride;  // floats
    const float* bias;
    const float* residual;
    int64_t residual_stride;
};

}  // namespace miaotui
