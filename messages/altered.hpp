// Values that differ from others in one thing.
#pragma once

namespace qubes {

/// A copy that differs in what `change` does to it.
template <class T, class Change>
constexpr T altered(T x, Change change) {
  change(x);
  return x;
}

} // namespace qubes
