// Kernels call small functions in their innermost loops and must never pay for the call.
#pragma once

#define MT_LAMBDA __attribute__((always_inline))
#define MT_MEMBER inline MT_LAMBDA
#define MT_INLINE static MT_MEMBER
