#define MIAOTUI_TIER avx2
#include "kernels/vec_avx2.h"

#include "kernels/tier.h"
