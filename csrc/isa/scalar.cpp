#define MIAOTUI_TIER scalar
#include "kernels/vec_scalar.h"

#include "kernels/tier.h"
