// Linear operators on packed weights. One arithmetic for every variant, so that results never depend on how many tokens
// share a call (contract 5): integers inside a group, then for each group in column order
//     acc = fma(float(Σ (q − zero)·x) · s, d_x, acc)   and, with minimums,   acc = fma(m, d_x·Σ x, acc).
// Included once per tier after a vec_*.h.
#pragma once

#include "kernels/packed.h"

namespace miaotui::MIAOTUI_TIER {

alignas(64) static const uint8_t kIq4Values[16] = {
    1,   24,  45,  63,  79,  93,  106, 118,  // the IQ4_NL code book + 128
    129, 141, 153, 166, 181, 197, 217, 241};

struct ScalePair {
    F32 s, m;
};

MT_INLINE void fill_quads(Codes* c, const uint8_t* line, int lane) {  // 2-bit plane: one line holds four quads
    const Codes v = load_codes(line, lane);
    c[0] = code_and(v, 3);
    c[1] = code_and(code_shr<2>(v), 3);
    c[2] = code_and(code_shr<4>(v), 3);
    c[3] = code_and(code_shr<6>(v), 3);
}

// Walks a block's bytes ahead of the kernel and asks the second cache for them: the first has too few buffers for as many
// lines as memory's latency needs under way. At the block's end it goes on at `next`, which the same thread reads afterwards.
struct Prefetcher {
    static constexpr int kIntoSecondCache = 2;
    static constexpr int64_t kDistance = 6144;  // bytes; 4096 and 12288 are slower

    const uint8_t *at, *end, *next;

    MT_INLINE Prefetcher open(const uint8_t* block, int64_t bytes, const uint8_t* next) {
        Prefetcher p{block, block + bytes, next};
        p.skip(kDistance);
        return p;
    }
    template <int BYTES>
    MT_MEMBER void fetch() {
        for (int i = 0; i < BYTES; i += 64) __builtin_prefetch(at + i, 0, kIntoSecondCache);
        skip(BYTES);
    }

private:
    MT_MEMBER void skip(int64_t bytes) {
        at += bytes;
        if (at >= end) at = next + (at - end), end = next + (int64_t{1} << 40);
    }
};

// The packed format of one weight type: how to get the 8 quads of a tile and the scales of a group.
template <WeightType TYPE>
struct Packed {
    static constexpr Format format = packed_format(TYPE);
    static constexpr int kBits = format.codebook ? 8 : format.bits;  // after unpacking
    static constexpr int kGroupColumns = format.group;
    static constexpr int kZeroShift = format.zero_shift;
    static constexpr bool kStreamed = true;
    static constexpr int kTileBytes = static_cast<int>(SectionLayout(format, kSectionTiles).bytes / kSectionTiles);
    static constexpr bool kSuper = format.scales != Scales::d && format.scales != Scales::dm;
    static constexpr bool kMinimum = format.zero_shift < 0;

    struct Section {
        const uint8_t *plane0, *plane1, *scale;
        F32 d, minus_m;  // of 256 columns, where sub-scales refine them
    };

    const uint8_t* block;

    MT_INLINE Packed open(const PackedView& w, int64_t block) { return {w.data + block * w.block_bytes}; }

    MT_INLINE Section section(const Packed& p, int64_t number, int tiles, int lane) {
        const SectionLayout at(format, tiles);
        const uint8_t* base = p.block + number * SectionLayout(format, kSectionTiles).bytes;
        Section s{base, base + at.plane1, base + at.scale, zero(), zero()};
        const auto* d = reinterpret_cast<const uint16_t*>(s.scale) + lane;
        if constexpr (kSuper) s.d = load_f16(d);
        if constexpr (kSuper && kMinimum) s.minus_m = sub(zero(), load_f16(d + 16));
        return s;
    }

    MT_INLINE void tile(const Section& s, int j, int lane, Codes c[8]) {
        const uint8_t* line = s.plane0 + j * plane0_tile_bytes(format.bits);
        const uint8_t* high = s.plane1 + j * plane1_tile_bytes(format.bits);
        if constexpr (format.bits == 8) {
            for (int q = 0; q < 8; ++q) c[q] = load_codes(line + 64 * q, lane);
        } else if constexpr (format.bits >= 4) {
            for (int i = 0; i < 4; ++i) {
                const Codes v = load_codes(line + 64 * i, lane);
                c[i] = code_and(v, 15);
                c[i + 4] = code_and(code_shr<4>(v), 15);
            }
        } else {
            fill_quads(c, line, lane);
            fill_quads(c + 4, line + 64, lane);
        }
        if constexpr (format.bits == 6) {
            Codes top[8];
            fill_quads(top, high, lane);
            fill_quads(top + 4, high + 64, lane);
            for (int q = 0; q < 8; ++q) c[q] = code_or(c[q], code_shl<4>(top[q]));
        } else if constexpr (format.bits == 5 || format.bits == 3) {
            for (int q = 0; q < 8; ++q)
                c[q] = code_or(c[q], code_bits(high + 8 * q, lane, static_cast<uint8_t>(1 << (format.bits - 1))));
        }
        if constexpr (format.codebook)
            for (int q = 0; q < 8; ++q) c[q] = code_lookup(kIq4Values, c[q]);
    }

