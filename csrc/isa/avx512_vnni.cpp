#define MIAOTUI_TIER avx512_vnni
#include "kernels/vec_avx512.h"

#include "kernels/tier.h"
