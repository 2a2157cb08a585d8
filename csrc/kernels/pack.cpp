#include "kernels/pack.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "base/error.h"

namespace miaotui {
namespace {

// 32 or 256 columns of one row, taken apart: a byte per code, and the raw scales.
struct RowChunk {
    uint8_t codes[kSuperColumns];
    uint16_t d = 0, m = 0;  // f16 bits
    uint8_t s[16], n[16];   // sub-scales (two's complement where signed) and sub-minimums
};

uint16_t read16(const uint8_t* p) {
    uint16_t x;
    std::memcpy(&x, p, 2);
    return x;
}

void low_high_nibbles(const uint8_t* p, int count, uint8_t* codes) {  // count bytes → low nibbles, then high nibbles
    for (int i = 0; i < count; ++i) codes[i] = p[i] & 15;
    for (int i = 0; i < count; ++i) codes[count + i] = p[i] >> 4;
}

void add_fifth_bits(const uint8_t* p, uint8_t* codes) {
    uint32_t bits;
    std::memcpy(&bits, p, 4);
    for (int i = 0; i < 32; ++i) codes[i] = static_cast<uint8_t>(codes[i] | (((bits >> i) & 1) << 4));
}

// The 6-bit sub-scales and sub-minimums of Q4_K and Q5_K: 8 + 8 values in 12 bytes.
void unpack_sixes(const uint8_t* p, uint8_t* s, uint8_t* n) {
    for (int i = 0; i < 4; ++i) {
        s[i] = p[i] & 63;
        n[i] = p[i + 4] & 63;
        s[i + 4] = static_cast<uint8_t>((p[i + 8] & 15) | ((p[i] >> 6) << 4));
        n[i + 4] = static_cast<uint8_t>((p[i + 8] >> 4) | ((p[i + 4] >> 6) << 4));
    }
}

void read_q2_k(const uint8_t* p, RowChunk& c) {
    const uint8_t *scales = p, *qs = p + 16;
    for (int i = 0; i < 16; ++i) c.s[i] = scales[i] & 15, c.n[i] = scales[i] >> 4;
    for (int i = 0; i < kSuperColumns; ++i) c.codes[i] = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
    c.d = read16(p + 80), c.m = read16(p + 82);
}

void read_q3_k(const uint8_t* p, RowChunk& c) {
    const uint8_t *high = p, *qs = p + 32, *scales = p + 96;
    for (int i = 0; i < kSuperColumns; ++i) {
        const int low = (qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
        c.codes[i] = static_cast<uint8_t>(low | (((high[i % 32] >> (i / 32)) & 1) << 2));
    }
    for (int i = 0; i < 16; ++i) {
        const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4, top = (scales[8 + i % 4] >> (i / 4 * 2)) & 3;
        c.s[i] = static_cast<uint8_t>((low | (top << 4)) - 32);
    }
    c.d = read16(p + 108);
}

void read_q4_k(const uint8_t* p, RowChunk& c) {
    c.d = read16(p), c.m = read16(p + 2);
    unpack_sixes(p + 4, c.s, c.n);
    for (int i = 0; i < 4; ++i) low_high_nibbles(p + 16 + 32 * i, 32, c.codes + 64 * i);
}

void read_q5_k(const uint8_t* p, RowChunk& c) {
    c.d = read16(p), c.m = read16(p + 2);
    unpack_sixes(p + 4, c.s, c.n);
    for (int i = 0; i < 4; ++i) low_high_nibbles(p + 48 + 32 * i, 32, c.codes + 64 * i);
    for (int i = 0; i < kSuperColumns; ++i)
        c.codes[i] = static_cast<uint8_t>(c.codes[i] | (((p[16 + i % 32] >> (i / 32)) & 1) << 4));
}

void read_q6_k(const uint8_t* p, RowChunk& c) {
    const uint8_t *low = p, *high = p + 128;
    for (int half = 0; half < 2; ++half)
        for (int i = 0; i < 128; ++i) {
            const uint8_t nibbles = low[64 * half + i % 64];
            const int l = i < 64 ? nibbles & 15 : nibbles >> 4, h = (high[32 * half + i % 32] >> (i / 32 * 2)) & 3;
            c.codes[128 * half + i] = static_cast<uint8_t>(l | (h << 4));
        }
    std::memcpy(c.s, p + 192, 16);
    c.d = read16(p + 208);
}

void read_iq4_xs(const uint8_t* p, RowChunk& c) {
    c.d = read16(p);
    const uint16_t high = read16(p + 2);
    for (int i = 0; i < 8; ++i) {
        const int low = (p[4 + i / 2] >> (4 * (i % 2))) & 15, top = (high >> (2 * i)) & 3;
        c.s[i] = static_cast<uint8_t>((low | (top << 4)) - 32);
        low_high_nibbles(p + 8 + 16 * i, 16, c.codes + 32 * i);
    }
}

void read_chunk(WeightType type, const uint8_t* p, RowChunk& c) {
    switch (type) {
        case WeightType::Q4_0:
        case WeightType::IQ4_NL: c.d = read16(p); return low_high_nibbles(p + 2, 16, c.codes);
        case WeightType::Q4_1: c.d = read16(p), c.m = read16(p + 2); return low_high_nibbles(p + 4, 16, c.codes);
        case WeightType::Q5_0:
            c.d = read16(p);
            low_high_nibbles(p + 6, 16, c.codes);
            return add_fifth_bits(p + 2, c.codes);
        case WeightType::Q5_1:
            c.d = read16(p), c.m = read16(p + 2);
            low_high_nibbles(p + 8, 16, c.codes);
            return add_fifth_bits(p + 4, c.codes);
        case WeightType::Q8_0:
            c.d = read16(p);
            for (int i = 0; i < 32; ++i) c.codes[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80);  // two's complement + 128
            return;
        case WeightType::Q2_K: return read_q2_k(p, c);
        case WeightType::Q3_K: return read_q3_k(p, c);
        case WeightType::Q4_K: return read_q4_k(p, c);
        case WeightType::Q5_K: return read_q5_k(p, c);
        case WeightType::Q6_K: return read_q6_k(p, c);
        case WeightType::IQ4_XS: return read_iq4_xs(p, c);
        default: return;  // float types are packed by pack_float_block
    }
}

// 512 codes of a tile in quad order → the bit planes.
void write_planes(int bits, const uint8_t tile[512], uint8_t* plane0, uint8_t* plane1) {
    const auto two_bit_plane = [tile](uint8_t* target, int shift) {
        for (int j = 0; j < 2; ++j)
            for (int i = 0; i < 64; ++i) {
                int byte = 0;
                for (int q = 0; q < 4; ++q) byte |= ((tile[64 * (4 * j + q) + i] >> shift) & 3) << (2 * q);
                target[64 * j + i] = static_cast<uint8_t>(byte);
            }
    };
    const auto one_bit_plane = [tile](uint8_t* target, int shift) {
        for (int i = 0; i < 64; ++i) {
            int byte = 0;
            for (int b = 0; b < 8; ++b) byte |= ((tile[8 * i + b] >> shift) & 1) << b;
            target[i] = static_cast<uint8_t>(byte);
        }
    };
    if (bits == 8) {
        std::memcpy(plane0, tile, 512);
        return;
    }
    if (bits >= 4)
        for (int i = 0; i < 256; ++i) plane0[i] = static_cast<uint8_t>((tile[i] & 15) | (tile[256 + i] << 4));
    else
        two_bit_plane(plane0, 0);
    if (bits == 6) two_bit_plane(plane1, 4);
    if (bits == 5) one_bit_plane(plane1, 4);
    if (bits == 3) one_bit_plane(plane1, 2);
}

void put16(uint8_t* p, int row, uint16_t value) { std::memcpy(p + 2 * row, &value, 2); }

void write_scales(const Format& f, const RowChunk& c, int row, uint8_t* target) {
    const int groups = kSuperColumns / f.group;
    put16(target, row, c.d);
    switch (f.scales) {
        case Scales::d: return;
        case Scales::dm: return put16(target + 32, row, c.m);
        case Scales::super:
            for (int i = 0; i < groups; ++i) target[32 + 16 * i + row] = c.s[i];
            return;
        case Scales::super_m:
            put16(target + 32, row, c.m);
            for (int i = 0; i < groups; ++i) {
                target[64 + 16 * i + row] = c.s[i];
                target[64 + 16 * (groups + i) + row] = c.n[i];
            }
            return;
        case Scales::nibble_m:
            put16(target + 32, row, c.m);
            for (int i = 0; i < groups; ++i) target[64 + 16 * i + row] = static_cast<uint8_t>(c.s[i] | (c.n[i] << 4));
            return;
    }
}

void pack_quantized_block(const PackedView& v, const uint8_t* rows, int num_rows, uint8_t* target) {
    const Format f = packed_format(v.type);
    const BlockShape shape = block_shape(v.type);
    const int64_t row_bytes = v.cols / shape.weights * shape.bytes;
    const int tiles = shape.weights / kGroup;  // per chunk: 1 or 8
    const int chunk_scale_bytes = scale_bytes_per_super(f) * shape.weights / kSuperColumns;
    uint8_t tile[8][512];
    RowChunk chunk;
    for (int64_t i = 0; i < v.cols / shape.weights; ++i) {
        const int64_t number = i * tiles / kSectionTiles, first = i * tiles % kSectionTiles;
        uint8_t* section = target + number * SectionLayout(f, kSectionTiles).bytes;
        const SectionLayout at(f, section_tiles(v.cols, number));
        if (num_rows < kBlockRows)
            std::memset(tile, 0, sizeof tile);  // rows that do not exist: zero scales, zero codes
        for (int r = 0; r < num_rows; ++r) {
            read_chunk(v.type, rows + r * row_bytes + i * shape.bytes, chunk);
            for (int t = 0; t < tiles; ++t)
                for (int q = 0; q < 8; ++q) std::memcpy(tile[t] + 64 * q + 4 * r, chunk.codes + kGroup * t + 4 * q, 4);
            write_scales(f, chunk, r, section + at.scale + first / tiles * chunk_scale_bytes);
        }
        for (int t = 0; t < tiles; ++t)
            write_planes(f.bits, tile[t], section + (first + t) * plane0_tile_bytes(f.bits),
                         section + at.plane1 + (first + t) * plane1_tile_bytes(f.bits));
    }
}

void pack_float_block(const PackedView& v, const uint8_t* rows, int num_rows, uint8_t* target) {
    const int64_t size = block_shape(v.type).bytes, row_bytes = v.cols * size;
    for (int64_t k = 0; k < v.cols; ++k)
        for (int r = 0; r < num_rows; ++r)
            std::memcpy(target + (k * kBlockRows + r) * size, rows + r * row_bytes + k * size,
                        static_cast<size_t>(size));
}

}  // namespace

PackedView plan_packed(WeightType type, int64_t rows, int64_t cols) {
    const BlockShape shape = block_shape(type);
    if (shape.weights == 0)
        throw BadInput("weight type " + std::to_string(static_cast<int>(type)) + " is not supported");
    // With these limits every product below stays in 64 bits: rows are padded to 16, a weight has at most 4 bytes.
    constexpr int64_t kMostWeights = int64_t{1} << 48;
    if (rows <= 0 || cols <= 0 || rows > std::numeric_limits<int32_t>::max() ||
        cols > std::numeric_limits<int32_t>::max() || rows * cols > kMostWeights)
        throw BadInput("a weight matrix of " + std::to_string(rows) + " x " + std::to_string(cols) +
                       " is out of range");
    if (cols % shape.weights != 0)
        throw BadInput("a weight matrix with " + std::to_string(cols) + " columns cannot hold blocks of " +
                       std::to_string(shape.weights));
    PackedView v{nullptr, rows, cols, 0, type};
    if (is_float(type)) {
        v.block_bytes = round_up64(cols * kBlockRows * shape.bytes);
        return v;
    }
    const Format f = packed_format(type);
    const int64_t full = cols / kSuperColumns;
    v.block_bytes = full * SectionLayout(f, kSectionTiles).bytes + SectionLayout(f, section_tiles(cols, full)).bytes;
    return v;
}

int64_t file_bytes(WeightType type, int64_t rows, int64_t cols) {
    const BlockShape shape = block_shape(type);
    return rows * (cols / shape.weights) * shape.bytes;
}

void pack_block(const PackedView& v, int64_t block, const uint8_t* source, uint8_t* target) {
    const int64_t row = block * kBlockRows;
    const int num_rows = static_cast<int>(std::min<int64_t>(kBlockRows, v.rows - row));
    const uint8_t* rows = source + file_bytes(v.type, row, v.cols);
    uint8_t* out = target + block * v.block_bytes;
    if (is_float(v.type))
        pack_float_block(v, rows, num_rows, out);
    else
        pack_quantized_block(v, rows, num_rows, out);
}

PanelSize panel_size(const PackedView& v) {
    if (is_float(v.type)) return {0, 0};
    return {v.cols * kBlockRows, v.cols / packed_format(v.type).group * kBlockRows};
}

}  // namespace miaotui
