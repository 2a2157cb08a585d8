// Fills the kernel table of one tier. An isa/ file defines MIAOTUI_TIER, includes its vec_*.h and then this.
// Everything here has internal linkage or lives in the tier's namespace, and no standard-library code is instantiated: the
// linker must never be able to pick an AVX copy of a shared function for an old CPU.
#pragma once

#include "kernels/attention.h"
#include "kernels/encoder_attention.h"
#include "kernels/linear.h"
#include "kernels/linear_float.h"
#include "kernels/peak.h"
#include "kernels/quantize.h"
#include "kernels/rows.h"
#include "kernels/similarity.h"
#include "kernels/table.h"

namespace miaotui::MIAOTUI_TIER {

KernelTable table();  // declared for the compiler's missing-declaration check
KernelTable table() {
    return {
#define X(name, parameters) name,
#include "kernels/kernels.def"
#undef X
    };
}

}  // namespace miaotui::MIAOTUI_TIER
