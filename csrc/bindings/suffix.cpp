// Suffix automata for adaptive/drafters: one call per sequence and step.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <utility>
#include <vector>

#include "bindings/bindings.h"
#include "suffix/suffix_automaton.h"

namespace miaotui {
namespace {

using Tokens = std::vector<int32_t>;
using Guess = std::pair<int32_t, Tokens>;

void append(SuffixAutomaton& automaton, const Tokens& tokens) {
    nb::gil_scoped_release release;
    automaton.append(tokens);
}

Guess repeat(const SuffixAutomaton& automaton, size_t count) {
    const Match match = automaton.repeat();
    return {match.length, match.length == 0 ? Tokens{} : automaton.around(match.place, count)};
}

Guess find(const SuffixAutomaton& automaton, const Tokens& tail, size_t count) {
    const Match match = automaton.find(tail);
    return {match.length, match.length == 0 ? Tokens{} : automaton.behind(match.place, count)};
}

}  // namespace

void bind_suffix(nb::module_& m) {
    nb::class_<SuffixAutomaton>(m, "SuffixAutomaton")
        .def(nb::init<>())
        .def("append", &append, nb::arg("tokens"))
        .def("begin_text", &SuffixAutomaton::begin_text)
        .def("repeat", &repeat, nb::arg("count"))
        .def("find", &find, nb::arg("tail"), nb::arg("count"))
        .def_prop_ro("is_settled", [](const SuffixAutomaton& automaton) { return automaton.repeat().is_settled; })
        .def("most_bytes", &SuffixAutomaton::most_bytes, nb::arg("num_tokens"))
        .def_prop_ro("num_tokens", &SuffixAutomaton::num_tokens)
        .def_prop_ro("nbytes", [](const SuffixAutomaton& automaton) { return automaton.num_bytes(); });
}

}  // namespace miaotui
