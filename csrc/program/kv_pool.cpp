#include "program/kv_pool.h"

#include <sys/mman.h>

#include <algorithm>
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

bool KvPool::populate(int64_t first_block, int64_t num_blocks) const {
    check("first block", first_block, 0, num_blocks_);
    check("number of blocks", num_blocks, 0, num_blocks_ - first_block);
#ifdef MADV_POPULATE_WRITE
    constexpr int64_t kOsPage = 4096;
    const int64_t begin = first_block * block_stride() / kOsPage * kOsPage;
    const int64_t end = (first_block + num_blocks) * block_stride();
    return madvise(memory_.data() + begin, static_cast<size_t>(end - begin), MADV_POPULATE_WRITE) == 0;
#else
    return false;
#endif
}

int64_t KvPool::block_bytes(int num_layers, int num_kv_heads, int head_dim, KvType type) {
    check_block(num_layers, num_kv_heads, head_dim);
    return int64_t{num_layers} * num_kv_heads * KvLayout{type, head_dim}.page_bytes();
}

}  // namespace miaotui
