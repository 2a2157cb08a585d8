// Kernels call small functions in their innermost loops and must never pay for the call.
#pragma once

#define MT_LAMBDA __attribute__((always_inline))
#define MT_MEMBER inline MT_LAMBDA
#define MT_INLINE static MT_MEMBER

namespace miaotui {

// body(0) … body(N − 1), written out: what a loop would index lives in registers.
template <int N, class BODY>
MT_INLINE void unrolled(const BODY& body) {
    if constexpr (N > 1) unrolled<N - 1>(body);
    body(N - 1);
}

// The same for every pair of 0 … M − 1 and 0 … N − 1.
template <int M, int N, class BODY>
MT_INLINE void unrolled(const BODY& body) {
    unrolled<M>([&body](int i) MT_LAMBDA { unrolled<N>([&body, i](int j) MT_LAMBDA { body(i, j); }); });
}

}  // namespace miaotui
