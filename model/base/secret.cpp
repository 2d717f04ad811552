#include "model/base/secret.hpp"

#include <malloc.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <new>

namespace qubes::model {

namespace {

constinit thread_local auto wiping = 0U;

void give_back(void* block) noexcept {
  if (wiping > 0 && block)
    ::explicit_bzero(block, ::malloc_usable_size(block));
  std::free(block);
}

/// What ended calls left on the stack. A library's first call of a function saves all registers
/// there, and with them what was copied last.
[[gnu::noinline]] void wipe_dead_frames() noexcept {
  constexpr auto deepest = std::size_t{64} << 10U;
  std::array<char, deepest> below;
  ::explicit_bzero(below.data(), below.size());
}

} // namespace

void wipe(std::string& text) noexcept {
  text.resize(text.capacity()); // allocates nothing
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

wiping_memory::wiping_memory() noexcept {
  ++wiping;
}

wiping_memory::~wiping_memory() {
  --wiping;
  wipe_dead_frames();
}

} // namespace qubes::model

// Those of arrays lead to these in the standard library, but not in that of a sanitizer.

void* operator new(std::size_t bytes) {
  for (;;) {
    if (auto* block = std::malloc(bytes > 0 ? bytes : 1))
      return block;
    if (auto more = std::get_new_handler())
      more();
    else
      throw std::bad_alloc{};
  }
}

void* operator new[](std::size_t bytes) {
  return operator new(bytes);
}

void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes > 0 ? bytes : 1);
}

void* operator new[](std::size_t bytes, const std::nothrow_t& no_throw) noexcept {
  return operator new(bytes, no_throw);
}

void operator delete(void* block) noexcept {
  qubes::model::give_back(block);
}

void operator delete(void* block, std::size_t) noexcept {
  qubes::model::give_back(block);
}

void operator delete[](void* block) noexcept {
  qubes::model::give_back(block);
}

void operator delete[](void* block, std::size_t) noexcept {
  qubes::model::give_back(block);
}
