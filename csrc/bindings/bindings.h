// The parts of the Python module; coarse calls only.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "kernels/kv_layout.h"
#include "kernels/table.h"

namespace miaotui {

namespace nb = nanobind;

// One-dimensional, contiguous, read-only views of NumPy arrays.
template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <class T>
using Matrix = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A NumPy array that owns a copy of `values`.
nb::object float_array(const float* values, std::initializer_list<size_t> shape);

// "f32", "f16", "bf16", "int16" or "int8"; throws BadInput otherwise.
KvType kv_type_of(const std::string& name);

// The kernels of a tier by name, or those in use. Throws BadTier.
const KernelTable& table_named(const std::optional<std::string>& tier);

void bind_dequantize(nb::module_& m);
void bind_quantize(nb::module_& m);
void bind_sampler(nb::module_& m);
void bind_program(nb::module_& m);
void bind_kernels(nb::module_& m);
void bind_similarity(nb::module_& m);
void bind_suffix(nb::module_& m);

}  // namespace miaotui
