// Attention of an encoder: every token of a sequence sees all of them, and nothing is kept for later steps.
#pragma once

#include <cstdint>

namespace miaotui {

// Some query rows of one head of one sequence.
struct EncoderTask {
    const float *q, *k, *v;                // the sequence's first token, the head's first column
    int64_t q_stride, k_stride, v_stride;  // floats from token to token
    int num_tokens, first_row, end_row;    // rows first_row … end_row − 1 are computed
    int head_dim;                          // a multiple of 16
    float scale;
    float* out;  // of row first_row
    int64_t out_stride;
    float* scratch;  // encoder_scratch_floats(num_tokens, head_dim)
};

inline constexpr int kEncoderRows = 8;  // query rows whose scores are in scratch at a time

constexpr int64_t padded_tokens(int64_t num_tokens) { return (num_tokens + 15) / 16 * 16; }

// Keys by columns, then scores.
constexpr int64_t encoder_scratch_floats(int64_t num_tokens, int64_t head_dim) {
    return padded_tokens(num_tokens) * (head_dim + kEncoderRows);
}

}  // namespace miaotui
