// device: what domains offer to each other, which domain has it and which is to get it.
#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/references.hpp"
#include "bin/qvmctl/requests.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace qubes::ctl {

namespace {

using nlohmann::json;

/// BACKEND:PORT[:IDENTITY], as people write a device.
struct device_word {
  std::string backend;
  std::string argument; ///< BACKEND+PORT+IDENTITY
};

expected<device_word> parse_device(const std::string& text) {
  auto colon = text.find(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 == text.size())
    return usage_failure(fmt::format("'{}' is no device", text),
                         "BACKEND:PORT, for example sys-usb:sda; 'qvmctl device ls' shows them");
  auto backend = text.substr(0, colon);
  if (auto good = check_name(backend); !good)
    return tl::unexpected{good.error()};
  return device_word{backend, fmt::format("{}+{}", backend, encoded(text.substr(colon + 1)))};
}

expected<std::string> check_class(session& s, const std::string& klass) {
  auto known = device_classes(s);
  if (!known)
    return tl::unexpected{known.error()};
  if (std::find(known->begin(), known->end(), klass) == known->end())
    return usage_failure(fmt::format("no class of devices '{}'", klass), one_of(klass, *known));
  return klass;
}

expected<pairs> options_of(session& s) {
  auto result = pairs{};
  for (auto& x : s.line.device_options.all) {
    auto [key, value] = cut_pair(x);
    if (key.empty() || x.find('=') == std::string::npos)
      return usage_failure(fmt::format("--option takes KEY=VALUE, not '{}'", x),
                           "for example read-only=yes");
    result.emplace_back("_" + key, value);
  }
  if (s.line.read_only)
    result.emplace_back("_read-only", "yes");
  return result;
}

failure device_remedy(failure why, const std::string& domain, const std::string& klass,
                      const std::string& device) {
  if (!why.hint.empty())
    return why;
  if (why.klass == "QubesVMNotRunningError") { // its text has a remedy without names
    why.text = fmt::format("'{}' does not run", domain);
    why.hint = fmt::format("'qvmctl device assign {} {} {}' gives it at the next start", domain,
                           klass, device);
  } else if (why.klass == "ProtocolError" || why.klass == "DeviceNotAssigned") {
    why.hint = fmt::format("'qvmctl device ls {}' shows them", klass);
  }
  return why;
}

/// What a domain offers of a class: facts of each device.
expected<std::vector<pairs>> offered_by(session& s, const std::string& klass,
                                        const std::string& backend) {
  auto list = s.daemon.ask({fmt::format("admin.vm.device.{}.Available", klass), "", backend, ""});
  if (!list)
    return tl::unexpected{list.error()};
  auto result = std::vector<pairs>{};
  for (auto& line : lines_of(*list))
    result.push_back(parse_serialized(line.substr(std::min(line.find(' '), line.size()))));
  return result;
}

struct device_place {
  std::string backend, port;
};

/// Of BACKEND:PORT[:IDENTITY].
device_place place_of(const std::string& device) {
  auto backend = device.substr(0, device.find(':'));
  auto port = device.substr(backend.size() + 1);
  return {backend, port.substr(0, port.find(':'))};
}

/// Whether each of the domains has the device, as far as lists tell.
expected<void> check_attached(session& s, const std::string& klass, const std::string& device,
                              const std::vector<std::string>& domains) {
  const auto place = place_of(device);
  auto asked = std::vector<request>{};
  for (auto& x : domains)
    asked.push_back({fmt::format("admin.vm.device.{}.Attached", klass), "", x, ""});
  auto answers = ask_all(s, asked);
  for (auto i = std::size_t{0}; i < domains.size(); ++i) {
    if (!answers[i])
      return tl::unexpected{explain(s, answers[i].error(), domains[i], "")};
    auto there = std::ranges::any_of(lines_of(*answers[i]), [&](auto& line) {
      auto x = parse_assigned(klass, line);
      return x && x->backend == place.backend
             && x->argument.substr(0, x->argument.find('+')) == place.port;
    });
    if (!there)
      return tl::unexpected{
          failure{trouble::refused, "",
                  fmt::format("{} device {} is not attached to '{}'", klass, device, domains[i]),
                  fmt::format("'qvmctl device ls {}' shows them", klass)}};
  }
  return {};
}

/// Whether there are a device and domains that could have it, as far as lists tell.
expected<void> check_there(session& s, const std::string& klass, const std::string& device,
                           const std::vector<std::string>& domains) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  const auto [backend, port] = place_of(device);
  auto named = domains;
  named.push_back(backend);
  auto chosen = all->choose(named);
  if (!chosen)
    return tl::unexpected{chosen.error()};
  for (auto& x : domains)
    if (auto* who = all->find(x); !who->active())
      return tl::unexpected{
          failure{trouble::refused, "", fmt::format("'{}' is {} and not Running", x, who->state),
                  fmt::format("'qvmctl device assign {} {} {}' gives it at the next start", x,
                              klass, device)}};
  auto offered = offered_by(s, klass, backend);
  if (!offered)
    return tl::unexpected{offered.error()};
  for (auto& x : *offered)
    if (value_of(x, "port_id") == port)
      return {};
  return tl::unexpected{
      failure{trouble::refused, "",
              fmt::format("'{}' offers no device '{}' of class {}", backend, port, klass),
              fmt::format("'qvmctl device ls {}' shows them", klass)}};
}

