// Depthwise convolution and the largest of rows. Taps are added up in their order, one fused multiply-add each, so that a row's
// bits do not depend on the rows beside it. Included once per tier after attention.h.
#pragma once

#include "kernels/attention.h"
#include "kernels/depthwise_task.h"

namespace miaotui::MIAOTUI_TIER {

// One term of rows row … row + ROWS − 1: each filter that is loaded serves all of them.
template <int ROWS>
MT_INLINE void depthwise_rows(const DepthwiseTask& task, int row, int term) {
    const float *x = task.x + row * task.stride, *filter = task.filter + term * task.filter_term;
    float* out = task.out + row * task.out_stride + term * task.columns;
    for (int64_t c = 0; c < task.columns; c += W) {
        F32 acc[ROWS];
        for (int r = 0; r < ROWS; ++r) acc[r] = zero();
        for (int i = 0; i < task.height; ++i)
            for (int j = 0; j < task.width; ++j) {
                const F32 weight = load(filter + i * task.filter_line + j * task.columns + c);
                const float* tap = x + i * task.line + j * task.stride + c;
                for (int r = 0; r < ROWS; ++r) acc[r] = fma(weight, load(tap + r * task.stride), acc[r]);
            }
        for (int r = 0; r < ROWS; ++r) store(out + r * task.out_stride + c, acc[r]);
    }
}

static void depthwise(const DepthwiseTask& task) {
    constexpr int kRows = W == 1 ? 1 : 8;
    for_rows<kRows>(0, task.num_rows, [&]<int ROWS>(int row) MT_LAMBDA {
        for (int term = 0; term < task.num_terms; ++term) depthwise_rows<ROWS>(task, row, term);
    });
}

// The larger of two values, NaN where one of them is.
static void max_rows(const float* a, const float* b, int64_t n, float* y) {
    for (int64_t i = 0; i < n; ++i) y[i] = a[i] > b[i] || a[i] != a[i] ? a[i] : b[i];
}

}  // namespace miaotui::MIAOTUI_TIER
