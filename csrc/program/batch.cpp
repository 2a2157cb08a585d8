#include "program/batch.h"

#include <string>

#include "base/error.h"
#include "program/kv_pool.h"

namespace miaotui {
namespace {

// Messages are put together only when something is wrong: a step must not ask for memory.
void expect(bool condition, const char* what) {
    if (!condition) throw BadInput(std::string("batch: ") + what);
}

void check_count(const char* what, int count, int lowest, int highest) {
    if (count < lowest || count > highest)
        throw BadInput("batch: " + std::string(what) + " is " + std::to_string(count) + ", must be " +
                       std::to_string(lowest) + " to " + std::to_string(highest));
}

}  // namespace

void Batch::check(const KvPool& kv, int max_tokens, int max_sequences, int max_logit_rows) const {
    check_count("number of tokens", num_tokens, 1, max_tokens);
    check_count("number of sequences", num_sequences, 1, max_sequences);
    check_count("number of logit rows", num_logit_rows, 0, max_logit_rows);
    expect(sequence_offsets[0] == 0 && sequence_offsets[num_sequences] == num_tokens,
           "sequence offsets must span the tokens");
    for (int i = 0; i < num_logit_rows; ++i)
        expect(logit_rows[i] >= 0 && logit_rows[i] < num_tokens, "logit row out of range");
    for (int s = 0; s < num_sequences; ++s) {
        const int begin = sequence_offsets[s], end = sequence_offsets[s + 1];
        expect(begin >= 0 && begin < end && end <= num_tokens, "sequence offsets must ascend");
        expect(positions[begin] >= 0, "a position is negative");
        for (int t = begin + 1; t < end; ++t)
            expect(positions[t] == int64_t{positions[t - 1]} + 1, "positions of a sequence must be consecutive");
        const int last_block = positions[end - 1] / kPageTokens;
        expect(last_block < max_blocks, "a position lies past the sequence's block table");
        for (int b = 0; b <= last_block; ++b) {
            const int32_t id = block_tables[static_cast<int64_t>(s) * max_blocks + b];
            if (id < 0 || id >= kv.num_blocks())
                throw BadInput("batch: block id " + std::to_string(id) + " is not in the KV pool");
        }
    }
}

}  // namespace miaotui