/// A device may be given before it is there; the same line says that it is misspelt.
void tell_if_not_there(session& s, const std::string& klass, const std::string& device) {
  const auto place = place_of(device);
  auto offered = offered_by(s, klass, place.backend);
  auto is_there = [&](auto& x) { return value_of(x, "port_id") == place.port; };
  if (!offered || place.port == "*" || std::ranges::any_of(*offered, is_there))
    return;
  write_err(
      fmt::format("qvmctl: '{}' offers no {} device '{}' now\n", place.backend, klass, place.port));
}

/// A port stands for the device that is there now. Without its identity a domain that denies
/// interfaces is refused any. Where no list tells it, the daemon says what is wrong.
void add_identity(session& s, const std::string& klass, const std::string& word, device_word& to) {
  auto offered = offered_by(s, klass, to.backend);
  if (!offered)
    return;
  for (auto& x : *offered)
    if (fmt::format("{}:{}", to.backend, value_of(x, "port_id")) == word)
      to.argument += encoded(":" + value_of(x, "device_id"));
}

/// An argument of the Admin API as people write it, without an identity that stands for any.
std::string shown_device(const assigned_device& x) {
  auto port = x.argument.substr(0, x.argument.find('+'));
  return fmt::format("{}:{}", x.backend, port);
}

/// DOMAIN CLASS [DEVICE] of the command line; one request with what it says.
exit_code one_device(session& s, std::string_view what, pairs how, std::string_view past) {
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto device = parse_device(s.line.words[2]);
  if (!device)
    return report(s, device.error());
  auto klass = check_class(s, s.line.words[1]);
  if (!klass)
    return report(s, klass.error());
  auto options = options_of(s);
  if (!options)
    return report(s, options.error());
  how.insert(how.end(), options->begin(), options->end());
  if (what == "Attach" && !s.line.dry_run)
    add_identity(s, *klass, s.line.words[2], *device);
  auto changes = std::vector<change>{};
  auto planned = what == "Assign" || what == "Unassign";
  for (auto& x : *domains) {
    auto would = fmt::format("{}: {} would be {}", x, s.line.words[2], past);
    changes.push_back(
        {{fmt::format("admin.vm.device.{}.{}", *klass, what), device->argument, x, serialize(how)},
         device->backend,
         planned ? "" : would,
         planned ? would : ""});
  }
  if (s.line.dry_run && !planned)
    if (auto there =
            (what == "Detach" ? check_attached : check_there)(s, *klass, s.line.words[2], *domains);
        !there)
      return report(s, there.error());
  if (what == "Assign")
    tell_if_not_there(s, *klass, s.line.words[2]);
  if (changes.size() > 1 || s.line.dry_run)
    return make_changes(s, changes);
  auto answer = ask_all(s, {changes.front().what});
  if (answer.front())
    return exit_code::done;
  const auto& domain = domains->front();
  return report(s, device_remedy(explain(s, answer.front().error(), domain, ""), domain, *klass,
                                 s.line.words[2]));
}

