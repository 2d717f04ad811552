#include "model/xml/firewall_xml.hpp"

#include "model/base/address.hpp"
#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/source.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

namespace qubes::model::xml {

namespace {

/// How files of version 1 begin; the version itself came later.
constexpr auto of_release_3 = std::string_view{"QubesFirewallRules"};

/// Case means nothing in names of hosts, and older releases wrote them as they were typed.
std::string lower(std::string_view text) {
  auto result = std::string{text};
  for (auto& x : result)
    x = is_upper(x) ? static_cast<char>(x - 'A' + 'a') : x;
  return result;
}

bool is_destination(std::string_view key) {
  return key.starts_with("dst") && key != "dstports";
}

class reader {
public:
  firewall_file run(std::string_view text) {
    if (auto read = read_file(text); !read) {
      result_.findings.push_back(
          fmt::format("{}; until it is mended, nothing may pass", read.error().text));
      result_.rules = drop_all();
    }
    return std::move(result_);
  }

private:
  static tl::unexpected<error> damaged(std::string_view why) {
    return fail(errc::vm_error, fmt::format("it {}", why));
  }

  outcome<void> read_file(std::string_view text) {
    if (text.size() > largest_firewall)
      return damaged(fmt::format("is larger than {} bytes", largest_firewall));
    auto checked = source::open(text, "it");
    if (!checked)
      return tl::unexpected{std::move(checked.error())};
    auto root = checked->root();
    if (root.name() != std::string_view{"firewall"} && root.name() != of_release_3)
      return damaged(fmt::format("begins with {}", quoted(root.name())));
    if (auto twice = doubled_attribute(root); !twice.empty())
      return damaged(fmt::format("has the attribute {} twice", quoted(twice)));
    auto version = has_attribute(root, "version") ? attribute(root, "version") : "1";
    if (version == "1")
      return read_old_rules(root);
    if (version == "2")
      return read_rules(root);
    return damaged(fmt::format("has the version {}, which is not known", quoted(version)));
  }

  outcome<void> read_rules(const pugi::xml_node& root) {
    auto list = only_child(root, "rules");
    if (!list)
      return damaged(list.error().text);
    for (auto x : list->children())
      if (is_element(x))
        read_rule(x);
    return {};
  }

  /// Text anywhere else would be left out in silence, and may be what forbids.
  static outcome<pugi::xml_node> only_child(const pugi::xml_node& x, const char* name) {
    auto wanted = x.child(name);
    if (!wanted)
      return fail(errc::value, fmt::format("has no <{}>", name));
    for (auto y : x.children())
      if (is_element(y) && y != wanted)
        return fail(errc::value, fmt::format("has {} beside its <{}>", quoted(y.name()), name));
    if (!trimmed(text_of(x)).empty())
      return fail(errc::value, fmt::format("has text beside its <{}>", name));
    return wanted;
  }

  /// All of a rule is read, whatever is wrong with a part: its action and its end tell how to go
  /// on.
  void read_rule(const pugi::xml_node& x) {
    auto rule = firewall_rule{};
    auto sound = outcome<void>{};
    auto has_action = false;
    auto properties = only_child(x, "properties");
    if (x.name() != std::string_view{"rule"})
      sound = fail(errc::value, fmt::format("{} is no <rule>", quoted(x.name())));
    else if (!properties)
      sound = fail(errc::value, "it " + properties.error().text);
    for (auto y : x.child("properties").children()) {
      if (y.name() != std::string_view{"property"}) {
        auto meant = is_element(y) ? std::string_view{y.name()} : trimmed(y.value());
        if (sound && !meant.empty())
          sound = fail(errc::value, fmt::format("{} is no <property>", quoted(meant)));
        continue;
      }
      auto name = attribute(y, "name");
      auto text = is_destination(name) ? lower(text_of(y)) : text_of(y);
      has_action |= name == "action";
      auto read = doubled_attribute(y).empty()
                      ? read_field(rule, name, text)
                      : outcome<void>{fail(errc::value, "a property has an attribute twice")};
      if (!read && name == "comment")
        result_.findings.push_back(
            fmt::format("rule {} has no comment: {}", place_ + 1, read.error().message()));
      else if (!read && sound)
        sound = std::move(read);
    }
    if (sound && !has_action)
      sound = fail(errc::value, "it has no action");
    if (sound)
      sound = check_fields(rule);
    add(std::move(rule), sound);
  }

