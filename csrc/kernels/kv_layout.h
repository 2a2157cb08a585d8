// How keys and values lie in a page: 16 tokens of one layer and one KV head.
//
// Keys are stored by columns, so that one register holds columns of all 16 tokens and scores need no horizontal sums; integers
// lie in pairs, which one instruction multiplies and adds:
//   float types:  keys [head_dim][16 tokens]                values [16 tokens][head_dim]
//   int16, int8:  keys [head_dim / 2][16 tokens][2 columns]  values [8][head_dim][2 tokens], each half followed by float scale[16]
#pragma once

#include <cstdint>

namespace miaotui {

enum class KvType : int { f32 = 0, f16 = 1, bf16 = 2, int8 = 3, int16 = 4 };

constexpr bool is_integer(KvType type) { return type == KvType::int8 || type == KvType::int16; }

inline constexpr int kPageTokens = 16;

struct KvLayout {
    KvType type;
    int head_dim;

    constexpr int64_t element_bytes() const { return type == KvType::f32 ? 4 : type == KvType::int8 ? 1 : 2; }
    constexpr int64_t codes_bytes() const { return element_bytes() * kPageTokens * head_dim; }
    constexpr int64_t half_bytes() const {  // keys, or values
        return (codes_bytes() + (is_integer(type) ? 4 * kPageTokens : 0) + 63) / 64 * 64;
    }
    constexpr int64_t page_bytes() const { return 2 * half_bytes(); }
};

// Positions are attended in splits of this size whatever the batch, so that results never depend on chunking.
inline constexpr int kSplitTokens = 256, kSplitPages = kSplitTokens / kPageTokens;

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

    const uint8_t* page(int number) const { return pages + block_table[number] * page_stride; }
    int num_rows() const { return num_tokens * group; }
    int end() const { return positions[num_tokens - 1] + 1; }
    int begin() const {  // first position that any of the rows sees
        return window > 0 && positions[0] + 1 > window ? positions[0] + 1 - window : 0;
    }
    int first_page() const { return begin() / kPageTokens; }
    int end_page() const { return (end() + kPageTokens - 1) / kPageTokens; }
    int first_split() const { return begin() / kSplitTokens; }
    int end_split() const { return (end() + kSplitTokens - 1) / kSplitTokens; }
};

// What a task makes of one split, before the splits are merged: [rows][head_dim] values, [rows] largest score, [rows] sum of weights.
constexpr int64_t attention_part_floats(int64_t rows, int64_t head_dim) { return rows * (head_dim + 2); }

// Floats, or 16-bit codes of which eight rows are interleaved.
constexpr int64_t attention_query_floats(int64_t rows, int64_t head_dim) { return (rows + 7) / 8 * 8 * head_dim; }

constexpr int64_t attention_scratch_floats(int64_t rows, int64_t head_dim) {
    // scaled queries, results so far, scores and weights of a split, its part, running maximum and sum, scales of codes
    return attention_query_floats(rows, head_dim) + rows * (head_dim + kSplitTokens + kSplitTokens / 2 + 4) +
           attention_part_floats(rows, head_dim) + 64;
}

}  // namespace miaotui
