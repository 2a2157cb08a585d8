#include "suffix/suffix_automaton.h"

#include <algorithm>
#include <random>

#include "base/error.h"

namespace miaotui {
namespace {

constexpr size_t kMostTokens = size_t{1} << 29;  // states are numbered in 32 bits
constexpr size_t kFirstSlots = 64;

// Of the shorter ends of a text, so many learn with each token that they have occurred again. A text of one token over
// and over has as many as tokens; each would have to be told.
constexpr int kTouched = 32;

// Unknown outside: nobody can choose tokens that fall into the same slots.
uint64_t secret() {
    static const uint64_t value = [] {
        std::random_device device;
        return (uint64_t{device()} << 32 | device()) | 1;
    }();
    return value;
}

uint64_t mix(uint64_t h) {
    h = (h ^ (h >> 33)) * 0xFF51AFD7ED558CCD;  // MurmurHash3's finalizer
    h = (h ^ (h >> 33)) * 0xC4CEB9FE1A85EC53;
    return h ^ (h >> 33);
}

// The table is at most two thirds full.
size_t num_slots_for(size_t num_ways) {
    size_t slots = kFirstSlots;
    while (3 * num_ways > 2 * slots) slots *= 2;
    return slots;
}

}  // namespace

SuffixAutomaton::SuffixAutomaton() : slots_(kFirstSlots, kNone) { add_state({}); }

void SuffixAutomaton::append(std::span<const int32_t> tokens) {
    if (num_tokens_ + tokens.size() > kMostTokens) throw BadInput("a suffix automaton holds at most 2^29 tokens");
    for (const int32_t token : tokens)
        if (token < 0) throw BadInput("tokens are not negative");
    for (const int32_t token : tokens) append(token);
}

void SuffixAutomaton::begin_text() {
    if (last_ == 0) return;
    text_.push_back(kNone);
    last_ = 0;
}

void SuffixAutomaton::append(int32_t token) {
    const auto place = static_cast<int32_t>(text_.size());
    text_.push_back(token);
    ++num_tokens_;
    touch(last_, place);
    const int32_t known = target(last_, token);
    if (known != kNone) {  // as in a text before this one
        const bool is_same = state(known).length == state(last_).length + 1;
        last_ = is_same ? known : split(last_, token, known);
        return;
    }
    const int32_t made = add_state({.length = state(last_).length + 1});
    int32_t from = last_;
    for (; from != kNone && target(from, token) == kNone; from = state(from).link) add_way(from, token, made);
    int32_t link = 0;
    if (from != kNone) {
        const int32_t to = target(from, token);
        link = state(to).length == state(from).length + 1 ? to : split(from, token, to);
    }
    state(made).link = link;
    last_ = made;
    repeat_ = link == 0 ? Match{} : Match{state(link).length, state(link).latest, state(link).ways == kNone};
}

// The texts in `whole` that are no longer than those in `from` with the token become a class of their own.
int32_t SuffixAutomaton::split(int32_t from, int32_t token, int32_t whole) {
    State part = state(whole);
    part.length = state(from).length + 1;
    part.ways = kNone;
    const int32_t made = add_state(part);
    for (int32_t way = state(whole).ways; way != kNone;) {
        const Way copied = ways_[static_cast<size_t>(way)];
        add_way(made, copied.token, copied.target);
        way = copied.next;
    }
    state(whole).link = made;
    for (; from != kNone && target(from, token) == whole; from = state(from).link) redirect(from, token, made);
    return made;
}

// Its texts have occurred again, and so have their ends.
void SuffixAutomaton::touch(int32_t at, int32_t place) {
    for (int i = 0; at > 0 && i < kTouched; ++i, at = state(at).link) state(at).latest = place;
}

Match SuffixAutomaton::find(std::span<const int32_t> tail) const {
    int32_t at = 0, length = 0;
    for (const int32_t token : tail) {
        int32_t next = target(at, token);
        while (next == kNone && at != 0) {
            at = state(at).link;
            length = state(at).length;
            next = target(at, token);
        }
        if (next == kNone) continue;
        at = next;
        ++length;
    }
    while (at != 0 && state(at).latest == kNone) {
        at = state(at).link;
        length = state(at).length;
    }
    return at == 0 ? Match{} : Match{length, state(at).latest, state(at).ways == kNone};
}

std::vector<int32_t> SuffixAutomaton::behind(int32_t place, size_t count) const {
    std::vector<int32_t> found;
    for (size_t at = static_cast<size_t>(place); found.size() < count && at < text_.size() && text_[at] != kNone; ++at)
        found.push_back(text_[at]);
    return found;
}

std::vector<int32_t> SuffixAutomaton::around(int32_t place, size_t count) const {
    std::vector<int32_t> found = behind(place, count);
    const size_t period = found.size();
    while (period > 0 && found.size() < count) found.push_back(found[found.size() - period]);
    return found;
}

size_t SuffixAutomaton::num_bytes() const {
    return sizeof(*this) + states_.num_bytes() + ways_.num_bytes() + text_.num_bytes() +
           slots_.size() * sizeof(int32_t);
}

// A token makes at most two states, and at most three ways in the long run; a text's beginning makes none.
size_t SuffixAutomaton::most_bytes(size_t num_tokens) const {
    const size_t slots = std::max(slots_.size(), num_slots_for(ways_.size() + 3 * num_tokens));
    return sizeof(*this) + states_.num_bytes(2 * num_tokens) + ways_.num_bytes(3 * num_tokens) +
           text_.num_bytes(num_tokens + 1) + slots * sizeof(int32_t);
}

int32_t SuffixAutomaton::add_state(State made) {
    states_.push_back(made);
    return static_cast<int32_t>(states_.size() - 1);
}

int32_t SuffixAutomaton::target(int32_t from, int32_t token) const {
    const State& here = state(from);
    if (here.token == token) return here.target;
    if (here.ways == kNone) return kNone;
    const int32_t way = slots_[slot_of(from, token)];
    return way == kNone ? kNone : ways_[static_cast<size_t>(way)].target;
}

void SuffixAutomaton::add_way(int32_t from, int32_t token, int32_t to) {
    State& here = state(from);
    if (here.token == kNone) {
        here.token = token;
        here.target = to;
        return;
    }
    if (3 * (ways_.size() + 1) > 2 * slots_.size()) grow_slots();
    const auto made = static_cast<int32_t>(ways_.size());
    ways_.push_back({from, token, to, here.ways});
    slots_[slot_of(from, token)] = made;
    here.ways = made;
}

void SuffixAutomaton::redirect(int32_t from, int32_t token, int32_t to) {
    State& here = state(from);
    if (here.token == token)
        here.target = to;
    else
        ways_[static_cast<size_t>(slots_[slot_of(from, token)])].target = to;
}

// Where a way's index is, or would be put.
size_t SuffixAutomaton::slot_of(int32_t from, int32_t token) const {
    const uint64_t name = uint64_t{static_cast<uint32_t>(from)} << 32 | static_cast<uint32_t>(token);
    size_t slot = mix(name ^ secret()) & (slots_.size() - 1);
    for (;; slot = (slot + 1) & (slots_.size() - 1)) {
        if (slots_[slot] == kNone) return slot;
        const Way& way = ways_[static_cast<size_t>(slots_[slot])];
        if (way.from == from && way.token == token) return slot;
    }
}

void SuffixAutomaton::grow_slots() {
    slots_.assign(2 * slots_.size(), kNone);
    for (size_t at = 0; at < ways_.size(); ++at)
        slots_[slot_of(ways_[at].from, ways_[at].token)] = static_cast<int32_t>(at);
}

}  // namespace miaotui
