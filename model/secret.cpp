#include "model/secret.hpp"

#include <cstring>

namespace qubes::model {

void wipe(std::string& text) noexcept {
  text.resize(text.capacity()); // allocates nothing
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

} // namespace qubes::model