    // Scale and minimum of the section's group k (of kGroupColumns columns).
    MT_INLINE ScalePair scales(const Section& p, int k, int lane) {
        constexpr int kGroups = kSuperColumns / format.group;
        if constexpr (format.scales == Scales::d) {
            return {load_f16(reinterpret_cast<const uint16_t*>(p.scale + 32 * k) + lane), zero()};
        } else if constexpr (format.scales == Scales::dm) {
            const auto* d = reinterpret_cast<const uint16_t*>(p.scale + 64 * k) + lane;
            return {load_f16(d), load_f16(d + 16)};
        } else if constexpr (format.scales == Scales::super) {
            return {mul(p.d, load_i8(p.scale + 32 + 16 * k + lane)), zero()};
        } else if constexpr (format.scales == Scales::super_m) {
            const uint8_t* s = p.scale + 64 + 16 * k + lane;
            return {mul(p.d, load_u8(s)), mul(p.minus_m, load_u8(s + 16 * kGroups))};
        } else {
            const uint8_t* both = p.scale + 64 + 16 * k + lane;
            uint8_t s[W], n[W];
            for (int r = 0; r < W; ++r) {
                s[r] = both[r] & 15;
                n[r] = static_cast<uint8_t>(both[r] >> 4);
            }
            return {mul(p.d, load_u8(s)), mul(p.minus_m, load_u8(n))};
        }
    }
};

// A block that unpack_block has turned into a panel.
template <int GROUP, int ZERO_SHIFT, int BITS>
struct Panel {
    static constexpr int kBits = BITS;
    static constexpr int kGroupColumns = GROUP;
    static constexpr int kZeroShift = ZERO_SHIFT;
    static constexpr bool kStreamed = false;

    struct Section {
        const uint8_t* codes;
        const float *scales, *mins;
    };

    const PanelView view;

