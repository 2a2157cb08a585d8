#include "program/kv_pool.h"

#include <string>

#include "base/error.h"

namespace miaotui {
namespace {

void check(const char* what, int64_t value, int64_t lowest, int64_t highest) {
    if (value < lowest || value > highest)
        throw BadInput("KV pool: " + std::string(what) + " is " + std::to_string(value) + ", must be " +
                       std::to_string(lowest) + " to " + std::to_string(highest));
}

// With these limits a block has at most 2^40 bytes.
void check_block(int num_layers, int num_kv_heads, int head_dim) {
    check("num_layers", num_layers, 1, 4096);
    check("num_kv_heads", num_kv_heads, 1, 4096);
    check("head_dim", head_dim, 16, 512);
    if (head_dim % 16 != 0)
        throw BadInput("KV pool: head_dim " + std::to_string(head_dim) + " is not a multiple of 16");
}

}  // namespace

KvPool::KvPool(int num_layers, int num_kv_heads, int head_dim, int num_blocks, KvType type)
    : num_layers_(num_layers), num_kv_heads_(num_kv_heads), num_blocks_(num_blocks), layout_{type, head_dim} {
    constexpr int64_t kMostBytes = int64_t{1} << 46;
    check("num_blocks", num_blocks, 1, kMostBytes / block_bytes(num_layers, num_kv_heads, head_dim, type));
    memory_ = AlignedBuffer(static_cast<size_t>(num_blocks * block_stride()), Pages::huge);
}

int64_t KvPool::block_bytes(int num_layers, int num_kv_heads, int head_dim, KvType type) {
    check_block(num_layers, num_kv_heads, head_dim);
    return int64_t{num_layers} * num_kv_heads * KvLayout{type, head_dim}.page_bytes();
}

}  // namespace miaotui
