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

// int8 codes of n values with one scale; returns the scale.
static float quantize_head(const float* x, int64_t n, int8_t* codes) {
    const float largest = largest_magnitude(x, n);
    const F32 inverse = set1(code_factor(largest));
    for (int64_t i = 0; i < n; i += W) store_i8(codes + i, round_i32(mul(load(x + i), inverse)));
    return largest / 127.0F;
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
    } else {
        int8_t codes[kGroup * 16];
        reinterpret_cast<float*>(page + layout.codes_bytes())[slot] = quantize_head(k, n, codes);
        for (int d = 0; d < n; ++d) page[64 * (d / 4) + 4 * slot + d % 4] = static_cast<uint8_t>(codes[d] + 128);
        reinterpret_cast<float*>(value_half + layout.codes_bytes())[slot] = quantize_head(v, n, codes);
        for (int d = 0; d < n; ++d) value_half[slot * n + d] = static_cast<uint8_t>(codes[d] + 128);
    }
}

template <KvType TYPE>
MT_INLINE F32 load_kv(const uint8_t* base, int64_t index) {
    if constexpr (TYPE == KvType::f32) return load(reinterpret_cast<const float*>(base) + index);
    if constexpr (TYPE == KvType::f16) return load_f16(reinterpret_cast<const uint16_t*>(base) + index);
    if constexpr (TYPE == KvType::bf16) return load_bf16(reinterpret_cast<const uint16_t*>(base) + index);
    if constexpr (TYPE == KvType::int8) return sub(load_u8(base + index), set1(128.0F));
}

struct AttentionScratch {
    float *q, *result, *part, *scores, *highest, *total;
    int8_t* q_codes;  // int8 pages only: [row][head_dim], one scale per 32
    float* q_scales;

    AttentionScratch(const AttentionTask& task, int64_t rows)
        : q(task.scratch),
          result(q + rows * task.layout.head_dim),
          part(result + rows * task.layout.head_dim),
          scores(part + rows * task.layout.head_dim),
          highest(scores + rows * kSplitTokens),
          total(highest + rows),
          q_codes(reinterpret_cast<int8_t*>(total + rows)),
          q_scales(total + rows + rows * task.layout.head_dim / 4) {}
};

// Scores of ROWS query rows against the 16 tokens of one page.
template <KvType TYPE, int ROWS>
MT_INLINE void score_page(const AttentionTask& task, const AttentionScratch& s, const uint8_t* page, int row,
                          int column) {
    const int n = task.layout.head_dim;
    for (int lane = 0; lane < 16; lane += W) {
        F32 acc[ROWS];
        for (int r = 0; r < ROWS; ++r) acc[r] = zero();
        if constexpr (TYPE == KvType::int8) {
            const F32 scale = load(reinterpret_cast<const float*>(page + task.layout.codes_bytes()) + lane);
            for (int g = 0; g < n / kGroup; ++g) {
                Codes c[8];
                for (int i = 0; i < 8; ++i) c[i] = load_codes(page + 64 * (8 * g + i), lane);
                for (int r = 0; r < ROWS; ++r) {
                    const int8_t* q = s.q_codes + (row + r) * n + kGroup * g;
                    int32_t sum = 0;
                    for (int i = 0; i < kGroup; ++i) sum += q[i];
                    const I32 dots = dot<8, 8>(iset1(-128 * sum), c, q);
                    acc[r] = fma(to_f32(dots), set1(s.q_scales[(row + r) * (n / kGroup) + g]), acc[r]);
                }
            }
            for (int r = 0; r < ROWS; ++r) acc[r] = mul(acc[r], scale);
        } else {
            for (int d = 0; d < n; ++d) {
                const F32 k = load_kv<TYPE>(page, 16 * d + lane);
                for (int r = 0; r < ROWS; ++r) acc[r] = fma(set1(s.q[(row + r) * n + d]), k, acc[r]);
            }
        }
        for (int r = 0; r < ROWS; ++r) store(s.scores + (row + r) * kSplitTokens + column + lane, acc[r]);
    }
}

