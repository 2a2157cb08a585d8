// A vector that grows by pages: nothing is ever copied, and it takes no more than it needs.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace miaotui {

template <class T>
class Paged {
public:
    Paged() = default;
    Paged(const Paged&) = delete;
    Paged& operator=(const Paged&) = delete;

    static constexpr size_t kPageItems = 256;
    static constexpr size_t kPageBytes = kPageItems * sizeof(T) + sizeof(void*);

    size_t size() const { return size_; }
    T& operator[](size_t at) { return pages_[at / kPageItems][at % kPageItems]; }
    const T& operator[](size_t at) const { return pages_[at / kPageItems][at % kPageItems]; }

    void push_back(T item) {
        if (size_ == pages_.size() * kPageItems) pages_.push_back(std::make_unique<T[]>(kPageItems));
        (*this)[size_++] = std::move(item);
    }

    // With so many items more; 0: as it is.
    size_t num_bytes(size_t more = 0) const {
        return more == 0 ? pages_.size() * kPageBytes : (size_ + more + kPageItems - 1) / kPageItems * kPageBytes;
    }

private:
    std::vector<std::unique_ptr<T[]>> pages_;
    size_t size_ = 0;
};

}  // namespace miaotui
