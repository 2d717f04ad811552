// A domain's devices: those that it has of others, and those that it offers to others
// (spec/devices.md).
#pragma once

#include "actors/domain/core.hpp"
#include "messages/cancellation.hpp"
#include "model/device/device.hpp"

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace qubes::actors {

/// Owns what is attached, under way or leaving in this life, what others were told of the devices
/// that the domain offers, and the questions to the user about them. A device is attached once its
/// holder is known on the board, and gone only once the hypervisor has it no more.
/// Needs: no other part.
class domain_devices {
public:
  explicit domain_devices(domain_core& domain) : domain_(domain) {}

  static constexpr auto block = "block"; ///< class of devices

  // -- what the domain has (devices.cpp) ----------------------------------------------------------

  void carry_out(const ask::list_available& x, const reply& to);
  void carry_out(const ask::list_attached& x, const reply& to);
  void carry_out(const ask::attach_device& x, const reply& to);
  void carry_out(const ask::detach_device& x, const reply& to);
  /// The actor begins again: what it had is on the board.
  void adopt();
  /// The guest was found to have these.
  void identify(const std::vector<model::attachment>& all, const std::function<void()>& then);
  void cannot_tell(const model::error& why);
  void give_back(const model::attachment& x);
  /// The life is over, and so is what was attached to it.
  void drop_attachments();
  void forget_pause() { pause_ = {}; }
  /// A moment has passed: what failed is tried again when it is due.
  void tick();

  // -- the microphone (microphone.cpp) ------------------------------------------------------------

  void forget_sound();
  void move_sound(const model::system_ptr& before, const model::change& what);

  // -- devices that come and go (hotplug.cpp) -----------------------------------------------------

  void hear(const guest_news& x);
  void hear(const device_request& x);
  void tell_changed();
  void look_at_all();
  void offers_nothing();
  void forget_offers();
  void offer_next(const port_freed& x);
  void withdraw_questions();
  void review_questions();
  /// A backend passed it a device.
  void gain(const device_passed& what);
  /// A backend offers one.
  void take(const device_available& x);
  /// A backend says that it is gone.
  void lose(const device_removed& what);
  /// What the domain's assignments promise.
  void take_assigned();
  void take_assigned_again();

  /// Running domains that may have what the assignments of this class speak of.
  std::vector<std::string>
  backends_of(const model::domain& me, std::string_view kind,
              const std::function<bool(const model::assignment&)>& counts) const;
  void with_all_devices(const std::string& kind, std::vector<std::string> backends,
                        const std::function<void(std::vector<model::device>)>& then,
                        std::vector<model::device> found = {});

private:
  /// Refuses what has no room for devices.
  model::outcome<void> takes_devices(const snapshot& now) const;
  void with_devices(const std::string& kind, const std::string& backend, const reply& to,
                    const std::function<void(std::vector<model::device>)>& then);
  void with_offers(const std::string& kind, const std::string& backend, const reply& to,
                   const std::function<void(std::vector<model::device>)>& then);
  void put_off_what_was_told(const std::string& kind, const reply& to,
                             const std::function<void(const std::vector<model::device>&)>& then);
  void with_holders(const std::string& kind, std::vector<model::device>& all) const;
  void with_attached(const std::string& kind, const reply& to,
                     const std::function<void(std::vector<model::attachment>)>& then);
  enum class asked_by : bool { order, assignment };
  void attach_known(const std::string& kind, const model::device& device,
                    const model::device_options& options, asked_by who, const reply& to);
  void bring(model::attachment x, const model::device& device, asked_by who, const reply& to);
  void brought(const model::attachment& x);
  void not_brought(const model::attachment& x, const model::error& why, const reply& to);
  void take_away(
      const model::attachment& x, const std::function<void()>& attempted = [] {});
  void align();
  model::outcome<model::device_options> options_for(const std::string& kind,
                                                    const model::device& device,
                                                    const model::device_options& given) const;
  model::outcome<driver_job> carry(const model::attachment& x, bool to_us) const;
  bool has_lost(const model::attachment& x);
  std::string device_xml(const model::attachment& x) const;
  std::vector<model::attachment> in_use() const;
  void has(std::vector<model::attachment> all, const std::vector<model::device>& disks);
  void learn();

  void with_sound_entry(const model::domain* player, const reply& to,
                        const std::function<void(std::optional<std::string>)>& then);
  void with_microphone(const reply& to,
                       const std::function<void(std::vector<model::attachment>)>& then);
  model::outcome<driver_job> let_sound_in(bool on) const;

  void look_at(const std::string& kind);
  void devices_are(const std::string& kind, const std::vector<model::device>& all,
                   const std::map<std::string, std::string>& had);
  void tell_holders(const std::string& kind,
                    const std::optional<std::vector<model::device>>& before,
                    const std::vector<model::device>& all,
                    const std::map<std::string, std::string>& had);
  void is_gone(const std::string& kind, const model::device& x, std::string_view identity);
  /// A domain that wants a device of ours, and by which of its assignments.
  struct candidate {
    std::string who;
    model::assignment how;
    std::int32_t xid; ///< of the life that wants it
  };
  candidate candidate_of(const model::view& v, const model::domain& who,
                         const model::assignment& how) const;
  void offer(const std::string& kind, const model::device& x);
  bool still_offers(const std::string& kind, const model::device& x) const;
  void ask_user(const std::string& kind, const model::device& x, const std::vector<candidate>& all);
  void give(const std::string& kind, const model::device& x, const candidate& to);
  void withdraw_questions(const std::string& kind, const std::string& port);
  void publish_questions();
  bool still_wants(const candidate& x, const std::string& kind, const model::device& what) const;
  void take_assigned_of(const std::string& kind);

  domain_core& domain_;
  std::vector<model::attachment> attached_;       ///< for this life
  std::vector<model::attachment> attaching_;      ///< under way
  std::vector<model::attachment> leaving_;        ///< until the hypervisor has none of it
  std::vector<device_removed> removed_meanwhile_; ///< of what is being attached
  bool unknown_ = false;                          ///< what it has could not be read
  back_off pause_;                                ///< between attempts at either
  /// Devices of a class that the domain offers.
  struct offers {
    std::optional<std::vector<model::device>> told; ///< as far as others were
    bool looking = false;
    bool look_again = false;
    std::vector<model::device> next; ///< at ports that others have not given back yet
  };
  std::map<std::string, offers, std::less<>> offers_; ///< by class
  /// The user is asked about a device of ours.
  struct question {
    std::string kind;
    model::device what;
    std::vector<candidate> candidates;
    cancellation_ptr signs;
  };
  std::vector<question> questions_;
  std::set<std::string> changed_; ///< classes, to be told when the change is over
};

} // namespace qubes::actors
