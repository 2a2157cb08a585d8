// What followed the end of a text the last time it was written: a suffix automaton over texts of tokens.
//
// Blumer et al., "The smallest automaton recognizing the subwords of a text" (1985), built token by token in amortized
// constant time; several texts share one automaton by beginning at its root again (Mohri et al., "General suffix
// automaton construction algorithm and space bounds", 2009). For drafts: Hu et al., "SAM Decoding" (arXiv:2411.10666).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "suffix/paged.h"

namespace miaotui {

// Where a match goes on. length: tokens that agreed, 0 for none; place: index of the token behind them; is_settled:
// whether that was the same token wherever they occurred.
struct Match {
    int32_t length = 0;
    int32_t place = 0;
    bool is_settled = false;
};

// Not safe for concurrent use. A token takes at most two states of 24 bytes, and usually 1.5; states with one way on,
// as most are, hold it themselves, others' further ways are in a hash table.
class SuffixAutomaton {
public:
    SuffixAutomaton();

    // The text under way goes on. Throws BadInput for negative tokens, and for more than 2²⁹ tokens in all.
    void append(std::span<const int32_t> tokens);

    // What is appended from now on is another text: no match reaches across, and nothing is read on beyond an end.
    void begin_text();

    // The longest end of the text under way that occurs in it earlier, and where it did last. Only for a first text.
    Match repeat() const { return repeat_; }

    // The longest end of `tail` that occurs in any text and goes on there, and where it did last.
    Match find(std::span<const int32_t> tail) const;

    // Up to `count` tokens from there on, as far as that text goes.
    std::vector<int32_t> behind(int32_t place, size_t count) const;

    // The same, beginning again at `place` where the text ends: what repeats itself goes on repeating itself.
    std::vector<int32_t> around(int32_t place, size_t count) const;

    size_t num_tokens() const { return num_tokens_; }

    // What it takes, and at most so many tokens more would make of that.
    size_t num_bytes() const;
    size_t most_bytes(size_t num_tokens) const;

private:
    static constexpr int32_t kNone = -1;

    // A class of texts that are followed by the same. length: of the longest of them; link: the class of its longest
    // end that is in another; latest: index behind where they occurred last with a token behind; token, target: one
    // way on; ways: the further ones.
    struct State {
        int32_t length = 0;
        int32_t link = kNone;
        int32_t latest = kNone;
        int32_t token = kNone;
        int32_t target = kNone;
        int32_t ways = kNone;
    };
    struct Way {
        int32_t from = 0;
        int32_t token = 0;
        int32_t target = 0;
        int32_t next = kNone;
    };

    State& state(int32_t at) { return states_[static_cast<size_t>(at)]; }
    const State& state(int32_t at) const { return states_[static_cast<size_t>(at)]; }
    void append(int32_t token);
    int32_t add_state(State made);
    int32_t target(int32_t from, int32_t token) const;
    void add_way(int32_t from, int32_t token, int32_t to);
    void redirect(int32_t from, int32_t token, int32_t to);
    int32_t split(int32_t from, int32_t token, int32_t whole);
    void touch(int32_t at, int32_t place);
    size_t slot_of(int32_t from, int32_t token) const;
    void grow_slots();

    Paged<State> states_;
    Paged<Way> ways_;
    Paged<int32_t> text_;         // of all texts, a kNone between them
    std::vector<int32_t> slots_;  // of a hash table with open addressing: indices of ways, or kNone
    int32_t last_ = 0;
    Match repeat_;
    size_t num_tokens_ = 0;
};

}  // namespace miaotui
