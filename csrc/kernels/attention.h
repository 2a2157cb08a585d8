// Causal grouped-query attention over paged KV: blocked softmax in splits of 256 positions, merged in order of position
// (Milakov & Gimelshein 2018; Dao et al. 2022). Keys and values of a KV head are read once for all query heads of its group.
// Included once per tier after rows.h.
#pragma once

#include "kernels/kv_layout.h"
#include "kernels/rows.h"

namespace miaotui::MIAOTUI_TIER {

static uint16_t to_bf16(float x) {  // to nearest, ties to even
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
    return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// Codes −8191 … 8191: 32 products of two such codes fit into 32 bits.
inline constexpr int kCodeSteps = 8191, kCodeSum = 32;

template <class CODE>
inline constexpr int kSteps = sizeof(CODE) == 1 ? 127 : kCodeSteps;

// Codes of n values with one scale, of which this is the largest magnitude; returns the scale.
template <class CODE>
MT_INLINE float quantize_all(const float* x, float largest, int64_t n, CODE* codes) {
    const F32 inverse = set1(code_factor(largest, kSteps<CODE>));
    for (int64_t i = 0; i < n; i += W) {
        const I32 rounded = round_i32(mul(load(x + i), inverse));
        if constexpr (sizeof(CODE) == 1)
            store_i8(codes + i, rounded);
        else
            store_i16(codes + i, rounded);
    }
    return largest / static_cast<float>(kSteps<CODE>);
}

template <class CODE>
MT_INLINE float quantize_head(const float* x, int64_t n, CODE* codes) {
    return quantize_all(x, largest_magnitude(x, n), n, codes);
}

template <class CODE>
MT_INLINE void store_codes_of_token(const KvLayout& layout, uint8_t* page, uint8_t* value_half, int slot,
                                    const float* k, const float* v) {
    const int n = layout.head_dim;
    CODE codes[512];
    reinterpret_cast<float*>(page + layout.codes_bytes())[slot] = quantize_head(k, n, codes);
    auto* keys = reinterpret_cast<CODE*>(page) + 2 * slot;
    for (int d = 0; d < n; d += 2) keys[16 * d] = codes[d], keys[16 * d + 1] = codes[d + 1];
    reinterpret_cast<float*>(value_half + layout.codes_bytes())[slot] = quantize_head(v, n, codes);
    auto* values = reinterpret_cast<CODE*>(value_half) + slot / 2 * 2 * n + slot % 2;
    for (int d = 0; d < n; ++d) values[2 * d] = codes[d];
}

// Writes the key and the value of one token and head into slot 0…15 of a page.
static void kv_store(const KvLayout& layout, uint8_t* page, int slot, const float* k, const float* v) {
    const int n = layout.head_dim;
    uint8_t* value_half = page + layout.half_bytes();
    if (layout.type == KvType::f32) {
        auto *keys = reinterpret_cast<float*>(page), *values = reinterpret_cast<float*>(value_half) + slot * n;
        for (int d = 0; d < n; ++d) keys[16 * d + slot] = k[d], values[d] = v[d];
    } else if (layout.type == KvType::f16) {
        auto *keys = reinterpret_cast<uint16_t*>(page), *values = reinterpret_cast<uint16_t*>(value_half) + slot * n;
        for (int d = 0; d < n; d += W) {
            uint16_t column[W];
            store_f16(column, load(k + d));
            for (int i = 0; i < W; ++i) keys[16 * (d + i) + slot] = column[i];
            store_f16(values + d, load(v + d));
        }
    } else if (layout.type == KvType::bf16) {
        auto *keys = reinterpret_cast<uint16_t*>(page), *values = reinterpret_cast<uint16_t*>(value_half) + slot * n;
        for (int d = 0; d < n; ++d) keys[16 * d + slot] = to_bf16(k[d]), values[d] = to_bf16(v[d]);
    } else if (layout.type == KvType::int8) {
        store_codes_of_token<int8_t>(layout, page, value_half, slot, k, v);
    } else {
        store_codes_of_token<int16_t>(layout, page, value_half, slot, k, v);
    }
}

template <KvType TYPE>
MT_INLINE F32 load_kv(const uint8_t* base, int64_t index) {
    if constexpr (TYPE == KvType::f32) return load(reinterpret_cast<const float*>(base) + index);
    if constexpr (TYPE == KvType::f16) return load_f16(reinterpret_cast<const uint16_t*>(base) + index);
    if constexpr (TYPE == KvType::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(base) + index);
}

template <KvType TYPE>
inline constexpr int64_t kPairBytes = TYPE == KvType::int8 ? 2 : 4;

// W pairs of codes from pair `index` on, in 16 bits.
template <KvType TYPE>
MT_INLINE Codes load_pairs(const uint8_t* base, int64_t index) {
    if constexpr (TYPE == KvType::int8)
        return load_pairs_i8(base + 2 * index);
    else
        return load_codes(base + 4 * index, 0);
}

struct AttentionScratch {
    float *q, *result, *scores, *highest, *total;
    float *part, *part_highest, *part_sum;
    // Integer pages only: codes of queries [row / 8][head_dim / 2][row % 8][2] and of weights [row][kSplitTokens], a scale per row.
    int16_t *q_codes, *weights;
    float *q_scales, *weight_scales;

    AttentionScratch(const AttentionTask& task, float* part_of_split)
        : q(task.scratch),
          result(q + attention_query_floats(task.num_rows(), task.layout.head_dim)),
          scores(result + task.num_rows() * task.layout.head_dim),
          highest(scores + task.num_rows() * kSplitTokens),
          total(highest + task.num_rows()),
          part(part_of_split != nullptr ? part_of_split : total + task.num_rows()),
          part_highest(part + task.num_rows() * task.layout.head_dim),
          part_sum(part_highest + task.num_rows()),
          q_codes(reinterpret_cast<int16_t*>(q)),
          weights(reinterpret_cast<int16_t*>(total + task.num_rows() +
                                             attention_part_floats(task.num_rows(), task.layout.head_dim))),
          q_scales(reinterpret_cast<float*>(weights + task.num_rows() * kSplitTokens)),
          weight_scales(q_scales + task.num_rows()) {}
};

// A split as one task sees it.
struct Split {
    int start, first, last;  // its first position; the positions first … last − 1 that some row sees
    const uint8_t* pages[kSplitPages];
    const uint8_t* ahead[kSplitPages];  // pages that this thread reads afterwards; the same ones if none

    int first_page() const { return (first - start) / kPageTokens; }
    int end_page() const { return (last - start + kPageTokens - 1) / kPageTokens; }
};

MT_INLINE Split open_split(const AttentionTask& task, int number, const uint8_t* const* ahead) {
    Split s{};
    s.start = number * kSplitTokens;
    s.first = task.begin() > s.start ? task.begin() : s.start;
    s.last = task.end() < s.start + kSplitTokens ? task.end() : s.start + kSplitTokens;
    for (int i = s.first_page(); i < s.end_page(); ++i)
        s.pages[i] = task.page(s.start / kPageTokens + i), s.ahead[i] = ahead != nullptr ? ahead[i] : s.pages[i];
    return s;
}

// Asks the second cache for what follows, byte for byte beside what is read. Only where few rows share what is read, so that
// memory is the limit; pages lie anywhere, and the processor's own prefetching knows each only when it is half read.
template <int ROWS>
MT_INLINE void prefetch(const uint8_t* ahead, int64_t offset) {
    constexpr int kIntoSecondCache = 2;
    if constexpr (ROWS < 8) __builtin_prefetch(ahead + offset, 0, kIntoSecondCache);
}

// Pages of keys that share each number of a query that is loaded, and registers of values that share each weight: two make
// enough chains of dot products to take turns.
inline constexpr int kSharing = W == 16 ? 2 : 1;

// Scores of ROWS query rows against the 16 tokens of each of PAGES pages of a split, from page i on.
template <KvType TYPE, int ROWS, int PAGES>
MT_INLINE void score_pages(const AttentionTask& task, const AttentionScratch& s, const Split& split, int i, int row) {
    const int n = task.layout.head_dim;
    for (int lane = 0; lane < kPageTokens; lane += W) {
        F32 acc[PAGES][ROWS];
        unrolled<PAGES, ROWS>([&](int p, int r) MT_LAMBDA { acc[p][r] = zero(); });
        if constexpr (is_integer(TYPE)) {
            const int16_t* q = s.q_codes + row / 8 * 8 * n + row % 8 * 2;
            for (int d = 0; d < n;) {
                I32 dots[PAGES][ROWS];
                unrolled<PAGES, ROWS>([&](int p, int r) MT_LAMBDA { dots[p][r] = iset1(0); });
                const int end = d + kCodeSum < n ? d + kCodeSum : n;
#pragma GCC unroll 8  // GCC 12 copies every sum twice per turn
                for (; d < end; d += 2) {
                    Codes k[PAGES];
                    unrolled<PAGES>([&](int p) MT_LAMBDA {
                        k[p] = load_pairs<TYPE>(split.pages[i + p], 8 * d + lane);
                        prefetch<ROWS>(split.ahead[i + p], (8 * d + lane) * kPairBytes<TYPE>);
                    });
                    unrolled<ROWS, PAGES>(
                        [&](int r, int p) MT_LAMBDA { dots[p][r] = dot_pairs(dots[p][r], k[p], q + 8 * d + 2 * r); });
                }
                unrolled<PAGES, ROWS>([&](int p, int r) MT_LAMBDA { acc[p][r] = add(acc[p][r], to_f32(dots[p][r])); });
            }
            unrolled<PAGES>([&](int p) MT_LAMBDA {
                const int64_t scales = task.layout.codes_bytes();  // of keys, and in the other half of values
                prefetch<ROWS>(split.ahead[i + p], scales);
                prefetch<ROWS>(split.ahead[i + p], task.layout.half_bytes() + scales);
                const F32 scale = load(reinterpret_cast<const float*>(split.pages[i + p] + scales) + lane);
                unrolled<ROWS>([&](int r)
                                   MT_LAMBDA { acc[p][r] = mul(mul(acc[p][r], scale), set1(s.q_scales[row + r])); });
            });
        } else {
            for (int d = 0; d < n; ++d)
                unrolled<PAGES>([&](int p) MT_LAMBDA {
                    const F32 k = load_kv<TYPE>(split.pages[i + p], 16 * d + lane);
                    unrolled<ROWS>([&](int r)
                                       MT_LAMBDA { acc[p][r] = fma(set1(s.q[(row + r) * n + d]), k, acc[p][r]); });
                });
        }
        unrolled<PAGES, ROWS>([&](int p, int r) MT_LAMBDA {
            store(s.scores + (row + r) * kSplitTokens + (i + p) * kPageTokens + lane, acc[p][r]);
        });
    }
}

template <KvType TYPE, int ROWS>
MT_INLINE void score_split(const AttentionTask& task, const AttentionScratch& s, const Split& split, int row) {
    int i = split.first_page();
    for (; i + kSharing <= split.end_page(); i += kSharing) score_pages<TYPE, ROWS, kSharing>(task, s, split, i, row);
    if constexpr (kSharing > 1)
        for (; i < split.end_page(); ++i) score_pages<TYPE, ROWS, 1>(task, s, split, i, row);
}

// Columns d … d + N · W − 1 of part[row] = Σ weight[row][position] · value[position] over the positions of a split, in order.
template <KvType TYPE, int ROWS, int N>
MT_INLINE void weigh_columns(const AttentionTask& task, const AttentionScratch& s, const Split& split, int d, int row) {
    const int n = task.layout.head_dim;
    F32 acc[N][ROWS];
    unrolled<N, ROWS>([&](int c, int r) MT_LAMBDA { acc[c][r] = zero(); });
    if constexpr (is_integer(TYPE)) {
        for (int i = split.first_page(); i < split.end_page();) {
            constexpr int kSumPages = kCodeSum / kPageTokens;
            const int next = (i / kSumPages + 1) * kSumPages, end = next < split.end_page() ? next : split.end_page();
            I32 dots[N][ROWS];
            unrolled<N, ROWS>([&](int c, int r) MT_LAMBDA { dots[c][r] = iset1(0); });
            for (; i < end; ++i) {
                const uint8_t* values = split.pages[i] + task.layout.half_bytes();
                const uint8_t* ahead = split.ahead[i] + task.layout.half_bytes();
                const int16_t* weights = s.weights + row * kSplitTokens + i * kPageTokens;
#pragma GCC unroll 8  // GCC 12 copies every sum twice per turn
                for (int p = 0; p < kPageTokens; p += 2) {
                    Codes v[N];
                    unrolled<N>([&](int c) MT_LAMBDA {
                        const int64_t pair = p / 2 * n + d + c * W;
                        v[c] = load_pairs<TYPE>(values, pair);
                        prefetch<ROWS>(ahead, pair * kPairBytes<TYPE>);
                    });
                    unrolled<ROWS, N>([&](int r, int c) MT_LAMBDA {
                        dots[c][r] = dot_pairs(dots[c][r], v[c], weights + r * kSplitTokens + p);
                    });
                }
            }
            unrolled<N, ROWS>([&](int c, int r) MT_LAMBDA { acc[c][r] = add(acc[c][r], to_f32(dots[c][r])); });
        }
        unrolled<N, ROWS>([&](int c, int r) MT_LAMBDA { acc[c][r] = mul(acc[c][r], set1(s.weight_scales[row + r])); });
    } else {
        for (int p = split.first; p < split.last; ++p) {
            const int at = p - split.start;
            const uint8_t* values = split.pages[at / kPageTokens] + task.layout.half_bytes();
            const float* weight = s.scores + row * kSplitTokens + at;
            unrolled<N>([&](int c) MT_LAMBDA {
                const F32 v = load_kv<TYPE>(values, at % kPageTokens * n + d + c * W);
                unrolled<ROWS>([&](int r) MT_LAMBDA { acc[c][r] = fma(set1(weight[r * kSplitTokens]), v, acc[c][r]); });
            });
        }
    }
    unrolled<N, ROWS>([&](int c, int r) MT_LAMBDA { store(s.part + (row + r) * n + d + c * W, acc[c][r]); });
}

template <KvType TYPE, int ROWS>
MT_INLINE void weigh_values(const AttentionTask& task, const AttentionScratch& s, const Split& split, int row) {
    int d = 0;
    for (; d + kSharing * W <= task.layout.head_dim; d += kSharing * W)
        weigh_columns<TYPE, ROWS, kSharing>(task, s, split, d, row);
    if constexpr (kSharing > 1)
        for (; d < task.layout.head_dim; d += W) weigh_columns<TYPE, ROWS, 1>(task, s, split, d, row);
}

// Runs body.operator()<ROWS>(row) over all rows, as many at once as the register file holds.
template <int ROWS, class BODY>
MT_INLINE void for_rows(int row, int num_rows, const BODY& body) {
    for (; row + ROWS <= num_rows; row += ROWS) body.template operator()<ROWS>(row);
    if constexpr (ROWS > 1)
        if (row < num_rows) for_rows<ROWS - 1>(row, num_rows, body);
}

MT_INLINE float exp1(float x) {
    float lanes[W];
    store(lanes, exp(set1(x)));
    return lanes[0];
}

// Masks one row of scores of the split: what it does not see is −inf. Returns the highest.
static float mask_row(const AttentionTask& task, float* scores, const Split& split, int position) {
    const int first = split.first_page() * kPageTokens, end = split.end_page() * kPageTokens;
    if (task.softcap > 0.0F) softcap(scores + first, task.softcap, end - first, scores + first);
    const int seen_end = position + 1 - split.start, seen_begin = task.window > 0 ? seen_end - task.window : 0;
    for (int i = seen_end > first ? seen_end : first; i < end; ++i) scores[i] = -__builtin_inff();
    for (int i = first; i < seen_begin && i < end; ++i) scores[i] = -__builtin_inff();
    constexpr int kChains = 4;  // a single one would wait for itself
    F32 top[kChains];
    for (int c = 0; c < kChains; ++c) top[c] = set1(-__builtin_inff());
    int i = first;
    for (; i + kChains * W <= end; i += kChains * W)
        for (int c = 0; c < kChains; ++c) top[c] = max(load(scores + i + c * W), top[c]);
    for (; i < end; i += W) top[0] = max(load(scores + i), top[0]);
    for (int c = 1; c < kChains; ++c) top[0] = max(top[c], top[0]);
    return highest_lane(top[0]);
}

// Turns one row of scores into weights e^(score − highest). For integer pages each is multiplied by the scale of its value and
// becomes a code; their common scale is set. Returns the highest score (−inf: nothing visible).
template <bool INTEGER>
MT_INLINE float soften_row(const AttentionTask& task, const AttentionScratch& s, const Split& split, int row) {
    float* scores = s.scores + row * kSplitTokens;
    const int first = split.first_page() * kPageTokens, end = split.end_page() * kPageTokens;
    const float highest = mask_row(task, scores, split, task.positions[row / task.group]);
    // Where nothing is visible, no score is above the shift and every weight comes out as exactly 0.
    const F32 shift = set1(highest == -__builtin_inff() ? 0.0F : highest);
    Sum16 total = sum16_zero();
    I32 largest = iset1(0);
    const auto soften = [&]<int PAGES>(int i) MT_LAMBDA {
        F32 e[PAGES][kParts];
        unrolled<PAGES, kParts>([&](int k, int p)
                                    MT_LAMBDA { e[k][p] = sub(load(scores + i + 16 * k + p * W), shift); });
        exp_all<PAGES * kParts>(e[0]);
        unrolled<PAGES, kParts>([&](int k, int p) MT_LAMBDA {
            total.part[p] = add(total.part[p], e[k][p]);
            if constexpr (INTEGER) {  // what is not seen weighs nothing, even if its slot was never written
                const auto* scales = reinterpret_cast<const float*>(
                    split.pages[i / kPageTokens + k] + task.layout.half_bytes() + task.layout.codes_bytes());
                e[k][p] = zero_where_less(e[k][p], set1(0x1p-126F), mul(e[k][p], load(scales + p * W)));
                largest = imax(magnitude_bits(e[k][p]), largest);
            }
            store(scores + i + 16 * k + p * W, e[k][p]);
        });
    };
    constexpr int kPages = kParts < 4 ? 4 / kParts : 1;  // that take turns
    int i = first;
    for (; i + kPages * kPageTokens <= end; i += kPages * kPageTokens) soften.template operator()<kPages>(i);
    for (; i < end; i += kPageTokens) soften.template operator()<1>(i);
    s.part_sum[row] = sum16_total(total);
    if constexpr (INTEGER)
        s.weight_scales[row] = quantize_all(scores + first, float_of_bits(lane_max(largest)), end - first,
                                            s.weights + row * kSplitTokens + first);
    return highest;
}

// Adds a split's part to a row's result: both rescaled to the larger maximum.
static void merge_part(const AttentionTask& task, const AttentionScratch& s) {
    const int rows = task.num_rows(), n = task.layout.head_dim;
    for (int row = 0; row < rows; ++row) {
        const float* part = s.part + row * n;
        const float highest = s.part_highest[row], sum = s.part_sum[row];
        if (highest == -__builtin_inff()) continue;
        const float before = s.highest[row], now = before > highest ? before : highest;
        const float keep = before == -__builtin_inff() ? 0.0F : exp1(before - now), take = exp1(highest - now);
        s.highest[row] = now;
        s.total[row] = __builtin_fmaf(s.total[row], keep, sum * take);
        float* result = s.result + row * n;
        for (int d = 0; d < n; d += W)
            store(result + d, fma(load(result + d), set1(keep), mul(load(part + d), set1(take))));
    }
}

static void load_queries(const AttentionTask& task, const AttentionScratch& s) {
    const int n = task.layout.head_dim;
    for (int r = 0; r < task.num_rows(); ++r) {
        const float* q = task.q + (r / task.group) * task.q_stride + (r % task.group) * n;
        alignas(64) float scaled[512];
        float* target = is_integer(task.layout.type) ? scaled : s.q + r * n;
        for (int d = 0; d < n; ++d) target[d] = q[d] * task.scale;
        if (!is_integer(task.layout.type)) continue;
        int16_t codes[512];
        s.q_scales[r] = quantize_head(scaled, n, codes);
        int16_t* row = s.q_codes + r / 8 * 8 * n + r % 8 * 2;
        for (int d = 0; d < n; d += 2) row[8 * d] = codes[d], row[8 * d + 1] = codes[d + 1];
    }
}

template <KvType TYPE>
static void attend_split(const AttentionTask& task, const AttentionScratch& s, int number,
                         const uint8_t* const* ahead) {
    constexpr int kRows = W == 1 ? 1 : 8;
    const int rows = task.num_rows();
    const Split split = open_split(task, number, ahead);
    for_rows<kRows>(0, rows, [&]<int ROWS>(int row) MT_LAMBDA { score_split<TYPE, ROWS>(task, s, split, row); });
    for (int r = 0; r < rows; ++r) s.part_highest[r] = soften_row<is_integer(TYPE)>(task, s, split, r);
    for_rows<kRows>(0, rows, [&]<int ROWS>(int row) MT_LAMBDA { weigh_values<TYPE, ROWS>(task, s, split, row); });
}

static void attend_split(const AttentionTask& task, const AttentionScratch& s, int number,
                         const uint8_t* const* ahead) {
    switch (task.layout.type) {
        case KvType::f32: return attend_split<KvType::f32>(task, s, number, ahead);
        case KvType::f16: return attend_split<KvType::f16>(task, s, number, ahead);
        case KvType::bf16: return attend_split<KvType::bf16>(task, s, number, ahead);
        case KvType::int8: return attend_split<KvType::int8>(task, s, number, ahead);
        case KvType::int16: return attend_split<KvType::int16>(task, s, number, ahead);
    }
}

static void open_result(const AttentionTask& task, const AttentionScratch& s) {
    for (int i = 0; i < task.num_rows() * task.layout.head_dim; ++i) s.result[i] = 0.0F;
    for (int r = 0; r < task.num_rows(); ++r) s.highest[r] = -__builtin_inff(), s.total[r] = 0.0F;
}

static void write_result(const AttentionTask& task, const AttentionScratch& s) {
    const int n = task.layout.head_dim;
    for (int r = 0; r < task.num_rows(); ++r) {
        float* out = task.out + (r / task.group) * task.out_stride + (r % task.group) * n;
        const float inverse = 1.0F / s.total[r];
        for (int d = 0; d < n; ++d) out[d] = s.result[r * n + d] * inverse;
    }
}

// The page to ask for beside this one: a split further on, or as far into `next`.
static const uint8_t* page_ahead(const AttentionTask& task, const AttentionTask* next, int number) {
    const int first = task.first_page(), num_pages = task.end_page() - first;
    const int distance = num_pages < kSplitPages ? num_pages : kSplitPages, further = number + distance;
    if (further < task.end_page()) return task.page(further);
    if (next == nullptr) return task.page(number);
    const int there = next->first_page() + further - task.end_page(), last = next->end_page() - 1;
    return next->page(there < last ? there : last);
}

// At most 64 rows (tokens × group) a task. next: the task that this thread runs afterwards, or null.
static void attention(const AttentionTask& task, const AttentionTask* next) {
    const AttentionScratch s(task, nullptr);
    load_queries(task, s);
    open_result(task, s);
    for (int number = task.first_split(); number < task.end_split(); ++number) {
        const uint8_t* ahead[kSplitPages];
        for (int i = 0, page = number * kSplitPages; i < kSplitPages; ++i, ++page)
            if (page >= task.first_page() && page < task.end_page()) ahead[i] = page_ahead(task, next, page);
        attend_split(task, s, number, ahead);
        merge_part(task, s);
    }
    write_result(task, s);
}

// The same in two steps, so that several threads can share a task: attention_split makes a part of each split,
// attention_merge puts them together. `part` holds attention_part_floats(rows, head_dim), `parts` one after another.
// `ahead`, if not null: for each page of a split the page that this thread reads next in its place.
static void attention_split(const AttentionTask& task, int number, float* part, const uint8_t* const* ahead) {
    const AttentionScratch s(task, part);
    load_queries(task, s);
    attend_split(task, s, number, ahead);
}

static void attention_merge(const AttentionTask& task, float* parts) {
    open_result(task, AttentionScratch(task, nullptr));
    for (int number = task.first_split(); number < task.end_split(); ++number) {
        merge_part(task, AttentionScratch(task, parts));
        parts += attention_part_floats(task.num_rows(), task.layout.head_dim);
    }
    write_result(task, AttentionScratch(task, nullptr));
}

}  // namespace miaotui::MIAOTUI_TIER