    MT_INLINE Section section(const Panel& p, int64_t number, int, int) {
        constexpr int kFloats = kBlockRows * kSuperColumns / GROUP;
        return {p.view.codes + kBlockRows * kSuperColumns * number, p.view.scales + kFloats * number,
                p.view.mins + kFloats * number};
    }
    MT_INLINE void tile(const Section& s, int j, int lane, Codes c[8]) {
        for (int q = 0; q < 8; ++q) c[q] = load_codes(s.codes + 512 * j + 64 * q, lane);
    }
    MT_INLINE ScalePair scales(const Section& s, int k, int lane) {
        if constexpr (ZERO_SHIFT >= 0)
            return {load(s.scales + 16 * k + lane), zero()};
        else
            return {load(s.scales + 16 * k + lane), load(s.mins + 16 * k + lane)};
    }
};

// Runs body(section, tile in the section, tile in the block) on the tiles of a block, in column order.
template <class SOURCE, class BODY>
MT_INLINE void for_tiles(const SOURCE& w, int64_t cols, int lane, BODY body) {
    for (int64_t number = 0; number * kSuperColumns < cols; ++number) {
        const int tiles = section_tiles(cols, number);
        const auto section = SOURCE::section(w, number, tiles, lane);
        for (int j = 0; j < tiles; ++j) body(section, j, number * kSectionTiles + j);
    }
}

// Adds bias and residual and stores the rows of one block that exist.
MT_INLINE void store_rows(const LinearOut& o, int64_t token, int64_t row, int64_t rows, F32 value) {
    if (row + W <= rows) {
        if (o.bias != nullptr) value = add(value, load(o.bias + row));
        if (o.residual != nullptr) value = add(value, load(o.residual + token * o.residual_stride + row));
        store(o.out + token * o.stride + row, value);
        return;
    }
    float lanes[W];
    store(lanes, value);
    for (int64_t r = row; r < rows; ++r) {
        float x = lanes[r - row];
        if (o.bias != nullptr) x += o.bias[r];
        if (o.residual != nullptr) x += o.residual[token * o.residual_stride + r];
        o.out[token * o.stride + r] = x;
    }
}

// One group (or half group) of one token: the arithmetic at the top of this file. Wide activations are 256·x + low. Integer sums
// may be added in any order: short chains of dot products, for in a long one each only waits for the one before it.
template <class SOURCE, int QUADS, bool WIDE>
MT_INLINE F32 accumulate(F32 acc, const Codes* codes, const int8_t* x, const int8_t* low, int32_t neg, float sum,
                         F32 d_x, ScalePair w) {
    constexpr int kBits = SOURCE::kBits, kHalf = QUADS / 2;
    const auto product = [codes](I32 start, const int8_t* p) MT_LAMBDA {
        const I32 first = dot<kBits, kHalf>(start, codes, p);
        return iadd(first, dot<kBits, kHalf>(iset1(0), codes + kHalf, p + 4 * kHalf));
    };
    I32 i = iset1(0);
    if constexpr (SOURCE::kZeroShift >= 0) i = ishl<SOURCE::kZeroShift>(iset1(neg));
    if constexpr (WIDE)
        i = iadd(product(i, low), ishl<8>(product(iset1(0), x)));
    else
        i = product(i, x);
    acc = fma(mul(to_f32(i), w.s), d_x, acc);
    if constexpr (SOURCE::kZeroShift < 0) acc = fma(w.m, set1(sum), acc);
    return acc;
}

struct Q8Row {  // one token's pointers
    const int8_t *x, *low;
    const float *scale, *sum, *sum16;
    const int32_t *neg, *neg16;
};

MT_INLINE Q8Row open_row(const Q8Rows& x, int64_t t, const Q8Layout& at) {
    const uint8_t* p = x.row(t);
    const auto floats = [p](int64_t offset) { return reinterpret_cast<const float*>(p + offset); };
    const auto ints = [p](int64_t offset) { return reinterpret_cast<const int32_t*>(p + offset); };
    const auto codes = [p](int64_t offset) { return reinterpret_cast<const int8_t*>(p + offset); };
    return {codes(0), codes(at.low), floats(at.scale), floats(at.sum), floats(at.sum16), ints(at.neg), ints(at.neg16)};
}

// MT tokens from t0 × the 16 rows of one block, read from SOURCE.
template <class SOURCE, int MT, bool WIDE>
static void block_times_tokens(const SOURCE& w, const Q8Rows& x, int64_t t0, int64_t row, int64_t rows,
                               const LinearOut& out, Prefetcher ahead) {
    const Q8Layout at(x.cols, WIDE);
    Q8Row token[MT];
    for (int t = 0; t < MT; ++t) token[t] = open_row(x, t0 + t, at);
    for (int lane = 0; lane < kBlockRows; lane += W) {
        F32 acc[MT];
        for (int t = 0; t < MT; ++t) acc[t] = zero();
        for_tiles(w, x.cols, lane, [&](const auto& section, int j, int64_t g) MT_LAMBDA {
            if constexpr (SOURCE::kStreamed)
                if (lane == 0) ahead.template fetch<SOURCE::kTileBytes>();
            Codes c[8];
            SOURCE::tile(section, j, lane, c);
            if constexpr (SOURCE::kGroupColumns == 32) {
                const ScalePair s = SOURCE::scales(section, j, lane);
                for (int t = 0; t < MT; ++t) {
                    const Q8Row& q = token[t];
                    acc[t] = accumulate<SOURCE, 8, WIDE>(acc[t], c, q.x + 32 * g, q.low + 32 * g, q.neg[g], q.sum[g],
                                                         set1(q.scale[g]), s);
                }
            } else {
                const ScalePair s0 = SOURCE::scales(section, 2 * j, lane);
                const ScalePair s1 = SOURCE::scales(section, 2 * j + 1, lane);
                for (int t = 0; t < MT; ++t) {
                    const Q8Row& q = token[t];
                    const F32 d_x = set1(q.scale[g]);
                    const int64_t h = 2 * g, k = 16 * h;
                    acc[t] =
                        accumulate<SOURCE, 4, WIDE>(acc[t], c, q.x + k, q.low + k, q.neg16[h], q.sum16[h], d_x, s0);
                    acc[t] = accumulate<SOURCE, 4, WIDE>(acc[t], c + 4, q.x + k + 16, q.low + k + 16, q.neg16[h + 1],
                                                         q.sum16[h + 1], d_x, s1);
                }
            }
        });
        for (int t = 0; t < MT; ++t) store_rows(out, t0 + t, row + lane, rows, acc[t]);
    }
}

// Walks the tokens in tiles of LARGEST, then smaller powers of two.
template <class SOURCE, int LARGEST, bool WIDE>
static void block_times_all(const SOURCE& w, const Q8Rows& x, int64_t t0, int64_t t1, int64_t row, int64_t rows,
                            const LinearOut& out, const Prefetcher& ahead) {
    for (; t0 + LARGEST <= t1; t0 += LARGEST)
        block_times_tokens<SOURCE, LARGEST, WIDE>(w, x, t0, row, rows, out, ahead);
    if constexpr (LARGEST > 1)
        if (t0 < t1) block_times_all<SOURCE, LARGEST / 2, WIDE>(w, x, t0, t1, row, rows, out, ahead);
}

template <class SOURCE, int LARGEST>
static void block_product(const SOURCE& w, const Q8Rows& x, int64_t t0, int64_t t1, int64_t row, int64_t rows,
                          const LinearOut& out, const Prefetcher& ahead) {
    if (x.wide)
        block_times_all<SOURCE, LARGEST, true>(w, x, t0, t1, row, rows, out, ahead);
    else
        block_times_all<SOURCE, LARGEST, false>(w, x, t0, t1, row, rows, out, ahead);
}

template <WeightType TYPE>
static void direct(const PackedView& w, int64_t block0, int64_t block1, const Q8Rows& x, int64_t t0, int64_t t1,
                   const LinearOut& out, const uint8_t* next) {
    using P = Packed<TYPE>;
    constexpr int kLargestTile = W == 16 ? 8 : W == 8 ? 4 : 1;  // what the register file holds beside 8 quads of codes
    for (int64_t b = block0; b < block1; ++b) {
        const P block = P::open(w, b);
        const uint8_t* end = block.block + w.block_bytes;
        const auto ahead = Prefetcher::open(block.block, w.block_bytes, b + 1 < block1 || next == nullptr ? end : next);
        block_product<P, kLargestTile>(block, x, t0, t1, b * kBlockRows, w.rows, out, ahead);
    }
}

static void linear_q8(const PackedView& w, int64_t block0, int64_t block1, const Q8Rows& x, int64_t t0, int64_t t1,
                      const LinearOut& out, const uint8_t* next) {
    switch (w.type) {
#define MT_CASE(T) \
    case WeightType::T: return direct<WeightType::T>(w, block0, block1, x, t0, t1, out, next);
        MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
        default: return;
    }
}

template <WeightType TYPE>
static void unpack(const PackedView& w, int64_t block, const PanelView& panel) {
    using P = Packed<TYPE>;
    const P p = P::open(w, block);
    constexpr int kPieces = kGroup / P::kGroupColumns;
    for (int lane = 0; lane < kBlockRows; lane += W)
        for_tiles(p, w.cols, lane, [&](const auto& section, int j, int64_t g) MT_LAMBDA {
            Codes c[8];
            P::tile(section, j, lane, c);
            for (int q = 0; q < 8; ++q) store_codes(panel.codes + 512 * g + 64 * q, lane, c[q]);
            for (int i = 0; i < kPieces; ++i) {
                const ScalePair s = P::scales(section, kPieces * j + i, lane);
                store(panel.scales + 16 * (kPieces * g + i) + lane, s.s);
                if constexpr (P::kZeroShift < 0) store(panel.mins + 16 * (kPieces * g + i) + lane, s.m);
            }
        });
}

static void unpack_block(const PackedView& w, int64_t block, const PanelView& panel) {
    switch (w.type) {
#define MT_CASE(T) \
    case WeightType::T: return unpack<WeightType::T>(w, block, panel);
        MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
        default: return;
    }
}

template <WeightType TYPE>
static void panel_times_all(const PackedView& w, int64_t block, const PanelView& panel, const Q8Rows& x, int64_t t0,
                            int64_t t1, const LinearOut& out) {
    using P = Panel<Packed<TYPE>::kGroupColumns, Packed<TYPE>::kZeroShift, Packed<TYPE>::kBits>;
    constexpr int kLargestTile = W == 16 ? 16 : W == 8 ? 4 : 1;
    block_product<P, kLargestTile>(P{panel}, x, t0, t1, block * kBlockRows, w.rows, out, Prefetcher{});
}

// As linear_q8 for one block, from the panel that unpack_block made of it.
static void linear_panel(const PackedView& w, int64_t block, const PanelView& panel, const Q8Rows& x, int64_t t0,
                         int64_t t1, const LinearOut& out) {
    switch (w.type) {
#define MT_CASE(T) \
    case WeightType::T: return panel_times_all<WeightType::T>(w, block, panel, x, t0, t1, out);
        MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
        default: return;
    }
}

}  // namespace miaotui::MIAOTUI_TIER
