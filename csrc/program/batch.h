// The ragged tokens of one step.
#pragma once

#include <cstdint>

namespace miaotui {

class KvPool;

struct Batch {
    const int32_t* token_ids;         // [num_tokens]
    const int32_t* positions;         // [num_tokens], consecutive inside a sequence
    const int32_t* sequence_offsets;  // [num_sequences + 1] into the tokens
    const int32_t* block_tables;      // [num_sequences][max_blocks] block ids of the pool
    const int32_t* logit_rows;        // [num_logit_rows] tokens whose logits are wanted
    int num_tokens, num_sequences, max_blocks, num_logit_rows;

    // Throws BadInput unless every index is in range.
    void check(const KvPool& kv, int max_tokens, int max_sequences, int max_logit_rows) const;
};

}  // namespace miaotui
