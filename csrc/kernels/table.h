// The kernels of one tier as function pointers. The table of the chosen tier is picked once, at load.
#pragma once

#include "base/cpu.h"
#include "kernels/depthwise_task.h"
#include "kernels/encoder_task.h"
#include "kernels/kv_layout.h"
#include "kernels/packed.h"
#include "kernels/quantize_task.h"
#include "kernels/row_peak.h"

namespace miaotui {

struct KernelTable {
#define X(name, parameters) void(*name) parameters;
#include "kernels/kernels.def"
#undef X
};

// The table of a tier that runs here; throws BadTier otherwise.
const KernelTable& kernels_of(Tier tier);

// The table of choose_tier(), decided at the first call.
const KernelTable& kernels();

}  // namespace miaotui
