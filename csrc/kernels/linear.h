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
    static constexpr bool kStreamed = true, kPacked = format.bits != 8;
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

    // The quad of that tile with this number.
    MT_INLINE Codes quad(const Section& s, int j, int q, int lane) {
        const uint8_t* line = s.plane0 + j * plane0_tile_bytes(format.bits);
        const uint8_t* high = s.plane1 + j * plane1_tile_bytes(format.bits);
        if constexpr (format.bits == 8) return load_codes(line + 64 * q, lane);
        const auto fours = [&](const uint8_t* plane) MT_LAMBDA {  // 2-bit plane
            return code_and(code_shr(load_codes(plane + 64 * (q / 4), lane), 2 * (q % 4)), 3);
        };
        Codes c;
        if constexpr (format.bits >= 4)
            c = code_and(code_shr(load_codes(line + 64 * (q % 4), lane), 4 * (q / 4)), 15);
        else
            c = fours(line);
        if constexpr (format.bits == 6) c = code_or(c, code_shl<4>(fours(high)));
        if constexpr (format.bits == 5 || format.bits == 3)
            c = code_or(c, code_bits(high + 8 * q, lane, static_cast<uint8_t>(1 << (format.bits - 1))));
        if constexpr (format.codebook) c = code_lookup(kIq4Values, c);
        return c;
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
    static constexpr bool kStreamed = false, kPacked = false;

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
        for (int q = 0; q < 8; ++q) c[q] = quad(s, j, q, lane);
    }
    MT_INLINE Codes quad(const Section& s, int j, int q, int lane) {
        return load_codes(s.codes + 512 * j + 64 * q, lane);
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

// Asks for what store_rows will touch. Its lines lie a row of the output apart, too far for the processor to foresee.
MT_INLINE void prefetch_rows(const LinearOut& o, int64_t token, int64_t row) {
    if (o.residual != nullptr) __builtin_prefetch(o.residual + token * o.residual_stride + row);
    __builtin_prefetch(o.out + token * o.stride + row, 1);
}

// One tile of a block: its codes and the scales of its one or two groups. For so many LOOKUPS of a quad by number, codes that
// lie packed are kept in memory too: taking one out again costs about as much as storing it.
template <class SOURCE, int LOOKUPS>
struct Tile {
    static constexpr int kPieces = kGroup / SOURCE::kGroupColumns, kQuads = 8 / kPieces;
    static constexpr bool kKept = SOURCE::kPacked && LOOKUPS >= 4;
    Codes codes[8];
    alignas(64) uint8_t kept[kKept ? 8 * sizeof(Codes) : 1];
    ScalePair scales[kPieces];

    MT_MEMBER void read(const typename SOURCE::Section& section, int j, int lane) {
        SOURCE::tile(section, j, lane, codes);
        if constexpr (kKept)
            for (int q = 0; q < 8; ++q) __builtin_memcpy(kept + q * sizeof(Codes), codes + q, sizeof(Codes));
        for (int k = 0; k < kPieces; ++k) scales[k] = SOURCE::scales(section, kPieces * j + k, lane);
    }
    MT_MEMBER Codes quad(const typename SOURCE::Section& section, int j, int q, int lane) const {
        if constexpr (!kKept) return SOURCE::quad(section, j, q, lane);
        Codes c;
        __builtin_memcpy(&c, kept + q * sizeof(Codes), sizeof(Codes));
        return c;
    }
};

// Chains of dot products that take turns, link by link: each link waits four or five cycles for the one before it, while one or
// two could begin in every cycle, and chains one after another fill the places from which a processor looks for work that need
// not wait. Where a dot product is many instructions, they are enough by themselves.
inline constexpr int kChainsAtOnce = 8;
inline constexpr bool kTakeTurns = kDotsAtOnce == 1;

// Chains that each of so many sums is cut into.
constexpr int chains_of_one(int num_sums) {
    if (!kTakeTurns) return 2;
    if (num_sums == 1) return 4;  // eight of one link each would cost more sums than they save
    return num_sums < kChainsAtOnce ? 2 : 1;
}

// Tokens of a tile: as many sums, and as many results, as registers hold beside 8 quads of codes, or 16 of two panels.
inline constexpr int kDirectTokens = W == 16 ? 8 : W == 8 ? 4 : 1, kPanelTokens = W == 1 ? 1 : 4;

// sum[t][b] += piece k of tile b × the int8 plane that token t has at x + t · stride.
template <class SOURCE, int MT, int NB, class TILE>
MT_INLINE void add_products(I32 (*sum)[NB], const TILE* tile, int k, const uint8_t* x, int64_t stride) {
    constexpr int kQuads = TILE::kQuads;
    constexpr int kChains = chains_of_one(MT * NB), kLinks = kQuads / kChains, kAtOnce = kTakeTurns ? 1 : kLinks;
    I32 part[kChains][MT][NB];
    unrolled<MT, NB>([&](int t, int b) MT_LAMBDA {
        part[0][t][b] = sum[t][b];
        for (int i = 1; i < kChains; ++i) part[i][t][b] = iset1(0);
    });
    unrolled<kLinks / kAtOnce, kChains>([&](int turn, int i) MT_LAMBDA {
        unrolled<MT, NB>([&](int t, int b) MT_LAMBDA {
            const int quad = kQuads * k + kLinks * i + kAtOnce * turn;
            const auto* four = reinterpret_cast<const int8_t*>(x + t * stride + 4 * quad);
            part[i][t][b] = dot<SOURCE::kBits, kAtOnce>(part[i][t][b], tile[b].codes + quad, four);
        });
    });
    unrolled<MT, NB>([&](int t, int b) MT_LAMBDA {
        sum[t][b] = part[0][t][b];
        for (int i = 1; i < kChains; ++i) sum[t][b] = iadd(sum[t][b], part[i][t][b]);
    });
}

// 256 · (the quad of a group that has high bytes × those).
template <class SOURCE, class TILE>
MT_INLINE I32 high_product(const TILE& tile, const typename SOURCE::Section& section, int j, const Q8Group& group,
                           int lane) {
    const Codes codes = tile.quad(section, j, group.high_quad, lane);
    return ishl<8>(dot<SOURCE::kBits, 1>(iset1(0), &codes, group.high));
}

// Shifts the sums of codes to where low codes count and adds the low codes' products and what zero points take
// away (start).
template <class SOURCE, int MT, int NB, class TILE>
MT_INLINE void add_low_products(I32 (*sum)[NB], const TILE* tile, int k, const uint8_t* low, int64_t stride,
                                const I32* start) {
    unrolled<MT, NB>([&](int t, int b) MT_LAMBDA {
        sum[t][b] = ishl<8>(sum[t][b]);
        if constexpr (SOURCE::kZeroShift >= 0) sum[t][b] = iadd(sum[t][b], start[t]);
    });
    add_products<SOURCE, MT, NB>(sum, tile, k, low, stride);
}

// One group of MT tokens times NB tiles: the arithmetic at the top of this file. Integer sums may be added in any order.
template <class SOURCE, int MT, int NB, bool WIDE, class TILE>
MT_INLINE void accumulate(F32 (*acc)[NB], const typename SOURCE::Section* section, int j, const TILE* tile,
                          const uint8_t* x, const uint8_t* low, int64_t stride, int lane) {
    constexpr bool kZero = SOURCE::kZeroShift >= 0, kWhole = TILE::kPieces == 1;
    const auto group = [&](int t) MT_LAMBDA { return reinterpret_cast<const Q8Group*>(x + t * stride); };
    I32 high[MT][NB];
    unrolled<TILE::kPieces>([&](int k) MT_LAMBDA {
        I32 sum[MT][NB], start[MT];
        unrolled<MT>([&](int t) MT_LAMBDA {
            if constexpr (kZero)
                start[t] = ishl<SOURCE::kZeroShift>(iset1(kWhole ? group(t)->negative : group(t)->negative16[k]));
            for (int b = 0; b < NB; ++b) {
                if constexpr (WIDE) {
                    sum[t][b] = iset1(0);
                } else {
                    if (k == 0) high[t][b] = high_product<SOURCE>(tile[b], section[b], j, *group(t), lane);
                    const bool is_here = kWhole || group(t)->high_quad / TILE::kQuads == k;
                    sum[t][b] = kWhole ? high[t][b] : iand(high[t][b], iset1(is_here ? -1 : 0));
                    if constexpr (kZero) sum[t][b] = iadd(sum[t][b], start[t]);
                }
            }
        });
        add_products<SOURCE, MT, NB>(sum, tile, k, x, stride);
        if constexpr (WIDE) add_low_products<SOURCE, MT, NB>(sum, tile, k, low, stride, start);
        unrolled<MT, NB>([&](int t, int b) MT_LAMBDA {
            const ScalePair w = tile[b].scales[k];
            acc[t][b] = fma(mul(to_f32(sum[t][b]), w.s), set1(group(t)->scale), acc[t][b]);
            if constexpr (!kZero) {
                const float half = -group(t)->scale * static_cast<float>(group(t)->negative16[k]);
                acc[t][b] = fma(w.m, set1(kWhole ? group(t)->sum : half), acc[t][b]);
            }
        });
    });
}

// MT tokens from t0 × the rows of NB blocks, read from SOURCEs.
template <class SOURCE, int MT, int NB, bool WIDE>
static void blocks_times_tokens(const SOURCE* w, const Q8Rows& x, int64_t t0, int64_t row, int64_t rows,
                                const LinearOut& out, Prefetcher ahead) {
    const uint8_t* tokens = x.row(t0);
    const int64_t low = q8_low_offset(x.cols);
    for (int lane = 0; lane < kBlockRows; lane += W) {
        F32 acc[MT][NB];
        unrolled<MT, NB>([&](int t, int b) MT_LAMBDA { acc[t][b] = zero(); });
        for (int t = 0; t < MT; ++t)
            for (int b = 0; b < NB; ++b) prefetch_rows(out, t0 + t, row + b * kBlockRows + lane);
        for (int64_t number = 0; number * kSuperColumns < x.cols; ++number) {
            const int tiles = section_tiles(x.cols, number);
            typename SOURCE::Section section[NB];
            for (int b = 0; b < NB; ++b) section[b] = SOURCE::section(w[b], number, tiles, lane);
            for (int j = 0; j < tiles; ++j) {
                if constexpr (SOURCE::kStreamed)
                    if (lane == 0) ahead.template fetch<SOURCE::kTileBytes>();
                Tile<SOURCE, WIDE ? 0 : MT> tile[NB];
                for (int b = 0; b < NB; ++b) tile[b].read(section[b], j, lane);
                const int64_t g = number * kSectionTiles + j;
                const uint8_t* p = tokens + g * static_cast<int64_t>(sizeof(Q8Group));
                const uint8_t* p_low = tokens + low + g * kGroup;
                constexpr int kTogether = kTakeTurns ? MT : 1;
                for (int t = 0; t < MT; t += kTogether)
                    accumulate<SOURCE, kTogether, NB, WIDE>(acc + t, section, j, tile, p + t * x.stride,
                                                            p_low + t * x.stride, x.stride, lane);
            }
        }
        F32 result[MT][NB];  // loops may index this copy
        unrolled<MT, NB>([&](int t, int b) MT_LAMBDA { result[t][b] = acc[t][b]; });
        for (int t = 0; t < MT; ++t)
            for (int b = 0; b < NB; ++b) store_rows(out, t0 + t, row + b * kBlockRows + lane, rows, result[t][b]);
    }
}

// Walks the tokens in tiles of LARGEST, then smaller powers of two.
template <class SOURCE, int LARGEST, int NB, bool WIDE>
static void blocks_times_all(const SOURCE* w, const Q8Rows& x, int64_t t0, int64_t t1, int64_t row, int64_t rows,
                             const LinearOut& out, const Prefetcher& ahead) {
    for (; t0 + LARGEST <= t1; t0 += LARGEST)
        blocks_times_tokens<SOURCE, LARGEST, NB, WIDE>(w, x, t0, row, rows, out, ahead);
    if constexpr (LARGEST > 1)
        if (t0 < t1) blocks_times_all<SOURCE, LARGEST / 2, NB, WIDE>(w, x, t0, t1, row, rows, out, ahead);
}

template <class SOURCE, int LARGEST, int NB>
static void blocks_product(const SOURCE* w, const Q8Rows& x, int64_t t0, int64_t t1, int64_t row, int64_t rows,
                           const LinearOut& out, const Prefetcher& ahead) {
    if (x.wide)
        blocks_times_all<SOURCE, LARGEST, NB, true>(w, x, t0, t1, row, rows, out, ahead);
    else
        blocks_times_all<SOURCE, LARGEST, NB, false>(w, x, t0, t1, row, rows, out, ahead);
}

template <WeightType TYPE>
static void direct(const PackedView& w, int64_t block0, int64_t block1, const Q8Rows& x, int64_t t0, int64_t t1,
                   const LinearOut& out, const uint8_t* next) {
    using P = Packed<TYPE>;
    for (int64_t b = block0; b < block1; ++b) {
        const P block = P::open(w, b);
        const uint8_t* end = block.block + w.block_bytes;
        const auto ahead = Prefetcher::open(block.block, w.block_bytes, b + 1 < block1 || next == nullptr ? end : next);
        blocks_product<P, kDirectTokens, 1>(&block, x, t0, t1, b * kBlockRows, w.rows, out, ahead);
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
static void unpack(const PackedView& w, int64_t block, const PanelView& panel, const uint8_t* next) {
    using P = Packed<TYPE>;
    const P p = P::open(w, block);
    Prefetcher ahead = Prefetcher::open(p.block, w.block_bytes, next);
    constexpr int kPieces = kGroup / P::kGroupColumns;
    for (int lane = 0; lane < kBlockRows; lane += W)
        for_tiles(p, w.cols, lane, [&](const auto& section, int j, int64_t g) MT_LAMBDA {
            if (lane == 0) ahead.fetch<P::kTileBytes>();
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

// `next` is what this thread reads of packed weights afterwards.
static void unpack_block(const PackedView& w, int64_t block, const PanelView& panel, const uint8_t* next) {
    switch (w.type) {
#define MT_CASE(T) \
    case WeightType::T: return unpack<WeightType::T>(w, block, panel, next);
        MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
        default: return;
    }
}

template <WeightType TYPE>
static void panels_times_all(const PackedView& w, int64_t block, int64_t num_blocks, const PanelView* panels,
                             const Q8Rows& x, int64_t t0, int64_t t1, const LinearOut& out) {
    using P = Panel<Packed<TYPE>::kGroupColumns, Packed<TYPE>::kZeroShift, Packed<TYPE>::kBits>;
    int64_t b = 0;
    if constexpr (W == 16)  // two blocks share each activation that is loaded
        for (; b + 2 <= num_blocks; b += 2) {
            const P pair[2] = {{panels[b]}, {panels[b + 1]}};
            blocks_product<P, kPanelTokens, 2>(pair, x, t0, t1, (block + b) * kBlockRows, w.rows, out, Prefetcher{});
        }
    for (; b < num_blocks; ++b) {
        const P panel{panels[b]};
        blocks_product<P, kPanelTokens, 1>(&panel, x, t0, t1, (block + b) * kBlockRows, w.rows, out, Prefetcher{});
    }
}

// As linear_q8, from the panels that unpack_block made of blocks block … block + num_blocks − 1.
static void linear_panels(const PackedView& w, int64_t block, int64_t num_blocks, const PanelView* panels,
                          const Q8Rows& x, int64_t t0, int64_t t1, const LinearOut& out) {
    switch (w.type) {
#define MT_CASE(T) \
    case WeightType::T: return panels_times_all<WeightType::T>(w, block, num_blocks, panels, x, t0, t1, out);
        MT_QUANTIZED_TYPES(MT_CASE)
#undef MT_CASE
        default: return;
    }
}

}  // namespace miaotui::MIAOTUI_TIER
