// How keys and values lie in a page: 16 tokens of one layer and one KV head.
//
// Keys are stored column by column, so that one register holds a column of all 16 tokens and scores need no horizontal sums:
//   float types: [head_dim][16 tokens];  int8: [head_dim / 4][16 tokens][4] codes + 128, then float scale[16]
// Values are stored token by token: [16 tokens][head_dim]; int8: codes + 128, then float scale[16].
#pragma once

#include <cstdint>

namespace miaotui {

enum class KvType : int { f32 = 0, f16 = 1, bf16 = 2, int8 = 3 };

inline constexpr int kPageTokens = 16;

struct KvLayout {
    KvType type;
    int head_dim;

    constexpr int64_t element_bytes() const { return type == KvType::f32 ? 4 : type == KvType::int8 ? 1 : 2; }
    constexpr int64_t codes_bytes() const { return element_bytes() * kPageTokens * head_dim; }
    constexpr int64_t half_bytes() const {  // keys, or values
        return (codes_bytes() + (type == KvType::int8 ? 4 * kPageTokens : 0) + 63) / 64 * 64;
    }
    constexpr int64_t page_bytes() const { return 2 * half_bytes(); }
};

// Positions are attended in splits of this size whatever the batch, so that results never depend on chunking.
inline constexpr int kSplitTokens = 256;

// A tile of query rows (tokens × the query heads that share one KV head) of one sequence.
struct AttentionTask {
    KvLayout layout;
    const uint8_t* pages;  // first page of this layer and KV head
    int64_t page_stride;   // bytes from one block id to the next
    const int32_t* block_table;
    const float* q;            // token 0, first head of the group; heads are head_dim apart
    int64_t q_stride;          // floats from token to token
    const int32_t* positions;  // of the tokens, ascending
    int num_tokens;
    int group;  // query heads per KV head
    float scale;
    int window;     // a query at p sees positions > p − window; 0: all
    float softcap;  // 0: none
    float* out;     // as q
    int64_t out_stride;
    float* scratch;  // attention_scratch_floats(rows, head_dim)
};

constexpr int64_t attention_scratch_floats(int64_t rows, int64_t head_dim) {
    // scaled queries, results so far, results of a split, scores, running maximum and sum; int8 queries and their scales
    return rows * (3 * head_dim + kSplitTokens + 2 + head_dim / 4 + head_dim / 32 + 1) + 64;
}

}  // namespace miaotui
