// Depthwise convolution: each column has filters of its own, over neighbouring rows of that column.
#pragma once

#include <cstdint>

namespace miaotui {

// Rows beside each other whose windows lose the same taps beyond an edge. What is left of a window is height × width taps.
struct DepthwiseTask {
    const float* x;       // under the first row's first tap
    int64_t stride;       // floats from row to row
    int64_t line;         // floats from a tap to the one below it
    int num_rows;         // rows to compute
    int height, width;    // taps
    const float* filter;  // the first tap's, [columns]; the taps beside it follow
    int64_t filter_line;  // floats from a tap to the one below it
    int64_t filter_term;  // floats from a column's filter to its next
    int num_terms;        // filters of each column
    int64_t columns;      // a multiple of 16
    float* out;           // [num_rows][num_terms][columns]
    int64_t out_stride;   // floats
};

}  // namespace miaotui
