#define MIAOTUI_TIER avx512
#include "kernels/vec_avx512.h"

#include "kernels/tier.h"
