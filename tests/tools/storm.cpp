#include "storm.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <deque>
#include <string_view>
#include <thread>

namespace qubes::tools {

namespace {

struct move {
  std::string_view method;
  std::string_view argument;
  unsigned weight;
  bool forces; ///< takes a netvm from its clients
};

constexpr std::array moves{
    move{"admin.vm.Start", "", 34, false},
    move{"admin.vm.Shutdown", "", 8, false},
    move{"admin.vm.Shutdown", "wait", 8, false},
    move{"admin.vm.Shutdown", "force", 2, true},
    move{"admin.vm.Kill", "", 6, true},
    move{"admin.vm.Pause", "", 9, false},
    move{"admin.vm.Unpause", "", 12, false},
    move{"admin.vm.CurrentState", "", 3, false},
    move{"admin.vm.property.GetAll", "", 3, false},
    move{"admin.vm.List", "", 3, false},
};

struct field {
  edit_kind kind;
  std::string_view name;
  std::array<std::string_view, 3> values;
};

constexpr std::array fields{
    field{edit_kind::property, "memory", {"400", "512", "1024"}},
    field{edit_kind::property, "vcpus", {"1", "2", "4"}},
    field{edit_kind::property, "label", {"red", "blue", "purple"}},
    field{edit_kind::property, "debug", {"True", "False", "True"}},
    field{edit_kind::property, "include_in_backups", {"True", "False", "True"}},
    field{edit_kind::property, "default_user", {"user", "jan", "ewa.n"}},
    field{edit_kind::property, "qrexec_timeout", {"60", "120", "300"}},
    field{edit_kind::feature, "stress", {"", "1", "a b <&>\"'"}},
};

template <class Range>
const auto& pick(const Range& from, dice& chance) {
  return from[chance() % std::size(from)];
}

const move& pick_move(dice& chance) {
  unsigned total = 0;
  for (const auto& x : moves)
    total += x.weight;
  auto point = chance() % total;
  for (const auto& x : moves) {
    if (point < x.weight)
      return x;
    point -= x.weight;
  }
  return moves.front();
}

request edit_request(const edit_key& key, const edit_value& value) {
  std::string method = key.kind == edit_kind::property ? "admin.vm.property." : "admin.vm.feature.";
  if (!value)
    method += key.kind == edit_kind::property ? "Reset" : "Remove";
  else
    method += "Set";
  return {method, key.name, key.domain, value.value_or("")};
}

/// This netvm is never killed, so that for its clients "no client runs without its netvm" always
/// holds.
bool is_never_killed(const stage& on, const std::string& domain) {
  return on.names.providers.size() > 1 && domain == on.names.providers[1];
}

void live(stage& on, dice& chance) {
  bool provider = !on.names.providers.empty() && chance() % 8 == 0;
  const auto& domain = pick(provider ? on.names.providers : on.names.apps, chance);
  const auto& what = pick_move(chance);
  if (what.forces && is_never_killed(on, domain))
    return;
  if (what.forces)
    on.forced(domain);
  on.ask({std::string{what.method}, std::string{what.argument}, domain, ""});
}

void edit(stage& on, const std::vector<std::string>& own, ledger& acknowledged, dice& chance) {
  edit_key key{edit_kind::property, pick(own, chance), "netvm"};
  edit_value value;
  if (chance() % 4 == 0) {
    auto choice = chance() % (on.names.providers.size() + 2);
    if (choice < on.names.providers.size())
      value = on.names.providers[choice];
    else if (choice == on.names.providers.size())
      value = "";
  } else {
    const auto& what = pick(fields, chance);
    key.kind = what.kind;
    key.name = what.name;
    if (what.name == "label" || chance() % 6 != 0) // a label cannot be taken away
      value = pick(what.values, chance);
  }
  acknowledged.note(key, value, on.ask(edit_request(key, value)));
}

} // namespace

reply stage::ask(const request& what) {
  auto before = epoch();
  auto answer = call(daemon.socket(), what);
  bool excused = disturbed_since(before);
  auto label = answer.label();
  bool fair = answer.fair();
  {
    std::lock_guard lock{mutex_};
    ++tally_[what.method][fair || !excused ? label : "(daemon killed)"];
    if (label == "QubesException")
      puzzling_[what.method] = answer.message;
  }
  if (!fair && !excused)
    violation(fmt::format("{}+{} {}: {}", what.method, what.argument, what.target, label));
  if (!fair)
    std::this_thread::sleep_for(2ms);
  return answer;
}

void stage::crash() {
  ++epoch_;
  daemon.crash();
  daemon.start();
  ++epoch_;
}

void stage::violation(std::string what) {
  constexpr std::size_t enough = 1000;
  std::lock_guard lock{mutex_};
  if (violations_.size() < enough)
    violations_.push_back(std::move(what));
}

std::vector<std::string> stage::violations() const {
  std::lock_guard lock{mutex_};
  return violations_;
}

void stage::forced(const std::string& domain) {
  std::lock_guard lock{mutex_};
  forced_.insert(domain);
}

bool stage::was_forced(const std::string& domain) const {
  std::lock_guard lock{mutex_};
  return forced_.contains(domain);
}

std::map<std::string, std::map<std::string, std::size_t>> stage::tally() const {
  std::lock_guard lock{mutex_};
  return tally_;
}

std::map<std::string, std::string> stage::puzzling() const {
  std::lock_guard lock{mutex_};
  return puzzling_;
}

ledger storm(stage& on, std::size_t index, std::size_t count, std::uint64_t seed) {
  dice chance{seed * 1000 + index};
  std::vector<std::string> own;
  for (std::size_t i = index; i < on.names.apps.size(); i += count)
    own.push_back(on.names.apps[i]);
  ledger acknowledged;
  while (!on.over)
    if (own.empty() || chance() % 3 != 0)
      live(on, chance);
    else
      edit(on, own, acknowledged, chance);
  return acknowledged;
}

samples read_steadily(stage& on, std::uint64_t seed) {
  dice chance{seed};
  samples times;
  while (!on.over) {
    auto before = on.epoch();
    request what{"admin.vm.property.Get", "label", pick(on.names.apps, chance), ""};
    auto took = timed([&] { on.ask(what); });
    if (!on.disturbed_since(before))
      times.add(took);
    std::this_thread::sleep_for(1ms);
  }
  return times;
}

std::map<std::string, bool> follow_events(stage& on) {
  std::map<std::string, bool> up;
  while (!on.quiet) {
    auto epoch = on.epoch();
    auto fd = connect_to(on.daemon.socket());
    if (!fd) {
      std::this_thread::sleep_for(1ms);
      continue;
    }
    up.clear();
    send_all(fd.get(), request{"admin.Events", "", "dom0", ""}.bytes());
    ::shutdown(fd.get(), SHUT_WR);
    std::string bytes;
    std::array<char, 65536> buffer;
    for (;;) {
      pollfd ready{fd.get(), POLLIN, 0};
      if (::poll(&ready, 1, 300) == 0) {
        if (on.quiet)
          break;
        continue;
      }
      auto got = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
      if (got <= 0) {
        if (!on.disturbed_since(epoch))
          on.violation("a listener that reads was disconnected");
        break;
      }
      bytes.append(buffer.data(), static_cast<std::size_t>(got));
      for (const auto& x : take_events(bytes))
        if (x.name == "domain-start" || x.name == "domain-stopped")
          up[x.subject] = x.name == "domain-start";
    }
  }
  return up;
}

void vandalise(stage& on, std::uint64_t seed) {
  dice chance{seed};
  std::deque<unique_fd> held; // open and silent
  auto random_bytes = [&](std::size_t size) {
    std::string bytes(size, '\0');
    for (auto& byte : bytes)
      byte = static_cast<char>(chance() % 256);
    return bytes;
  };
  const request good{"admin.vm.property.Get", "label", on.names.apps.front(), ""};
  while (!on.over) {
    auto fd = connect_to(on.daemon.socket());
    auto whole = good.bytes();
    switch (fd ? chance() % 7 : 7) {
    case 0: send_all(fd.get(), random_bytes(chance() % 3000)); break;
    case 1: send_all(fd.get(), whole.substr(0, chance() % whole.size())); break;
    case 2: send_all(fd.get(), std::string(70000, 'x')); break;
    case 3: // asks and does not wait for the answer
      send_all(fd.get(), whole);
      ::shutdown(fd.get(), SHUT_WR);
      break;
    case 4: // half a request, and silence
      send_all(fd.get(), whole.substr(0, whole.size() / 2));
      held.push_back(std::move(fd));
      break;
    case 5: // asks for events and never reads them
      send_all(fd.get(), request{"admin.Events", "", "dom0", ""}.bytes());
      ::shutdown(fd.get(), SHUT_WR);
      held.push_back(std::move(fd));
      break;
    case 6: { // slow, but right
      auto before = on.epoch();
      for (char byte : whole)
        send_all(fd.get(), {&byte, 1});
      ::shutdown(fd.get(), SHUT_WR);
      std::string bytes;
      std::array<char, 256> buffer;
      for (ssize_t got; (got = ::recv(fd.get(), buffer.data(), buffer.size(), 0)) > 0;)
        bytes.append(buffer.data(), static_cast<std::size_t>(got));
      if (!parse_reply(bytes).ok() && !on.disturbed_since(before))
        on.violation("a request sent byte by byte was not answered");
      break;
    }
    default: break;
    }
    if (held.size() > 64)
      held.pop_front();
    std::this_thread::sleep_for(2ms);
  }
}

} // namespace qubes::tools
