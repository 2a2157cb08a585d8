// What formats/ needs of the native core: blocks of a model file to floats, and its long string arrays to Python.
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "bindings/bindings.h"
#include "kernels/dequantize.h"

namespace miaotui {
namespace {

using ByteArray = Vector<uint8_t>;
using FloatVector = nb::ndarray<nb::numpy, float, nb::ndim<1>>;

FloatVector dequantize(int type, ByteArray data, int64_t count) {
    const BlockShape shape = block_shape(static_cast<WeightType>(type));
    if (shape.weights == 0) throw BadInput("weight type " + std::to_string(type) + " is not supported");
    if (count < 0 || count % shape.weights != 0 || count / shape.weights > INT64_MAX / shape.bytes ||
        static_cast<uint64_t>(count / shape.weights * shape.bytes) != data.nbytes()) {
        throw BadInput(std::to_string(count) + " weights of type " + std::to_string(type) + " do not fill " +
                       std::to_string(data.nbytes()) + " bytes exactly");
    }
    // The count matches the bytes at hand, so a hostile header cannot make this allocation large.
    std::unique_ptr<float[]> floats(new float[static_cast<size_t>(count)]);
    {
        nb::gil_scoped_release release;
        dequantize_row(static_cast<WeightType>(type), data.data(), floats.get(), count);
    }
    nb::capsule owner(floats.get(), [](void* pointer) noexcept { delete[] static_cast<float*>(pointer); });
    return FloatVector(floats.release(), {static_cast<size_t>(count)}, owner);
}

// A GGUF string array: `count` times a little-endian uint64 length and that many bytes, unaligned. Every length is
// checked against the bytes left, in a form that cannot wrap.
class StringWalk {
public:
    StringWalk(const ByteArray& data, uint64_t offset, uint64_t count)
        : data_(data.data()), size_(data.nbytes()), offset_(offset), count_(count) {
        if (offset > size_ || count > (size_ - offset) / sizeof(uint64_t)) {
            throw BadInput(std::to_string(count) + " strings do not fit the bytes after byte " +
                           std::to_string(offset));
        }
    }

    bool done() const { return index_ == count_; }
    uint64_t offset() const { return offset_; }

    // The bytes of the next string; its length goes to `length`.
    const char* next(uint64_t& length) {
        const bool has_length = size_ - offset_ >= sizeof(length);
        if (has_length) std::memcpy(&length, data_ + offset_, sizeof(length));
        if (!has_length || length > size_ - offset_ - sizeof(length)) {
            throw BadInput("string " + std::to_string(index_) + " at byte " + std::to_string(offset_) +
                           " reaches past the end");
        }
        const char* bytes = reinterpret_cast<const char*>(data_ + offset_ + sizeof(length));
        offset_ += sizeof(length) + length;
        ++index_;
        return bytes;
    }

private:
    const uint8_t* data_;
    uint64_t size_, offset_, count_, index_ = 0;
};

uint64_t skip_strings(ByteArray data, uint64_t offset, uint64_t count) {
    nb::gil_scoped_release release;
    StringWalk walk(data, offset, count);
    for (uint64_t length; !walk.done();) walk.next(length);
    return walk.offset();
}

// Undecodable bytes become lone surrogates (PEP 383), so that a token's bytes survive the way through str.
nb::list read_strings(ByteArray data, uint64_t offset, uint64_t count) {
    StringWalk walk(data, offset, count);
    nb::list strings;
    for (uint64_t length; !walk.done();) {
        const char* bytes = walk.next(length);
        PyObject* text = PyUnicode_DecodeUTF8(bytes, static_cast<Py_ssize_t>(length), "surrogateescape");
        if (text == nullptr) throw nb::python_error();
        strings.append(nb::steal<nb::str>(text));
    }
    return strings;
}

}  // namespace

void bind_dequantize(nb::module_& m) {
    m.def("dequantize", &dequantize, nb::arg("type"), nb::arg("data"), nb::arg("count"));
    m.def("skip_strings", &skip_strings, nb::arg("data"), nb::arg("offset"), nb::arg("count"));
    m.def("read_strings", &read_strings, nb::arg("data"), nb::arg("offset"), nb::arg("count"));
}

}  // namespace miaotui
