// Full softmax attention over one sequence in float32. Each query row is computed alone, in an order that its sequence's length
// fixes, so that results depend neither on the rows beside it nor on how rows are shared out. Included once per tier after attention.h.
#pragma once

#include "kernels/attention.h"
#include "kernels/encoder_task.h"

namespace miaotui::MIAOTUI_TIER {

// Keys [head_dim][tokens], so that a register holds a column of neighbouring tokens. Tokens past the end are 0.
MT_INLINE void transpose_keys(const EncoderTask& task, float* keys) {
    const int64_t padded = padded_tokens(task.num_tokens);
    for (int64_t p0 = 0; p0 < padded; p0 += 16)  // a cache line of each column at a time
        for (int d = 0; d < task.head_dim; ++d)
            for (int64_t p = p0; p < p0 + 16; ++p)
                keys[d * padded + p] = p < task.num_tokens ? task.k[p * task.k_stride + d] : 0.0F;
}

template <int ROWS>
MT_INLINE void encoder_scores(const EncoderTask& task, const float* keys, int row, float* scores) {
    const int64_t padded = padded_tokens(task.num_tokens);
    const float* q = task.q + row * task.q_stride;
    for (int64_t p = 0; p < padded; p += W) {
        F32 acc[ROWS];
        for (int r = 0; r < ROWS; ++r) acc[r] = zero();
        for (int d = 0; d < task.head_dim; ++d) {
            const F32 k = load(keys + d * padded + p);
            for (int r = 0; r < ROWS; ++r) acc[r] = fma(set1(q[r * task.q_stride + d]), k, acc[r]);
        }
        for (int r = 0; r < ROWS; ++r) store(scores + r * padded + p, mul(acc[r], set1(task.scale)));
    }
}

// Scores of one row → weights e^(score − highest); their sum.
MT_INLINE float soften(float* scores, int64_t num_tokens) {
    const int64_t padded = padded_tokens(num_tokens);
    for (int64_t p = num_tokens; p < padded; ++p) scores[p] = -__builtin_inff();
    F32 top = set1(-__builtin_inff());
    for (int64_t p = 0; p < padded; p += W) top = max(load(scores + p), top);
    const F32 highest = set1(highest_lane(top));
    Sum16 total = sum16_zero();
    for (int64_t p = 0; p < padded; p += 16)
        for (int i = 0; i < kParts; ++i) {
            const F32 e = exp(sub(load(scores + p + i * W), highest));
            total.part[i] = add(total.part[i], e);
            store(scores + p + i * W, e);
        }
    return sum16_total(total);
}

template <int ROWS>
MT_INLINE void encoder_values(const EncoderTask& task, const float* weights, const float* sums, float* out) {
    const int64_t padded = padded_tokens(task.num_tokens);
    for (int d = 0; d < task.head_dim; d += W) {
        F32 acc[ROWS];
        for (int r = 0; r < ROWS; ++r) acc[r] = zero();
        for (int p = 0; p < task.num_tokens; ++p) {
            const F32 v = load(task.v + p * task.v_stride + d);
            for (int r = 0; r < ROWS; ++r) acc[r] = fma(set1(weights[r * padded + p]), v, acc[r]);
        }
        for (int r = 0; r < ROWS; ++r) store(out + r * task.out_stride + d, mul(acc[r], set1(1.0F / sums[r])));
    }
}

static void encoder_attention(const EncoderTask& task) {
    constexpr int kRows = W == 1 ? 1 : kEncoderRows;
    float *keys = task.scratch, *scores = keys + task.head_dim * padded_tokens(task.num_tokens);
    transpose_keys(task, keys);
    for_rows<kRows>(task.first_row, task.end_row, [&]<int ROWS>(int row) MT_LAMBDA {
        float sums[ROWS];
        encoder_scores<ROWS>(task, keys, row, scores);
        for (int r = 0; r < ROWS; ++r) sums[r] = soften(scores + r * padded_tokens(task.num_tokens), task.num_tokens);
        encoder_values<ROWS>(task, scores, sums, task.out + (row - task.first_row) * task.out_stride);
    });
}

}  // namespace miaotui::MIAOTUI_TIER
