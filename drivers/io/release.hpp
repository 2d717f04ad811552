// Owners of what a library written in C gives out.
#pragma once

namespace qubes::drivers {

/// For `unique_ptr`: gives the object back by this function of its library.
template <auto Release>
struct release {
  template <class T>
  void operator()(T* x) const noexcept {
    Release(x);
  }
};

} // namespace qubes::drivers
