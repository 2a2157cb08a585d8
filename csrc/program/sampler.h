// From one row of logits to one token: bias, penalties, temperature, top-k, top-p, min-p, draw.
//
// Order (as in vLLM, with min-p last as in transformers): logit bias → repetition, frequency, presence penalty → mask
// of ending tokens below min_tokens and of tokens that are not allowed → temperature → top-k → top-p over what is left → min-p → draw. All orders of
// tokens are by (logit descending, id ascending), so ties never depend on the machine.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

namespace miaotui {

struct SamplerConfig {
    int32_t vocab_size = 0;
    float temperature = 1.0f;         // below kGreedyTemperature: the largest logit, lowest id first
    int32_t top_k = 0;                // 0: all
    float top_p = 1.0f;               // smallest set of most likely tokens with at least this share
    float min_p = 0.0f;               // share of the most likely token's probability
    float repetition_penalty = 1.0f;  // tokens of prompt and output: divides positive, multiplies negative logits
    float presence_penalty = 0.0f;    // subtracted once for a token of the output
    float frequency_penalty = 0.0f;   // subtracted for every occurrence in the output
    uint64_t seed = 0;
    uint32_t stream = 0;     // which of the n generations of a request
    int64_t min_tokens = 0;  // masked_ids are impossible before so many tokens were accepted
    std::vector<int32_t> masked_ids;
    std::vector<std::pair<int32_t, float>> bias;
};

inline constexpr float kGreedyTemperature = 1e-5f;

struct Candidate {
    float value;  // a logit while top-k is chosen, then a weight relative to the most likely token
    int32_t id;
};

// One running generation's sampling state. Methods throw BadInput for ids outside the vocabulary, rows of another
// width and logits that are NaN or infinite. Not safe for concurrent use; different samplers are independent.
class Sampler {
public:
    Sampler(SamplerConfig config, std::span<const int32_t> prompt);

    // The next token for these logits. Depends on the logits, the allowed tokens, the accepted ones and the seed alone.
    // allowed: a bit per token, 32 to a word, the lowest first; empty allows all.
    int32_t sample(std::span<const float> logits, std::span<const uint32_t> allowed = {}) const;

    // The distribution that sample() draws from: ids ascending, probabilities that sum to 1.
    std::vector<Candidate> distribution(std::span<const float> logits, std::span<const uint32_t> allowed = {}) const;

    // Appends a token to the history that penalties, min_tokens and the random position look at.
    void accept(int32_t token);

    int64_t num_accepted() const { return num_accepted_; }

private:
    struct Seen {
        bool in_prompt = false;
        int32_t output_count = 0;
    };

    std::span<const float> adjusted(std::span<const float> logits, std::span<const uint32_t> allowed) const;
    void keep_candidates(std::span<const float> row, float maximum) const;
    void check_id(int32_t token) const;
    void check_width(std::span<const float> logits, std::span<const uint32_t> allowed) const;

    SamplerConfig config_;
    bool penalized_;
    std::unordered_map<int32_t, Seen> seen_;  // filled only when a penalty is set
    int64_t num_accepted_ = 0;
};

// log p(token) under the softmax of a whole row, in nats.
double log_probability(std::span<const float> logits, int32_t token);

// The `count` most likely tokens with their log-probabilities, most likely first.
std::vector<Candidate> top_log_probabilities(std::span<const float> logits, int32_t count);

}  // namespace miaotui
