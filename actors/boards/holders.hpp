// Which domain has which device of which backend. A device has one holder: an actor that wants one
// tests and takes it in one step. Devices that many may have, as the microphone, are not in it.
#pragma once

#include "messages/published.hpp"
#include "model/device/device.hpp"

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace qubes::actors {

class device_holders {
public:
  /// Class, backend and port there.
  using place = std::tuple<std::string, std::string, std::string>;

  static place place_of(const model::attachment& x) { return {x.kind, x.backend, x.port}; }

  /// Refused while any domain, `who` as well, has what is there, or may have it.
  model::outcome<void> take(const model::attachment& x, const std::string& who);

  /// The hypervisor or the backend says so, whatever was known before.
  void found(const model::attachment& x, const std::string& who);

  /// The device that `who` took has come.
  void brought(const place& x, const std::string& who);

  /// By port of this backend: which domain has been brought what is there now.
  std::map<std::string, std::string> holders_known(std::string_view kind,
                                                   std::string_view backend) const;

  /// True when the device of `who` was gone from its port already: the port is free from now on.
  bool give_back(const place& x, const std::string& who);

  /// All that a domain has, at the end of its life. The places where something else may be by now.
  std::vector<place> give_back_all(const std::string& who);

  /// What was at this port, "" for whatever it was, is not there any more. Returns the domains that
  /// had it. Until they have given it back, no domain gets what comes in its place.
  std::vector<std::string> vacate(const place& x, std::string_view identity);

  /// The domain that has what is at this port now, "" for none.
  std::string holder(const place& x) const;

  /// Whether a domain has it, or still has what was there before.
  bool is_taken(const place& x) const;

  /// Places at this backend that a domain has.
  std::vector<place> of_backend(std::string_view backend) const;
  std::vector<model::attachment> of_holder(std::string_view who) const;

  /// What a running domain has is not known for now: no other domain gets what it might have.
  void doubt(const std::string& who);
  void know(const std::string& who);

private:
  struct holding {
    std::string who;
    model::attachment what;
    bool brought = false; ///< else it may be on its way
    bool vacated = false; ///< the device is gone from the port
  };
  struct state {
    std::map<place, std::vector<holding>> holdings; ///< several only where the hypervisor says so
    std::set<std::string> unknown;
  };

  published<state> state_;
};

} // namespace qubes::actors