template <KvType TYPE, int ROWS>
static void score_rows(const AttentionTask& task, const AttentionScratch& s, const uint8_t* page, int row, int rows,
                       int column) {
    for (; row + ROWS <= rows; row += ROWS) score_page<TYPE, ROWS>(task, s, page, row, column);
    if constexpr (ROWS > 1)
        if (row < rows) score_rows<TYPE, ROWS / 2>(task, s, page, row, rows, column);
}

// part[row] = Σ p[row][position] · value[position] over positions first … last of a split, in order.
template <KvType TYPE, int ROWS>
static void weigh_values(const AttentionTask& task, const AttentionScratch& s, int row, int rows, int split, int first,
                         int last) {
    const int n = task.layout.head_dim;
    for (; row + ROWS <= rows; row += ROWS) {
        for (int d = 0; d < n; d += W) {
            F32 acc[ROWS];
            for (int r = 0; r < ROWS; ++r) acc[r] = zero();
            for (int p = first; p < last; ++p) {
                const uint8_t* page = task.pages + task.block_table[p / kPageTokens] * task.page_stride;
                const F32 v = load_kv<TYPE>(page + task.layout.half_bytes(), (p % kPageTokens) * n + d);
                const float* weight = s.scores + row * kSplitTokens + (p - split);
                for (int r = 0; r < ROWS; ++r) acc[r] = fma(set1(weight[r * kSplitTokens]), v, acc[r]);
            }
            for (int r = 0; r < ROWS; ++r) store(s.part + (row + r) * n + d, acc[r]);
        }
    }
    if constexpr (ROWS > 1)
        if (row < rows) weigh_values<TYPE, ROWS / 2>(task, s, row, rows, split, first, last);
}

MT_INLINE float exp1(float x) {
    float lanes[W];
    store(lanes, exp(set1(x)));
    return lanes[0];
}

// Masks and exponentiates one row of scores of the split; returns its maximum (−inf: nothing visible) and the sum of weights.
static float soften_row(const AttentionTask& task, float* scores, int split, int padded, int position, float* sum) {
    if (task.softcap > 0.0F) softcap(scores, task.softcap, padded, scores);
    const int seen_end = position + 1 - split, seen_begin = task.window > 0 ? position + 1 - task.window - split : 0;
    for (int i = seen_end > 0 ? seen_end : 0; i < padded; ++i) scores[i] = -__builtin_inff();
    for (int i = 0; i < seen_begin && i < padded; ++i) scores[i] = -__builtin_inff();
    F32 top = set1(-__builtin_inff());
    for (int i = 0; i < padded; i += W) top = max(load(scores + i), top);
    float lanes[W], highest = -__builtin_inff();
    store(lanes, top);
    for (int i = 0; i < W; ++i) highest = lanes[i] > highest ? lanes[i] : highest;
    if (highest == -__builtin_inff()) {
        for (int i = 0; i < padded; ++i) scores[i] = 0.0F;
        *sum = 0.0F;
        return highest;
    }
    Sum16 total = sum16_zero();
    for (int i = 0; i < padded; i += 16)
        for (int p = 0; p < kParts; ++p) {
            const F32 e = exp(sub(load(scores + i + p * W), set1(highest)));
            store(scores + i + p * W, e);
            total.part[p] = add(total.part[p], e);
        }
    *sum = sum16_total(total);
    return highest;
}

// Adds a split's part to a row's result: both rescaled to the larger maximum.
static void merge_part(const AttentionScratch& s, int row, int n, float highest, float sum) {
    if (highest == -__builtin_inff()) return;
    const float before = s.highest[row], now = before > highest ? before : highest;
    const float keep = before == -__builtin_inff() ? 0.0F : exp1(before - now), take = exp1(highest - now);
    s.highest[row] = now;
    s.total[row] = __builtin_fmaf(s.total[row], keep, sum * take);
    float *result = s.result + row * n, *part = s.part + row * n;
    for (int d = 0; d < n; d += W)
        store(result + d, fma(load(result + d), set1(keep), mul(load(part + d), set1(take))));
}

