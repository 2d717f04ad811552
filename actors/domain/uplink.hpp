// The one place from which netvms hear that a domain is, or is not, their client.
#pragma once

#include "actors/common/world.hpp"
#include "model/base/error.hpp"
#include "model/network/uplink.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>

namespace qubes::actors {

/// Owned by a domain's actor. Whatever happens to the link goes through `turn`; the netvms that
/// must count the domain hear of it at once, and so do those that need not any more.
class uplink : public std::enable_shared_from_this<uplink> {
public:
  /// A netvm counts the domain as its client for as long as this is held.
  class reservation {
  public:
    reservation() = default;

  private:
    friend uplink;
    std::shared_ptr<void> hold_;
  };

  uplink(domain_actor::pointer self, world_ptr in, std::string who)
      : self_(self), world_(std::move(in)), who_(std::move(who)) {}

  const model::uplink& now() const { return facts_; }

  template <class What>
  void turn(What what) {
    what(facts_);
    tell_netvms();
  }

  using joined = std::function<void()>;
  using refused = std::function<void(const model::error&)>;

  /// A start has come to the network: the domain will join this netvm, "" for none.
  void expect(std::string netvm) { facts_.begins(std::move(netvm)); } // told when it joins

  /// For a start: waits until the netvm that is wanted is up, and lets it in. It may be another one
  /// by then.
  void join(const joined& ok, const refused& bad);

  /// For a change that leads to this netvm.
  reservation reserve(const std::string& netvm);

  /// Waits until that netvm is up and counts the domain.
  void ask(const std::string& netvm, const joined& ok, const refused& bad);

  /// For an interface of a domain that runs: starts no netvm. Refused where that netvm does not
  /// serve, which calls then when it does.
  void rejoin(const std::string& netvm, const joined& ok, const refused& bad);

private:
  netvm_actor find(const std::string& netvm) const;
  model::error not_served_error(const std::string& netvm) const;
  void tell_netvms();

  domain_actor::pointer self_;
  world_ptr world_;
  std::string who_;
  model::uplink facts_;
  std::map<std::string, netvm_actor> told_; ///< netvms that count us: these very actors
};

} // namespace qubes::actors
