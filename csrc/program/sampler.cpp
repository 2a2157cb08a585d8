#include "program/sampler.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"
#include "program/philox.h"
#include "program/sampler_math.h"

namespace miaotui {
namespace {

// Reused by every call of a thread, so that a decode step allocates nothing.
struct Scratch {
    std::vector<float> row;
    std::vector<float> weights;
    std::vector<float> maxima;
    std::vector<Candidate> candidates;
    std::vector<Candidate> sorted;
};

Scratch& scratch() {
    thread_local Scratch instance;
    return instance;
}

bool ranks_before(const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// A value that at least `count` entries of the row reach; -infinity when that cannot be told cheaply.
// Of the maxima of 1024 interleaved columns the count-th largest is such a value, at the price of one pass.
float lower_bound_of_kth(std::span<const float> row, size_t count, std::vector<float>& maxima) {
    constexpr size_t kColumns = 1024;
    constexpr float kLowest = -std::numeric_limits<float>::infinity();
    if (count > kColumns || row.size() < 2 * kColumns) return kLowest;
    maxima.assign(row.begin(), row.begin() + kColumns);
    size_t i = kColumns;
    for (; i + kColumns <= row.size(); i += kColumns) {
        for (size_t j = 0; j < kColumns; ++j) maxima[j] = row[i + j] > maxima[j] ? row[i + j] : maxima[j];
    }
    for (size_t j = 0; i + j < row.size(); ++j) maxima[j] = std::max(maxima[j], row[i + j]);
    const auto kth = maxima.begin() + static_cast<std::ptrdiff_t>(count - 1);
    std::nth_element(maxima.begin(), kth, maxima.end(), std::greater<>());
    return *kth;
}

// candidates = everything up to and including `last` in rank order, ids ascending.
void cut_after(std::vector<Candidate>& candidates, const Candidate& last) {
    std::erase_if(candidates, [&](const Candidate& c) { return ranks_before(last, c); });
}

// candidates = the `count` largest entries of the row with their weights, ids ascending. Returns their total weight.
double gather_top_k(std::span<const float> row, float maximum, float temperature, size_t count, Scratch& work) {
    work.candidates.clear();
    visit_at_least(row, lower_bound_of_kth(row, count, work.maxima),
                   [&](int32_t id) { work.candidates.push_back({row[static_cast<size_t>(id)], id}); });
    if (work.candidates.size() > count) {
        work.sorted = work.candidates;
        const auto last = work.sorted.begin() + static_cast<std::ptrdiff_t>(count - 1);
        std::nth_element(work.sorted.begin(), last, work.sorted.end(), ranks_before);
        cut_after(work.candidates, *last);
    }
    double total = 0.0;
    for (Candidate& c : work.candidates) {
        c.value = exp_nonpositive((c.value - maximum) / temperature);
        total += static_cast<double>(c.value);
    }
    return total;
}

// A weight that every token of the nucleus reaches, found without sorting: if the tokens of weight ≥ c have the wanted
// share, none lighter than c is needed. Below `lightest` the weights add up to less than what top-p drops anyway.
float nucleus_floor(std::span<const float> weights, double total, double top_p) {
    const double lightest = 0.999 * (1.0 - top_p) * total / static_cast<double>(weights.size());
    for (float cut = 0.25f; static_cast<double>(cut) > lightest; cut *= 0.25f) {
        if (sum_at_least(weights, cut) > top_p * total) return cut;
    }
    return static_cast<float>(std::min(lightest, 1.0));
}

// candidates = every token that top-p or min-p may keep, with its weight, ids ascending. Returns the weight of all.
double gather_by_weight(std::span<const float> row, float maximum, const SamplerConfig& config, Scratch& work) {
    work.weights.resize(row.size());
    const double total = exponential_sum(row, maximum, config.temperature, work.weights.data());
    const double top_p = static_cast<double>(config.top_p);
    const float cut = top_p < 1.0 ? nucleus_floor(work.weights, total, top_p) : config.min_p;
    work.candidates.clear();
    visit_at_least(work.weights, std::max(cut, std::numeric_limits<float>::min()),
                   [&](int32_t id) { work.candidates.push_back({work.weights[static_cast<size_t>(id)], id}); });
    return total;
}

// Cuts the weighted candidates to the fewest best-ranked ones whose weights reach `target`: a selection by halves,
// linear in their number, where sorting would not be.
void keep_nucleus(double target, Scratch& work) {
    work.sorted = work.candidates;
    auto begin = work.sorted.begin(), end = work.sorted.end();
    double before = 0.0;
    while (end - begin > 1) {
        const auto middle = begin + (end - begin) / 2;
        std::nth_element(begin, middle, end, ranks_before);
        double upper = 0.0;
        for (auto it = begin; it != middle; ++it) upper += static_cast<double>(it->value);
        if (before + upper >= target) {
            end = middle;
        } else {
            before += upper;
            begin = middle;
        }
    }
    cut_after(work.candidates, *begin);
}

// The candidate at `share` of the way through the weights, 0 ≤ share < 1.
int32_t draw(const std::vector<Candidate>& candidates, double share) {
    double total = 0.0;
    for (const Candidate& c : candidates) total += static_cast<double>(c.value);
    double left = share * total;
    int32_t last = -1;
    for (const Candidate& c : candidates) {
        if (c.value <= 0.0f) continue;
        last = c.id;
        left -= static_cast<double>(c.value);
        if (left < 0.0) break;
    }
    return last;
}

// The same over a whole row of weights, a block at a time.
int32_t draw(std::span<const float> weights, double total, double share) {
    double left = share * total;
    int32_t last = -1;
    for (size_t i = 0; i < weights.size(); i += kSumBlock) {
        const std::span<const float> block = weights.subspan(i, std::min(kSumBlock, weights.size() - i));
        const double sum = lane_sum(block);
        if (left >= sum) {
            left -= sum;
            continue;
        }
        for (size_t j = 0; j < block.size(); ++j) {
            if (block[j] <= 0.0f) continue;
            last = static_cast<int32_t>(i + j);
            left -= static_cast<double>(block[j]);
            if (left < 0.0) return last;
        }
    }
    if (last >= 0) return last;
    // Rounding carried the share past the end: the last token that has any weight.
    for (size_t i = weights.size(); i-- > 0;) {
        if (weights[i] > 0.0f) return static_cast<int32_t>(i);
    }
    throw BadInput("no token can be drawn");  // unreachable: the largest weight is 1
}

constexpr size_t kWordBits = 32;

// Minus infinity for every token whose bit is not set.
void keep_allowed(std::span<float> row, std::span<const uint32_t> allowed) {
    constexpr float kLowest = -std::numeric_limits<float>::infinity();
    for (size_t word = 0; word < allowed.size(); ++word) {
        const uint32_t bits = allowed[word];
        if (bits == ~uint32_t{0}) continue;
        const size_t first = word * kWordBits, count = std::min(kWordBits, row.size() - first);
        for (size_t i = 0; i < count; ++i) {
            if ((bits >> i & 1) == 0) row[first + i] = kLowest;
        }
    }
}

}  // namespace

Sampler::Sampler(SamplerConfig config, std::span<const int32_t> prompt)
    : config_(std::move(config)),
      penalized_(config_.repetition_penalty != 1.0f || config_.presence_penalty != 0.0f ||
                 config_.frequency_penalty != 0.0f) {
    if (config_.vocab_size <= 0) throw BadInput("a sampler needs a vocabulary");
    for (const int32_t id : config_.masked_ids) check_id(id);
    for (const auto& [id, bias] : config_.bias) check_id(id);
    for (const int32_t id : prompt) {
        check_id(id);
        if (penalized_) seen_[id].in_prompt = true;
    }
}

void Sampler::check_id(int32_t token) const {
    if (token < 0 || token >= config_.vocab_size) {
        throw BadInput("token id " + std::to_string(token) + " is outside the vocabulary of " +
                       std::to_string(config_.vocab_size));
    }
}

void Sampler::accept(int32_t token) {
    check_id(token);
    if (penalized_) ++seen_[token].output_count;
    ++num_accepted_;
}

std::span<const float> Sampler::adjusted(std::span<const float> logits, std::span<const uint32_t> allowed) const {
    const bool masked = num_accepted_ < config_.min_tokens && !config_.masked_ids.empty();
    if (config_.bias.empty() && seen_.empty() && !masked && allowed.empty()) return logits;
    std::vector<float>& row = scratch().row;
    row.assign(logits.begin(), logits.end());
    for (const auto& [id, bias] : config_.bias) row[static_cast<size_t>(id)] += bias;
    for (const auto& [id, seen] : seen_) {
        float& x = row[static_cast<size_t>(id)];
        x = x > 0.0f ? x / config_.repetition_penalty : x * config_.repetition_penalty;
        x -= config_.frequency_penalty * static_cast<float>(seen.output_count);
        if (seen.output_count > 0) x -= config_.presence_penalty;
    }
    if (masked) {
        for (const int32_t id : config_.masked_ids)
            row[static_cast<size_t>(id)] = -std::numeric_limits<float>::infinity();
    }
    if (!allowed.empty()) keep_allowed(row, allowed);
    return row;
}

void Sampler::check_width(std::span<const float> logits, std::span<const uint32_t> allowed) const {
    if (logits.size() != static_cast<size_t>(config_.vocab_size)) {
        throw BadInput("a row of " + std::to_string(logits.size()) + " logits for a vocabulary of " +
                       std::to_string(config_.vocab_size));
    }
    if (!allowed.empty() && allowed.size() != (logits.size() + kWordBits - 1) / kWordBits) {
        throw BadInput("a mask of " + std::to_string(allowed.size()) + " words for a vocabulary of " +
                       std::to_string(config_.vocab_size));
    }
}

// scratch().candidates = the tokens that may be drawn, ids ascending, with weights relative to the best one.
void Sampler::keep_candidates(std::span<const float> row, float maximum) const {
    Scratch& work = scratch();
    const size_t top_k = static_cast<size_t>(std::max(config_.top_k, 0));
    const double total = top_k > 0 && top_k < row.size() ? gather_top_k(row, maximum, config_.temperature, top_k, work)
                                                         : gather_by_weight(row, maximum, config_, work);
    if (config_.top_p < 1.0f) keep_nucleus(static_cast<double>(config_.top_p) * total, work);
    std::erase_if(work.candidates, [&](const Candidate& c) { return c.value <= 0.0f || c.value < config_.min_p; });
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const uint32_t> allowed) const {
    check_width(logits, allowed);
    const std::span<const float> row = adjusted(logits, allowed);
    const RowPeak peak = checked_peak(row);
    if (config_.temperature < kGreedyTemperature) return peak.index;
    const double share = philox_uniform(config_.seed, config_.stream, static_cast<uint64_t>(num_accepted_));
    Scratch& work = scratch();
    if (config_.top_k <= 0 && config_.top_p >= 1.0f && config_.min_p <= 0.0f) {
        work.weights.resize(row.size());
        const double total = exponential_sum(row, peak.maximum, config_.temperature, work.weights.data());
        return draw(work.weights, total, share);
    }
    keep_candidates(row, peak.maximum);
    return draw(work.candidates, share);
}

std::vector<Candidate> Sampler::distribution(std::span<const float> logits, std::span<const uint32_t> allowed) const {
    check_width(logits, allowed);
    const std::span<const float> row = adjusted(logits, allowed);
    const RowPeak peak = checked_peak(row);
    if (config_.temperature < kGreedyTemperature) return {{1.0f, peak.index}};
    keep_candidates(row, peak.maximum);
    std::vector<Candidate> kept = scratch().candidates;
    double total = 0.0;
    for (const Candidate& c : kept) total += static_cast<double>(c.value);
    for (Candidate& c : kept) c.value = static_cast<float>(static_cast<double>(c.value) / total);
    return kept;
}

double log_probability(std::span<const float> logits, int32_t token) {
    if (token < 0 || static_cast<size_t>(token) >= logits.size()) {
        throw BadInput("token id " + std::to_string(token) + " is outside the vocabulary of " +
                       std::to_string(logits.size()));
    }
    const float maximum = checked_peak(logits).maximum;
    const double logsum = std::log(exponential_sum(logits, maximum, 1.0f, nullptr));
    return static_cast<double>(logits[static_cast<size_t>(token)]) - static_cast<double>(maximum) - logsum;
}

std::vector<Candidate> top_log_probabilities(std::span<const float> logits, int32_t count) {
    if (count <= 0) return {};
    const float maximum = checked_peak(logits).maximum;
    const double logsum = std::log(exponential_sum(logits, maximum, 1.0f, nullptr));
    Scratch& work = scratch();
    std::vector<Candidate> top;
    const size_t wanted = std::min(static_cast<size_t>(count), logits.size());
    visit_at_least(logits, lower_bound_of_kth(logits, wanted, work.maxima),
                   [&](int32_t id) { top.push_back({logits[static_cast<size_t>(id)], id}); });
    const auto end = top.begin() + static_cast<std::ptrdiff_t>(wanted);
    std::partial_sort(top.begin(), end, top.end(), ranks_before);
    top.resize(wanted);
    for (Candidate& c : top) {
        c.value = static_cast<float>(static_cast<double>(c.value) - static_cast<double>(maximum) - logsum);
    }
    return top;
}

}  // namespace miaotui
