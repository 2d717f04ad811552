#include "tests/actors/requests.hpp"

#include "messages/admin_api.hpp"

#include <algorithm>
#include <iterator>

namespace qubes::tests {

namespace {

struct row {
  std::string_view method; ///< a method, or the beginning of several
  sound_request what;
};

/// The row with the longest beginning counts.
constexpr row rows[]{
    {"admin.label.", {"mauve", "", "dom0"}},
    {"admin.label.Create", {"teal", "0x008080", "dom0"}},
    {"admin.pool.", {"big", "", "dom0"}},
    {"admin.pool.Add", {"file", "name=new\ndir_path=/srv/new", "dom0"}},
    {"admin.pool.Set.ephemeral_volatile", {"big", "yes", "dom0"}},
    {"admin.pool.Set.revisions_to_keep", {"big", "2", "dom0"}},
    {"admin.property.", {"default_netvm", "sys-firewall", "dom0"}},
    {"admin.vm.", {"", "", "work"}},
    {"admin.vm.Create.", {"", "name=fresh label=red", "dom0"}},
    {"admin.vm.Create.AppVM", {"debian", "name=fresh label=red", "dom0"}},
    {"admin.vm.Create.DispVM", {"dvm", "name=fresh label=red", "dom0"}},
    {"admin.vm.CreateDisposable", {"", "", "dvm"}},
    {"admin.vm.CreateInPool.", {"", "name=fresh label=red pool=big", "dom0"}},
    {"admin.vm.CreateInPool.AppVM", {"debian", "name=fresh label=red pool:private=big", "dom0"}},
    {"admin.vm.CreateInPool.DispVM", {"dvm", "name=fresh label=red", "dom0"}},
    {"admin.vm.Shutdown", {"force", "", "work"}},
    {"admin.vm.device.block.", {"vault+sda", "", "work"}},
    {"admin.vm.device.block.Assign", {"vault+sdb", "mode='auto-attach' _read-only='yes'", "work"}},
    {"admin.vm.device.block.Assigned", {"", "", "work"}},
    {"admin.vm.device.block.Attached", {"", "", "work"}},
    {"admin.vm.device.block.Available", {"", "", "work"}},
    {"admin.vm.device.block.Set.assignment", {"vault+sda", "required", "work"}},
    {"admin.vm.device.denied.", {"", "b******", "work"}},
    {"admin.vm.device.mic.", {"dom0+mic", "", "work"}},
    {"admin.vm.device.mic.Assign", {"dom0+mic", "mode='auto-attach'", "work"}},
    {"admin.vm.device.mic.Assigned", {"", "", "work"}},
    {"admin.vm.device.mic.Attached", {"", "", "work"}},
    {"admin.vm.device.mic.Available", {"", "", "dom0"}},
    {"admin.vm.device.mic.Set.assignment", {"dom0+mic", "required", "work"}},
    {"admin.vm.device.pci.", {"dom0+00_14.0", "", "work"}},
    {"admin.vm.device.pci.Assign", {"dom0+00_14.0", "mode='required'", "work"}},
    {"admin.vm.device.pci.Assigned", {"", "", "work"}},
    {"admin.vm.device.pci.Attached", {"", "", "work"}},
    {"admin.vm.device.pci.Available", {"", "", "dom0"}},
    {"admin.vm.device.pci.Set.assignment", {"dom0+00_14.0", "required", "work"}},
    {"admin.vm.device.usb.", {"vault+2-1", "", "work"}},
    {"admin.vm.device.usb.Assign", {"vault+2-1", "mode='auto-attach'", "work"}},
    {"admin.vm.device.usb.Assigned", {"", "", "work"}},
    {"admin.vm.device.usb.Attached", {"", "", "work"}},
    {"admin.vm.device.usb.Available", {"", "", "work"}},
    {"admin.vm.device.usb.Set.assignment", {"vault+2-1", "required", "work"}},
    {"admin.vm.device.webcam.", {"vault+video0", "", "work"}},
    {"admin.vm.device.webcam.Assign", {"vault+video0", "mode='auto-attach'", "work"}},
    {"admin.vm.device.webcam.Assigned", {"", "", "work"}},
    {"admin.vm.device.webcam.Attached", {"", "", "work"}},
    {"admin.vm.device.webcam.Available", {"", "", "work"}},
    {"admin.vm.device.webcam.Set.assignment", {"vault+video0", "required", "work"}},
    {"admin.vm.feature.", {"service.clocksync", "1", "work"}},
    {"admin.vm.firewall.Set", {"", "action=accept dst4=10.0.0.1 proto=tcp dstports=1-2", "work"}},
    {"admin.vm.notes.Set", {"", "a note\nof two lines", "work"}},
    {"admin.vm.property.", {"memory", "400", "work"}},
    {"admin.vm.tag.", {"team", "", "work"}},
    {"admin.vm.volume.", {"private", "", "work"}},
    {"admin.vm.volume.CloneTo", {"private", "abcdefghijklmnopqrstuvwxyzABCDEF", "work"}},
    {"admin.vm.volume.Resize", {"private", "4294967296", "work"}},
    {"admin.vm.volume.Revert", {"private", "1", "work"}},
    {"admin.vm.volume.Set.ephemeral", {"volatile", "yes", "work"}},
    {"admin.vm.volume.Set.revisions_to_keep", {"private", "1", "work"}},
    {"admin.vm.volume.Set.rw", {"private", "no", "work"}},
    {"internal.vm.volume.ImportBegin", {"private", "4096", "work"}},
    {"internal.vm.volume.ImportEnd", {"private", "ok", "work"}},
    {"qubes.NotifyUpdates", {"", "3", "dom0"}},
    {"qvmd.Plan", {"admin.vm.property.Set+memory", "512", "work"}},
    {"qvmd.VolumeExport", {"private", "", "work"}},
};

std::string_view if_wanted(std::string_view text, actors::presence x) {
  if (x == actors::presence::none)
    return "";
  return text.empty() && x == actors::presence::required ? "x" : text;
}

} // namespace

sound_request sound_request_of(const actors::method& x) {
  auto best = row{"", {"", "", "work"}};
  for (auto& y : rows)
    if (x.name.starts_with(y.method) && y.method.size() >= best.method.size())
      best = y;
  auto result = best.what;
  result.argument = if_wanted(result.argument, x.argument);
  result.payload = if_wanted(result.payload, x.payload);
  if (x.destination == actors::target::dom0)
    result.destination = "dom0";
  return result;
}

std::string bytes_of(std::string_view method, std::string_view argument, std::string_view source,
                     std::string_view destination, std::string_view payload) {
  return api::request_frame({.method = std::string{method},
                             .argument = std::string{argument},
                             .source = std::string{source},
                             .destination = std::string{destination},
                             .payload = std::string{payload}});
}

std::string refused(std::string_view kind) {
  return std::string{"2\0", 2} + std::string{kind} + std::string(2, '\0');
}

std::string_view class_of(std::string_view frame) {
  constexpr auto refusal = std::string_view{"2\0", 2};
  if (!frame.starts_with(refusal))
    return {};
  frame.remove_prefix(refusal.size());
  return frame.substr(0, frame.find('\0'));
}

std::string complaint_about(std::string_view frame) {
  constexpr auto shortest = std::size_t{6};
  constexpr auto longest = std::size_t{2000};
  if (frame.starts_with(std::string_view{"0\0", 2})
      || frame.starts_with(std::string_view{"1\0", 2}))
    return {};
  auto kind = class_of(frame);
  if (kind.empty()
      || std::ranges::none_of(model::error_rows, [&](auto& x) { return x.wire == kind; }))
    return "neither a reply nor a refusal of a known class";
  frame.remove_prefix(2 + kind.size() + 1);
  if (!frame.starts_with('\0') || !frame.ends_with('\0'))
    return "a refusal is CLASS, nothing, SENTENCE";
  auto sentence = frame.substr(1, frame.size() - 2);
  if (sentence.size() < shortest || sentence.size() > longest)
    return "the sentence is missing or endless";
  if (!std::ranges::all_of(sentence, [](char c) { return c >= ' ' && c <= '~'; }))
    return "the sentence has characters that cannot be printed";
  if (std::ranges::count(sentence, '%') % 2 != 0)
    return "a single % breaks the client, which formats it";
  if (sentence.starts_with("a part of the daemon ended")) // a client's words may stand behind it
    return "an actor died of it";
  return {};
}

std::string shown(std::string_view bytes) {
  constexpr auto most = std::size_t{200};
  auto result = std::string{bytes.substr(0, most)};
  for (auto& c : result)
    if (c < ' ' || c > '~')
      c = '?';
  return bytes.size() > most ? result + "..." : result;
}

} // namespace qubes::tests
