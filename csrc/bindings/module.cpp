// miaotui._native: the module, and the way native errors become the package's typed ones.
#include "bindings/bindings.h"

#include <new>

#include "base/error.h"

namespace miaotui {
namespace {

void raise_as(const char* type_name, const char* message) {
    nb::object type = nb::module_::import_("miaotui.errors").attr(type_name);
    PyErr_SetString(type.ptr(), message);
}

void translate(const std::exception_ptr& exception, void*) {
    try {
        std::rethrow_exception(exception);
    } catch (const BadTier& e) { raise_as("CpuTierError", e.what()); } catch (const BadSetting& e) {
        raise_as("ConfigError", e.what());
    } catch (const BadInput& e) { raise_as("ModelFileError", e.what()); } catch (const std::bad_alloc&) {
        raise_as("CapacityError", "the machine has no memory left for this; use a smaller model, context or KV budget");
    }
}

}  // namespace

nb::object float_array(const float* values, std::initializer_list<size_t> shape) {
    size_t count = 1;
    for (const size_t n : shape) count *= n;
    auto* copy = new float[count];
    std::copy(values, values + count, copy);
    nb::capsule owner(copy, [](void* p) noexcept { delete[] static_cast<float*>(p); });
    return nb::cast(nb::ndarray<nb::numpy, float>(copy, shape, owner));
}

const KernelTable& table_named(const std::optional<std::string>& tier) {
    if (!tier) return kernels();
    for (int i = 0; i < kNumTiers; ++i)
        if (*tier == tier_name(static_cast<Tier>(i))) return kernels_of(static_cast<Tier>(i));
    throw BadTier("there is no instruction-set tier " + *tier);
}

}  // namespace miaotui

NB_MODULE(_native, m) {
    using namespace miaotui;
    m.doc() = "The native core of miaotui.";
    nb::register_exception_translator(translate);
    bind_dequantize(m);
    bind_quantize(m);
    bind_sampler(m);
    bind_program(m);
    bind_kernels(m);
    bind_similarity(m);
    bind_suffix(m);
}
