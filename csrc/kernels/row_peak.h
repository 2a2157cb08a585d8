// What the kernel `row_peak` tells of a row.
#pragma once

#include <cstdint>

namespace miaotui {

struct RowPeak {
    float maximum;
    int32_t index;   // the first that holds it
    bool is_usable;  // neither NaN nor +∞ is in the row; else the others say nothing
};

}  // namespace miaotui