/// Everything of a class that a domain has, when no device was named.
exit_code every_device(session& s, std::string_view list, std::string_view what) {
  auto domain = domain_word(s);
  if (!domain)
    return report(s, domain.error());
  auto klass = check_class(s, s.line.words[1]);
  if (!klass)
    return report(s, klass.error());
  auto lines = s.daemon.ask({fmt::format("admin.vm.device.{}.{}", *klass, list), "", *domain, ""});
  if (!lines)
    return report(s, explain(s, lines.error(), *domain, ""));
  auto changes = std::vector<change>{};
  for (auto& line : lines_of(*lines))
    if (auto x = parse_assigned(*klass, line)) {
      auto detach = what == "Detach";
      auto would = fmt::format("{}: {} would be {}", *domain, shown_device(*x),
                               detach ? "detached" : "unassigned");
      changes.push_back({{fmt::format("admin.vm.device.{}.{}", *klass, what),
                          fmt::format("{}+{}", x->backend, x->argument), *domain, ""},
                         "",
                         detach ? would : "",
                         detach ? "" : would});
    }
  if (changes.empty()) {
    write_err(fmt::format("nothing to {}: '{}' has no {} device {}\n", model::lower_case(what),
                          *domain, *klass, model::lower_case(list)));
    return exit_code::done;
  }
  return make_changes(s, changes);
}

} // namespace

exit_code run_device_ls(session& s) {
  auto classes = device_classes(s);
  if (!classes)
    return report(s, classes.error());
  auto domain = std::string{};
  if (!s.line.words.empty()) {
    if (std::find(classes->begin(), classes->end(), s.line.words[0]) != classes->end())
      classes = std::vector<std::string>{s.line.words[0]};
    else if (s.line.words.size() > 1)
      return report(s, check_class(s, s.line.words[0]).error());
    else
      domain = s.line.words[0];
  }
  if (s.line.words.size() > 1)
    domain = s.line.words[1];
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto about_whom = all->choose(domain.empty() ? std::vector<std::string>{} : parts_of(domain));
  if (!about_whom) {
    auto why = about_whom.error();
    if (s.line.words.size() == 1 && why.kind == trouble::refused)
      why.text = fmt::format("no domain and no class of devices '{}'", domain);
    return report(s, why);
  }
  struct question {
    std::string who, klass, list;
  };
  auto about = std::vector<question>{};
  auto asked = std::vector<request>{};
  for (auto& x : all->all())
    if (x.klass != "RemoteVM")
      for (auto& klass : *classes)
        for (auto list : {"Available", "Attached", "Assigned"})
          if (x.active() || list != std::string_view{"Attached"}) {
            about.push_back({x.name, klass, list});
            asked.push_back({fmt::format("admin.vm.device.{}.{}", klass, list), "", x.name, ""});
          }
  auto answers = ask_all(s, asked);
  struct row {
    std::string klass, device, about;
    std::vector<std::string> has, gets;
    bool there = false;
  };
  auto rows = std::map<std::pair<std::string, std::string>, row>{};
  for (auto i = std::size_t{0}; i < about.size(); ++i) {
    auto& [who, klass, list] = about[i];
    if (!answers[i])
      continue; // gone in between, or of no devices
    for (auto& line : lines_of(*answers[i])) {
      auto text = line.substr(std::min(line.find(' '), line.size()));
      auto facts = parse_serialized(text);
      auto backend = value_of(facts, "backend_domain");
      auto port = value_of(facts, "port_id");
      auto device = fmt::format("{}:{}", backend, port);
      auto& x = rows[{klass, device}];
      x.klass = klass;
      x.device = device;
      if (list == "Available") {
        x.there = true;
        auto words = std::vector<std::string>{};
        for (auto key : {"vendor", "product", "name", "serial"})
          if (auto value = value_of(facts, key); !value.empty())
            words.push_back(value);
        x.about = fmt::format("{}", fmt::join(words, " "));
      } else if (list == "Attached") {
        x.has.push_back(who);
      } else {
        x.gets.push_back(fmt::format("{} ({})", who, value_of(facts, "mode")));
      }
    }
  }
  auto result = output_table{
      {{"device"}, {"class"}, {"there"}, {"attached_to"}, {"assigned_to"}, {"description"}}};
  auto list = [](const std::vector<std::string>& some) {
    return some.empty() ? json{} : json(fmt::format("{}", fmt::join(some, ", ")));
  };
  for (auto& [key, x] : rows) {
    auto is_about = [&](const entry* who) {
      auto named = [&](const std::string& y) { return y.substr(0, y.find(' ')) == who->name; };
      return x.device.starts_with(who->name + ":") || std::ranges::any_of(x.has, named)
             || std::ranges::any_of(x.gets, named);
    };
    if (!domain.empty() && std::ranges::none_of(*about_whom, is_about))
      continue;
    result.add({{x.device, style::bold},
                {x.klass},
                {x.there},
                {list(x.has)},
                {list(x.gets)},
                {x.about.empty() ? json{} : json(x.about)}});
  }
  return print(s, result.render(s.as, s.out));
}

