// The sampler for engine/: one object per running generation, one call per token.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "program/sampler.h"

namespace nb = nanobind;

namespace miaotui {
namespace {

using LogitRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Ids = nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Mask = nb::ndarray<const uint32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using RankedTokens = std::vector<std::pair<int32_t, float>>;

std::span<const float> row_of(const LogitRows& logits, int64_t row) {
    if (row < 0 || row >= static_cast<int64_t>(logits.shape(0))) {
        throw BadInput("row " + std::to_string(row) + " of " + std::to_string(logits.shape(0)) + " rows of logits");
    }
    return {logits.data() + static_cast<size_t>(row) * logits.shape(1), logits.shape(1)};
}

RankedTokens as_pairs(const std::vector<Candidate>& candidates) {
    RankedTokens pairs;
    pairs.reserve(candidates.size());
    for (const Candidate& c : candidates) pairs.emplace_back(c.id, c.value);
    return pairs;
}

void construct(Sampler* self, int32_t vocab_size, float temperature, int32_t top_k, float top_p, float min_p,
               float repetition_penalty, float presence_penalty, float frequency_penalty, uint64_t seed,
               uint32_t stream, int64_t min_tokens, std::vector<int32_t> masked_ids, RankedTokens logit_bias,
               Ids prompt) {
    SamplerConfig config{.vocab_size = vocab_size,
                         .temperature = temperature,
                         .top_k = top_k,
                         .top_p = top_p,
                         .min_p = min_p,
                         .repetition_penalty = repetition_penalty,
                         .presence_penalty = presence_penalty,
                         .frequency_penalty = frequency_penalty,
                         .seed = seed,
                         .stream = stream,
                         .min_tokens = min_tokens,
                         .masked_ids = std::move(masked_ids),
                         .bias = std::move(logit_bias)};
    new (self) Sampler(std::move(config), {prompt.data(), prompt.shape(0)});
}

std::span<const uint32_t> words_of(const std::optional<Mask>& allowed) {
    if (!allowed) return {};
    return {allowed->data(), allowed->shape(0)};
}

int32_t sample(const Sampler& sampler, const LogitRows& logits, int64_t row, const std::optional<Mask>& allowed) {
    const std::span<const float> values = row_of(logits, row);
    nb::gil_scoped_release release;
    return sampler.sample(values, words_of(allowed));
}

RankedTokens distribution(const Sampler& sampler, const LogitRows& logits, int64_t row,
                          const std::optional<Mask>& allowed) {
    return as_pairs(sampler.distribution(row_of(logits, row), words_of(allowed)));
}

std::vector<double> log_probabilities(const LogitRows& logits, int64_t first_row, const Ids& tokens) {
    const size_t count = tokens.shape(0);
    if (count > 0) row_of(logits, first_row), row_of(logits, first_row + static_cast<int64_t>(count) - 1);
    std::vector<double> result(count);
    nb::gil_scoped_release release;
    for (size_t i = 0; i < count; ++i) {
        const float* row = logits.data() + (static_cast<size_t>(first_row) + i) * logits.shape(1);
        result[i] = log_probability({row, logits.shape(1)}, tokens.data()[i]);
    }
    return result;
}

RankedTokens top_log_probabilities_of(const LogitRows& logits, int64_t row, int32_t count) {
    return as_pairs(top_log_probabilities(row_of(logits, row), count));
}

}  // namespace

void bind_sampler(nb::module_& module) {
    nb::class_<Sampler>(module, "Sampler")
        .def("__init__", &construct, nb::arg("vocab_size"), nb::kw_only(), nb::arg("temperature") = 1.0f,
             nb::arg("top_k") = 0, nb::arg("top_p") = 1.0f, nb::arg("min_p") = 0.0f,
             nb::arg("repetition_penalty") = 1.0f, nb::arg("presence_penalty") = 0.0f,
             nb::arg("frequency_penalty") = 0.0f, nb::arg("seed") = 0, nb::arg("stream") = 0, nb::arg("min_tokens") = 0,
             nb::arg("masked_ids") = std::vector<int32_t>{}, nb::arg("logit_bias") = RankedTokens{}, nb::arg("prompt"))
        .def("sample", &sample, nb::arg("logits"), nb::arg("row"), nb::arg("allowed") = nb::none())
        .def("accept", &Sampler::accept, nb::arg("token"))
        .def("distribution", &distribution, nb::arg("logits"), nb::arg("row"), nb::arg("allowed") = nb::none())
        .def_prop_ro("num_accepted", &Sampler::num_accepted);
    module.def("log_probabilities", &log_probabilities, nb::arg("logits"), nb::arg("first_row"), nb::arg("tokens"));
    module.def("top_log_probabilities", &top_log_probabilities_of, nb::arg("logits"), nb::arg("row"), nb::arg("count"));
}

}  // namespace miaotui