  void add(firewall_rule rule, const outcome<void>& sound) {
    ++place_;
    if (sound) {
      result_.rules.push_back(std::move(rule));
      return;
    }
    result_.findings.push_back(
        fmt::format("rule {} {}: {}", place_,
                    rule.accept ? "is left out" : "drops all, and nothing after it counts",
                    sound.error().message()));
    if (rule.accept)
      return;
    auto all = drop_all().front();
    all.expire = std::move(rule.expire);
    all.comment = std::move(rule.comment);
    result_.rules.push_back(std::move(all));
  }

  // -- version 1 --------------------------------------------------------------------------------

  outcome<void> read_old_rules(const pugi::xml_node& root) {
    auto policy = attribute(root, "policy");
    if (policy != "allow" && policy != "deny")
      return damaged(fmt::format("has the policy {}, neither allow nor deny", quoted(policy)));
    auto open = policy == "allow";
    for (auto special : {"dns", "icmp"}) {
      auto& rule = result_.rules.emplace_back();
      rule.accept = has_attribute(root, special) ? attribute(root, special) == "allow" : open;
      if (special == std::string_view{"dns"})
        rule.dns = true;
      else
        rule.proto = "icmp";
    }
    for (auto x : root.children())
      if (is_element(x)) {
        auto rule = firewall_rule{};
        rule.accept = !open;
        auto sound = read_old_rule(x, rule);
        add(std::move(rule), sound);
      }
    if (open)
      result_.rules.push_back(accept_all().front());
    return {};
  }

  /// The time of the rule's end first: it counts even when the rest is not understood.
  static outcome<void> read_old_rule(const pugi::xml_node& x, firewall_rule& to) {
    auto text = [&](const char* name) { return std::string{attribute(x, name)}; };
    auto read = [&](std::string_view key, const std::string& value) {
      return value.empty() ? outcome<void>{} : read_field(to, key, value);
    };
    auto done = read("expire", text("expire"));
    if (auto twice = doubled_attribute(x); !twice.empty())
      return fail(errc::value, fmt::format("the attribute {} is given twice", quoted(twice)));
    auto mask = text("netmask");
    auto bits = mask.empty() ? std::int64_t{0} : parse_integer(mask).value_or(-1);
    if (bits < 0)
      return fail(errc::value, fmt::format("{} is no netmask", quoted(mask)));
    auto address = lower(text("address"));
    if (bits != 0 && (parse_ipv4(address) || parse_ipv6(address))) // a name has no mask
      address += fmt::format("/{}", bits);
    auto port = text("port");
    auto proto = text("proto");
    if (proto == "any")
      proto.clear();
    else if (proto.empty() && !port.empty())
      proto = "tcp";
    if (auto last = text("toport"); !port.empty() && !last.empty())
      port += '-' + last;
    return done.and_then([&] { return read("dsthost", address); })
        .and_then([&] { return read("proto", proto); })
        .and_then([&] { return read("dstports", port); })
        .and_then([&] { return check_fields(to); });
  }

  firewall_file result_;
  int place_ = 0; ///< of the last rule, from 1
};

// -- writing ------------------------------------------------------------------------------------

void append_property(std::string& out, std::string_view name, std::string_view text) {
  out += "        ";
  append_named(out, "property", name, text);
  out += '\n';
}

void append_rule(std::string& out, const firewall_rule& x) {
  out += "    <rule>\n      <properties>\n";
  append_property(out, "action", x.accept ? "accept" : "drop");
  if (!x.comment.empty())
    append_property(out, "comment", x.comment);
  if (!x.expire.empty())
    append_property(out, "expire", x.expire);
  if (x.kind)
    append_property(out, "dsthost", x.target);
  if (!x.proto.empty())
    append_property(out, "proto", x.proto);
  if (x.dns)
    append_property(out, "specialtarget", "dns");
  if (auto& ports = x.dstports)
    append_property(out, "dstports",
                    ports->first == ports->last ? fmt::format("{}", ports->first)
                                                : fmt::format("{}-{}", ports->first, ports->last));
  if (x.icmptype)
    append_property(out, "icmptype", fmt::format("{}", *x.icmptype));
  out += "      </properties>\n    </rule>\n";
}

} // namespace

firewall_file load_firewall(std::string_view text) {
  return reader{}.run(text);
}

std::string save_firewall(const firewall_rules& all) {
  auto out = std::string{"<firewall version=\"2\">\n"};
  if (all.empty()) {
    out += "  <rules/>\n";
  } else {
    out += "  <rules>\n";
    for (auto& x : all)
      append_rule(out, x);
    out += "  </rules>\n";
  }
  out += "</firewall>\n";
  return out;
}

} // namespace qubes::model::xml
