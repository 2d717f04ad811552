// Services a domain shall run, and applications that open in disposables (spec/features.md §3).
#include "model/base/digest.hpp"
#include "model/guest/extensions/all.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

namespace qubes::model {

namespace {

constexpr auto prefix = std::string_view{"service."};
constexpr auto app_prefix = std::string_view{"app-dispvm."};
constexpr auto meminfo_writer = std::string_view{"meminfo-writer"};
constexpr auto longest = std::size_t{48}; ///< a path of QubesDB has at most 63 characters

/// `value` nothing: the feature is gone.
void tell(std::string_view service, const std::optional<std::string>& value, qubesdb_edits& to) {
  if (service.starts_with(app_prefix)) {
    auto app = std::string{service.substr(app_prefix.size())};
    auto path = fmt::format("/hash-app-dispvm/{}", base64_for_names(sha256(app)));
    if (value && !value->empty())
      put(to, path, app);
    else
      drop(to, path);
  }
  if (service.empty() || service.size() > longest)
    return;
  auto path = fmt::format("/qubes-service/{}", service);
  if (value)
    put(to, path, value->empty() ? "0" : "1");
  else
    drop(to, path);
}

/// Whether memory is balanced decides about the memory reporter, whatever the feature says.
outcome<void> at_start(const guest_start& x, qubesdb_edits& to) {
  for (auto& [name, text] : x.who.features)
    if (name.starts_with(prefix))
      tell(std::string_view{name}.substr(prefix.size()), text, to);
  tell(meminfo_writer, read_int({x.v, &x.who}, "maxmem") > 0 ? "1" : "", to);
  return {};
}

void when_changed(const transition& x, notices& to) {
  for (auto& it : feature_turns(x.what, prefix))
    if (auto* owner = x.after.system.find(it.owner);
        owner && listens(x.after, *owner) && it.key != meminfo_writer)
      tell(it.key, it.value, to[owner->name]);
}

} // namespace

const extension services{"services", nullptr, nullptr, at_start, nullptr, when_changed};

} // namespace qubes::model