exit_code run_device_attach(session& s) {
  return one_device(s, "Attach", {}, "attached");
}

exit_code run_device_detach(session& s) {
  return s.line.words.size() > 2 ? one_device(s, "Detach", {}, "detached")
                                 : every_device(s, "Attached", "Detach");
}

exit_code run_device_assign(session& s) {
  if (s.line.required && s.line.ask)
    return report(
        s,
        usage_failure("--required and --ask exclude each other", "leave one of them out").value());
  auto mode = s.line.required ? "required" : s.line.ask ? "ask-to-attach" : "auto-attach";
  return one_device(s, "Assign", {{"mode", mode}}, "assigned");
}

exit_code run_device_unassign(session& s) {
  return s.line.words.size() > 2 ? one_device(s, "Unassign", {}, "unassigned")
                                 : every_device(s, "Assigned", "Unassign");
}

namespace {

constexpr auto code_length = std::size_t{7};

exit_code change_denied(session& s, const char* method) {
  auto payload = std::string{};
  for (auto i = std::size_t{1}; i < s.line.words.size(); ++i) {
    auto code = s.line.words[i];
    if (code == "all" && method == std::string_view{"admin.vm.device.denied.Remove"}) {
      payload = code;
      break;
    }
    if (code.size() < 2 || code.size() > code_length)
      return report(s, usage_failure(fmt::format("'{}' is no interface", code),
                                     "a letter and six digits, such as u03**** for USB input")
                           .value());
    payload += code + std::string(code_length - code.size(), '*');
  }
  if (!payload.empty())
    return change_everywhere(s, {{{method, "", "", payload}}});
  auto domains = domain_words(s);
  if (!domains)
    return report(s, domains.error());
  auto result = output_table{{{"domain"}, {"denied"}}};
  for (auto& x : *domains) {
    auto list = s.daemon.ask({"admin.vm.device.denied.List", "", x, ""});
    if (!list)
      return report(s, explain(s, list.error(), x, ""));
    for (auto& code : lines_of(*list))
      result.add({{x}, {code}});
  }
  return print(s, result.render(s.as, s.out));
}

} // namespace

exit_code run_device_deny(session& s) {
  return change_denied(s, "admin.vm.device.denied.Add");
}

exit_code run_device_allow(session& s) {
  return change_denied(s, "admin.vm.device.denied.Remove");
}

} // namespace qubes::ctl
