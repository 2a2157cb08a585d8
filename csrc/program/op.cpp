#include "program/op.h"

#include <cmath>

#include "base/error.h"

namespace miaotui {

void OpArguments::fail(const std::string& what) const { throw BadInput("operator " + kind + ": " + what); }

void OpArguments::expect_counts(size_t num_inputs, size_t num_outputs) const {
    expect(inputs.size() == num_inputs,
           "needs " + std::to_string(num_inputs) + " inputs, got " + std::to_string(inputs.size()));
    expect(outputs.size() == num_outputs,
           "needs " + std::to_string(num_outputs) + " outputs, got " + std::to_string(outputs.size()));
}

int64_t OpArguments::integer(const std::string& name, int64_t lowest, int64_t highest) const {
    const auto found = attributes.find(name);
    expect(found != attributes.end() && std::holds_alternative<double>(found->second),
           "attribute " + name + " is missing");
    const double value = std::get<double>(found->second);
    expect(value >= static_cast<double>(lowest) && value <= static_cast<double>(highest) && value == std::floor(value),
           "attribute " + name + " must be a whole number from " + std::to_string(lowest) + " to " +
               std::to_string(highest) + ", got " + std::to_string(value));
    return static_cast<int64_t>(value);
}

float OpArguments::number(const std::string& name) const {
    const auto found = attributes.find(name);
    expect(found != attributes.end() && std::holds_alternative<double>(found->second),
           "attribute " + name + " is missing");
    const double value = std::get<double>(found->second);
    expect(std::isfinite(value), "attribute " + name + " is not finite");
    return static_cast<float>(value);
}

const std::string& OpArguments::choice(const std::string& name, std::initializer_list<const char*> allowed) const {
    const auto found = attributes.find(name);
    expect(found != attributes.end() && std::holds_alternative<std::string>(found->second),
           "attribute " + name + " is missing");
    const std::string& value = std::get<std::string>(found->second);
    std::string names;
    for (const char* candidate : allowed) {
        if (value == candidate) return value;
        names.append(" ").append(candidate);
    }
    fail("attribute " + name + " is " + value + ", must be one of:" + names);
}

namespace {

const Slice& f32_slice(const OpArguments& a, const std::vector<Slice>& slices, size_t i, int64_t width,
                       const char* side) {
    const std::string name = std::string(side) + " " + std::to_string(i);
    a.expect(i < slices.size(), name + " is missing");
    a.expect(slices[i].dtype == DType::f32, name + " must be f32");
    a.expect(width == 0 || slices[i].width == width,
             name + " is " + std::to_string(slices[i].width) + " wide, must be " + std::to_string(width));
    return slices[i];
}

}  // namespace

const Slice& OpArguments::f32_input(size_t i, int64_t width) const {
    return f32_slice(*this, inputs, i, width, "input");
}
const Slice& OpArguments::f32_output(size_t i, int64_t width) const {
    return f32_slice(*this, outputs, i, width, "output");
}

const std::vector<float>& OpArguments::vector_weight(size_t i, int64_t width) const {
    expect(i < weights.size() && std::holds_alternative<std::vector<float>>(weights[i]),
           "weight " + std::to_string(i) + " must be a float vector");
    const auto& v = std::get<std::vector<float>>(weights[i]);
    expect(static_cast<int64_t>(v.size()) == width, "weight " + std::to_string(i) + " has " + std::to_string(v.size()) +
                                                        " values, must have " + std::to_string(width));
    return v;
}

std::shared_ptr<PackedWeight> OpArguments::packed_weight(size_t i) const {
    expect(i < weights.size() && std::holds_alternative<std::shared_ptr<PackedWeight>>(weights[i]),
           "weight " + std::to_string(i) + " must be a packed matrix");
    return std::get<std::shared_ptr<PackedWeight>>(weights[i]);
}

int activation_of(const OpArguments& arguments) {
    const std::string& name = arguments.choice("activation", {"silu", "gelu_tanh", "gelu", "relu"});
    return name == "silu" ? 0 : name == "gelu_tanh" ? 1 : name == "gelu" ? 2 : 3;
}

std::unique_ptr<Op> make_op(const OpArguments& arguments, const ProgramLimits& limits) {
    const bool to_logit_rows =
        arguments.kind == "select_rows" || arguments.kind == "mean_pool" || arguments.kind == "max_pool";
    if (!to_logit_rows) {
        const auto same_rows = [&](const std::vector<Slice>& slices) {
            for (const Slice& s : slices)
                arguments.expect(s.rows == arguments.outputs.front().rows,
                                 "inputs and outputs differ in their kind of rows");
        };
        if (!arguments.outputs.empty()) same_rows(arguments.inputs), same_rows(arguments.outputs);
    }
    for (const auto make : {make_row_op, make_linear_op, make_attention_op, make_encoder_op, make_convolution_op})
        if (auto op = make(arguments, limits)) return op;
    throw BadInput("operator " + arguments.kind + " does not exist");
}

}  // namespace miaotui
