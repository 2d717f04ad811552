#include "actors/domain/uplink.hpp"

#include "actors/common/deadlines.hpp"
#include "model/property/graph.hpp"

#include <fmt/format.h>

#include <utility>

namespace qubes::actors {

void uplink::join(const joined& ok, const refused& bad) {
  auto netvm = facts_.wanted();
  if (netvm.empty() || netvm == "dom0") {
    turn([](auto& x) { x.let_in(); });
    return ok();
  }
  ask(
      netvm,
      [this, netvm, ok] {
        if (facts_.wanted() == netvm)
          turn([](auto& x) { x.let_in(); });
        ok();
      },
      bad);
}

uplink::reservation uplink::reserve(const std::string& netvm) {
  auto held = reservation{};
  facts_.reserve(netvm); // told by the question itself
  held.hold_ = {nullptr, [of = weak_from_this(), netvm](void*) {
                  if (auto me = of.lock())
                    me->turn([&](auto& x) { x.release(netvm); });
                }};
  return held;
}

/// Why no actor is the netvm of that name.
model::error uplink::not_served_error(const std::string& netvm) const {
  using model::errc;
  auto now = world_->look();
  auto* x = now.find(netvm);
  if (!x)
    return {errc::vm_error, fmt::format("there is no netvm '{}'", netvm), {}};
  if (!model::provides_network(now.view(), *x))
    return {errc::vm_error,
            fmt::format("netvm of '{}': '{}' does not provide network", who_, netvm),
            "set its provides_network, or choose another netvm"};
  return {errc::vm_error,
          fmt::format("the part of the daemon that serves netvm '{}' is begun again", netvm),
          "try again in a moment; 'qvmctl status' tells why"};
}

/// The netvm is told by the question; after a refusal none counts us for it.
void uplink::ask(const std::string& netvm, const joined& ok, const refused& bad) {
  auto whom = find(netvm);
  if (!whom)
    return bad(not_served_error(netvm));
  told_[netvm] = whom;
  timed_request(self_, world_, whom, world_->settings.start, atom::join_v, who_,
                domain_actor{self_})
      .then([ok] { ok(); },
            [this, netvm, whom, bad](const caf::error& why) {
              auto reason = from_caf(why);
              if (reason.code == model::errc::timed_out) // the netvm would let us in later
                self_->send(whom, atom::leave_v, who_);
              told_.erase(netvm);
              tell_netvms();
              bad(reason);
            });
}

/// The netvm counts us from then on, also when it refuses.
void uplink::rejoin(const std::string& netvm, const joined& ok, const refused& bad) {
  auto whom = find(netvm);
  if (!whom)
    return bad(not_served_error(netvm));
  told_[netvm] = whom;
  timed_request(self_, world_, whom, world_->settings.host_call, atom::rejoin_v, who_,
                domain_actor{self_})
      .then([ok] { ok(); }, [bad](const caf::error& why) { bad(from_caf(why)); });
}

netvm_actor uplink::find(const std::string& netvm) const {
  auto actors = world_->directory.read();
  auto* entry = actors->find(netvm);
  return entry ? entry->netvm : netvm_actor{};
}

void uplink::tell_netvms() {
  auto wanted = facts_.netvms();
  std::erase_if(told_, [&](auto& x) {
    auto is = find(x.first);
    if (wanted.contains(x.first) && is == x.second)
      return false;
    if (is == x.second)
      self_->send(x.second, atom::leave_v, who_);
    return true;
  });
  for (auto& netvm : wanted) {
    auto whom = find(netvm);
    if (whom && told_.emplace(netvm, whom).second)
      self_->send(whom, atom::count_v, who_, domain_actor{self_});
  }
}

} // namespace qubes::actors
