#include "actors/storage/piece.hpp"

#include "model/base/overloaded.hpp"

#include <concepts>
#include <utility>

namespace qubes::actors {

namespace {

using disk_job::volume_target;

/// A job about what a handler is for.
template <class Job>
using typed = typed_disk_job<Job>;

/// The volume as the asker knows it.
std::optional<volume_turn> turn_of(const pool_job& x) {
  return std::visit(
      []<class Job>(const typed<Job>& y) -> std::optional<volume_turn> {
        if constexpr (std::same_as<typename Job::about, volume_target>) {
          auto* it = y.about.domain->find_volume(y.about.volume);
          return volume_turn{
              .system = y.about.system, .owner = y.about.domain, .it = it ? *it : model::volume{}};
        } else {
          return std::nullopt;
        }
      },
      x.what);
}

/// What work is kept in order for: a volume, a domain's directory, or "".
std::string key_of(const pool_job& x, const std::optional<volume_turn>& at) {
  return std::visit(
      model::overloaded{
          [](const typed<disk_job::end_export>&) { // what waits for it is before it
            return std::string{};
          },
          [&]<class Job>(const typed<Job>& y) {
            if constexpr (std::same_as<typename Job::about, volume_target>)
              return at->it.vid;
            else if constexpr (std::same_as<typename Job::about, disk_job::domain_target>)
              return y.about.domain->name.str();
            else
              return std::string{};
          }},
      x.what);
}

} // namespace

piece::piece(std::uint64_t number, const pool_job& job, pool_reply to)
    : number(number), what(job), how(manner_of(what)), to(std::move(to)), at(turn_of(what)),
      key(key_of(what, at)), owner(cancellation_of(what)) {
  if (owner)
    link.emplace(owner->stop.get_token(),
                 std::function<void()>{[signs = signs] { signs->stop.request_stop(); }});
}

} // namespace qubes::actors
