#include "kernels/pack.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "base/error.h"

namespace miaotui {
namespace {

// Codes are handled a quad at a time: four neighbouring columns of one row, a byte each, in one word.
static_assert(std::endian::native == std::endian::little);
constexpr uint32_t kOnes = 0x01010101;  // times a code: that code in all four columns

// 32 or 256 columns of one row, taken apart: its quads, and the raw scales.
struct RowChunk {
    uint32_t quads[kSuperColumns / 4];
    uint16_t d = 0, m = 0;  // f16 bits
    uint8_t s[16], n[16];   // sub-scales (two's complement where signed) and sub-minimums
};

uint16_t read16(const uint8_t* p) {
    uint16_t x;
    std::memcpy(&x, p, 2);
    return x;
}

uint32_t read32(const uint8_t* p) {
    uint32_t x;
    std::memcpy(&x, p, 4);
    return x;
}

void write32(uint8_t* p, uint32_t x) { std::memcpy(p, &x, 4); }

// Bits `shift` … of every code in a quad: as many as `mask` has.
uint32_t bits_of(uint32_t quad, int shift, uint32_t mask) { return (quad >> shift) & (mask * kOnes); }

// 4 bits, one for each column, to a quad of zeros and ones, and back.
uint32_t quad_of_bits(uint32_t bits) { return ((bits & 15) * 0x00204081) & kOnes; }
uint32_t bits_of_quad(uint32_t quad) { return (quad * 0x01020408) >> 24 & 15; }

void low_high_nibbles(const uint8_t* p, int words, uint32_t* quads) {  // all low nibbles, then all high ones
    for (int w = 0; w < words; ++w) {
        quads[w] = bits_of(read32(p + 4 * w), 0, 15);
        quads[words + w] = bits_of(read32(p + 4 * w), 4, 15);
    }
}

void add_fifth_bits(const uint8_t* p, uint32_t* quads) {
    for (int q = 0; q < 8; ++q) quads[q] |= quad_of_bits(read32(p) >> (4 * q)) << 4;
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

// 256 two-bit codes: 32 bytes hold 128 columns, the lowest bits of all bytes the first 32 of them.
void read_two_bits(const uint8_t* p, uint32_t* quads) {
    for (int b = 0; b < 8; ++b)
        for (int w = 0; w < 8; ++w) quads[8 * b + w] = bits_of(read32(p + b / 4 * 32 + 4 * w), b % 4 * 2, 3);
}

// 256 further bits above the `shift` that are there: bit b of 32 bytes belongs to columns 32b ….
void add_high_bits(const uint8_t* p, int shift, uint32_t* quads) {
    for (int b = 0; b < 8; ++b)
        for (int w = 0; w < 8; ++w) quads[8 * b + w] |= bits_of(read32(p + 4 * w), b, 1) << shift;
}

void read_q2_k(const uint8_t* p, RowChunk& c) {
    for (int i = 0; i < 16; ++i) c.s[i] = p[i] & 15, c.n[i] = p[i] >> 4;
    read_two_bits(p + 16, c.quads);
    c.d = read16(p + 80), c.m = read16(p + 82);
}

void read_q3_k(const uint8_t* p, RowChunk& c) {
    const uint8_t* scales = p + 96;
    read_two_bits(p + 32, c.quads);
    add_high_bits(p, 2, c.quads);
    for (int i = 0; i < 16; ++i) {
        const int low = i < 8 ? scales[i] & 15 : scales[i - 8] >> 4, top = (scales[8 + i % 4] >> (i / 4 * 2)) & 3;
        c.s[i] = static_cast<uint8_t>((low | (top << 4)) - 32);
    }
    c.d = read16(p + 108);
}

void read_q4_k(const uint8_t* p, RowChunk& c) {
    c.d = read16(p), c.m = read16(p + 2);
    unpack_sixes(p + 4, c.s, c.n);
    for (int i = 0; i < 4; ++i) low_high_nibbles(p + 16 + 32 * i, 8, c.quads + 16 * i);
}

void read_q5_k(const uint8_t* p, RowChunk& c) {
    c.d = read16(p), c.m = read16(p + 2);
    unpack_sixes(p + 4, c.s, c.n);
    for (int i = 0; i < 4; ++i) low_high_nibbles(p + 48 + 32 * i, 8, c.quads + 16 * i);
    add_high_bits(p + 16, 4, c.quads);
}

void read_q6_k(const uint8_t* p, RowChunk& c) {
    const uint8_t *low = p, *high = p + 128;
    for (int half = 0; half < 2; ++half) {
        for (int i = 0; i < 2; ++i) {
            uint32_t nibbles[16];
            low_high_nibbles(low + 64 * half + 32 * i, 8, nibbles);
            std::memcpy(c.quads + 32 * half + 8 * i, nibbles, 32);
            std::memcpy(c.quads + 32 * half + 16 + 8 * i, nibbles + 8, 32);
        }
        for (int b = 0; b < 4; ++b)
            for (int w = 0; w < 8; ++w)
                c.quads[32 * half + 8 * b + w] |= bits_of(read32(high + 32 * half + 4 * w), 2 * b, 3) << 4;
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
        low_high_nibbles(p + 8 + 16 * i, 4, c.quads + 8 * i);
    }
}

template <WeightType TYPE>
void read_chunk(const uint8_t* p, RowChunk& c) {
    using enum WeightType;
    if constexpr (TYPE == Q4_0 || TYPE == IQ4_NL) {
        c.d = read16(p);
        low_high_nibbles(p + 2, 4, c.quads);
    } else if constexpr (TYPE == Q4_1) {
        c.d = read16(p), c.m = read16(p + 2);
        low_high_nibbles(p + 4, 4, c.quads);
    } else if constexpr (TYPE == Q5_0) {
        c.d = read16(p);
        low_high_nibbles(p + 6, 4, c.quads);
        add_fifth_bits(p + 2, c.quads);
    } else if constexpr (TYPE == Q5_1) {
        c.d = read16(p), c.m = read16(p + 2);
        low_high_nibbles(p + 8, 4, c.quads);
        add_fifth_bits(p + 4, c.quads);
    } else if constexpr (TYPE == Q8_0) {
        c.d = read16(p);
        for (int q = 0; q < 8; ++q) c.quads[q] = read32(p + 2 + 4 * q) ^ (0x80 * kOnes);  // two's complement + 128
    } else if constexpr (TYPE == Q2_K) {
        read_q2_k(p, c);
    } else if constexpr (TYPE == Q3_K) {
        read_q3_k(p, c);
    } else if constexpr (TYPE == Q4_K) {
        read_q4_k(p, c);
    } else if constexpr (TYPE == Q5_K) {
        read_q5_k(p, c);
    } else if constexpr (TYPE == Q6_K) {
        read_q6_k(p, c);
    } else {
        static_assert(TYPE == IQ4_XS);
        read_iq4_xs(p, c);
    }
}

// The 8 quads of one row of a tile → its bytes in the bit planes, which are zero before the first row.
template <int BITS>
void write_planes(const uint32_t* quads, int row, uint8_t* plane0, uint8_t* plane1) {
    const auto two_bit_plane = [=](uint8_t* plane, int shift) {
        for (int j = 0; j < 2; ++j) {
            uint32_t word = 0;
            for (int q = 0; q < 4; ++q) word |= bits_of(quads[4 * j + q], shift, 3) << (2 * q);
            write32(plane + 64 * j + 4 * row, word);
        }
    };
    const auto one_bit_plane = [=](uint8_t* plane, int shift) {
        for (int q = 0; q < 8; ++q) {
            const uint32_t nibble = bits_of_quad(bits_of(quads[q], shift, 1)) << (4 * (row % 2));
            plane[8 * q + row / 2] = static_cast<uint8_t>(plane[8 * q + row / 2] | nibble);
        }
    };
    if constexpr (BITS == 8) {
        for (int q = 0; q < 8; ++q) write32(plane0 + 64 * q + 4 * row, quads[q]);
        return;
    }
    if constexpr (BITS >= 4)
        for (int j = 0; j < 4; ++j)
            write32(plane0 + 64 * j + 4 * row, bits_of(quads[j], 0, 15) | bits_of(quads[j + 4], 0, 15) << 4);
    else
        two_bit_plane(plane0, 0);
    if constexpr (BITS == 6) two_bit_plane(plane1, 4);
    if constexpr (BITS == 5) one_bit_plane(plane1, 4);
    if constexpr (BITS == 3) one_bit_plane(plane1, 2);
}

void put16(uint8_t* p, int row, uint16_t value) { std::memcpy(p + 2 * row, &value, 2); }

template <WeightType TYPE>
void write_scales(const RowChunk& c, int row, uint8_t* target) {
    constexpr Format f = packed_format(TYPE);
    constexpr int groups = kSuperColumns / f.group;
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

template <WeightType TYPE>
void pack_quantized_block(const PackedView& v, const uint8_t* rows, int num_rows, uint8_t* target) {
    constexpr Format f = packed_format(TYPE);
    constexpr BlockShape shape = block_shape(TYPE);
    constexpr int tiles = shape.weights / kGroup;  // per chunk: 1 or 8
    constexpr int chunk_scale_bytes = scale_bytes_per_super(f) * shape.weights / kSuperColumns;
    const int64_t num_chunks = v.cols / shape.weights;
    RowChunk chunk;
    for (int64_t i = 0; i < num_chunks; ++i) {
        const int64_t number = i * tiles / kSectionTiles, first = i * tiles % kSectionTiles;
        uint8_t* section = target + number * SectionLayout(f, kSectionTiles).bytes;
        const SectionLayout at(f, section_tiles(v.cols, number));
        for (int r = 0; r < num_rows; ++r) {
            read_chunk<TYPE>(rows + (r * num_chunks + i) * shape.bytes, chunk);
            write_scales<TYPE>(chunk, r, section + at.scale + first / tiles * chunk_scale_bytes);
            for (int t = 0; t < tiles; ++t)
                write_planes<f.bits>(chunk.quads + 8 * t, r, section + (first + t) * plane0_tile_bytes(f.bits),
                                     section + at.plane1 + (first + t) * plane1_tile_bytes(f.bits));
        }
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
    switch (v.type) {
#define X(T) \
    case WeightType::T: return pack_quantized_block<WeightType::T>(v, rows, num_rows, out);
        MT_QUANTIZED_TYPES(X)
#undef X
        default: return pack_float_block(v, rows, num_rows, out);
    }
}

PanelSize panel_size(const PackedView& v) {
    if (is_float(v.type)) return {0, 0};
    return {v.cols * kBlockRows, v.cols / packed_format(v.type).group * kBlockRows};
}

}  // namespace miaotui
