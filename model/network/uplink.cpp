#include "model/network/uplink.hpp"

namespace qubes::model {

std::set<std::string> uplink::netvms() const {
  auto result = std::set<std::string>(reserved_.begin(), reserved_.end());
  if (state_ != uplink_state::off)
    result.insert(wanted_);
  if (interface_)
    result.insert(interface_->netvm);
  result.erase("");
  return result;
}

/// Of a paused guest the interface follows when it goes on (spec/network.md §4).
uplink_step uplink::next(const surroundings& x) const {
  if (!has_guest() || held_)
    return uplink_step::rest;
  auto untold = x.serving && !guest_knows(*x.serving);
  if (x.paused)
    return untold ? uplink_step::tell : uplink_step::rest;
  if (interface_ && (state_ == uplink_state::stale || x.reborn || interface_->netvm != x.serving))
    return uplink_step::unplug;
  if (x.serving && !interface_)
    return uplink_step::plug;
  return untold ? uplink_step::tell : uplink_step::rest; // the record moved there and back
}

void uplink::begins(std::string netvm) {
  wanted_ = std::move(netvm);
  move(uplink_news::begins);
}

void uplink::wants(const std::string& netvm) {
  if (netvm == wanted_)
    return;
  wanted_ = netvm;
  move(uplink_news::moved);
}

void uplink::has_guest_at(std::optional<network_link> interface) {
  interface_ = std::move(interface);
  move(interface_ ? uplink_news::plugged : uplink_news::guest);
}

void uplink::plugged(network_link interface) {
  interface_ = std::move(interface);
  move(uplink_news::plugged);
}

void uplink::unplugged() {
  interface_.reset();
  move(uplink_news::unplugged);
}

/// Other netvms that count the domain may fall without harm.
void uplink::fell(const std::string& netvm) {
  if (interface_ ? interface_->netvm == netvm : wanted_ == netvm)
    move(uplink_news::fell);
}

void uplink::guest_gone() {
  interface_.reset();
  told_.clear();
  move(uplink_news::gone);
}

void uplink::ends() {
  guest_gone();
  held_ = false;
  move(uplink_news::ends);
}

void uplink::release(const std::string& netvm) {
  if (auto i = reserved_.find(netvm); i != reserved_.end())
    reserved_.erase(i);
}

} // namespace qubes::model