template <KvType TYPE>
static void scale_values(const AttentionTask& task, float* weights, int split, int first, int last) {
    if constexpr (TYPE == KvType::int8)
        for (int p = first; p < last; ++p) {
            const uint8_t* half =
                task.pages + task.block_table[p / kPageTokens] * task.page_stride + task.layout.half_bytes();
            weights[p - split] *= reinterpret_cast<const float*>(half + task.layout.codes_bytes())[p % kPageTokens];
        }
}

static void load_queries(const AttentionTask& task, const AttentionScratch& s, int rows) {
    const int n = task.layout.head_dim;
    for (int r = 0; r < rows; ++r) {
        const float* q = task.q + (r / task.group) * task.q_stride + (r % task.group) * n;
        for (int d = 0; d < n; ++d) s.q[r * n + d] = q[d] * task.scale;
        for (int d = 0; d < n; ++d) s.result[r * n + d] = 0.0F;
        s.highest[r] = -__builtin_inff();
        s.total[r] = 0.0F;
        if (task.layout.type == KvType::int8)
            for (int g = 0; g < n / kGroup; ++g)
                s.q_scales[r * (n / kGroup) + g] =
                    quantize_head(s.q + r * n + kGroup * g, kGroup, s.q_codes + r * n + kGroup * g);
    }
}

template <KvType TYPE>
static void attend(const AttentionTask& task) {
    constexpr int kRows = W == 16 ? 8 : W == 8 ? 8 : 1;
    const int rows = task.num_tokens * task.group, n = task.layout.head_dim;
    const AttentionScratch s(task, rows);
    load_queries(task, s, rows);
    const int first_position = task.positions[0], end = task.positions[task.num_tokens - 1] + 1;
    const int begin = task.window > 0 && first_position + 1 > task.window ? first_position + 1 - task.window : 0;
    for (int split = begin / kSplitTokens * kSplitTokens; split < end; split += kSplitTokens) {
        const int last = end < split + kSplitTokens ? end : split + kSplitTokens;
        const int first = begin > split ? begin : split, padded = (last - split + 15) / 16 * 16;
        for (int p = first / kPageTokens * kPageTokens; p < last; p += kPageTokens)
            score_rows<TYPE, kRows>(task, s, task.pages + task.block_table[p / kPageTokens] * task.page_stride, 0, rows,
                                    p - split);
        float highest[64], sum[64];
        for (int r = 0; r < rows; ++r) {
            float* scores = s.scores + r * kSplitTokens;
            for (int i = 0; i < first / kPageTokens * kPageTokens - split; ++i) scores[i] = -__builtin_inff();
            highest[r] = soften_row(task, scores, split, padded, task.positions[r / task.group], &sum[r]);
            scale_values<TYPE>(task, scores, split, first, last);
        }
        weigh_values<TYPE, kRows>(task, s, 0, rows, split, first, last);
        for (int r = 0; r < rows; ++r) merge_part(s, r, n, highest[r], sum[r]);
    }
    for (int r = 0; r < rows; ++r) {
        float* out = task.out + (r / task.group) * task.out_stride + (r % task.group) * n;
        const float inverse = 1.0F / s.total[r];
        for (int d = 0; d < n; ++d) out[d] = s.result[r * n + d] * inverse;
    }
}

// At most 64 rows (tokens × group) a task.
static void attention(const AttentionTask& task) {
    switch (task.layout.type) {
        case KvType::f32: return attend<KvType::f32>(task);
        case KvType::f16: return attend<KvType::f16>(task);
        case KvType::bf16: return attend<KvType::bf16>(task);
        case KvType::int8: return attend<KvType::int8>(task);
    }
}

}  // namespace miaotui::MIAOTUI_TIER
