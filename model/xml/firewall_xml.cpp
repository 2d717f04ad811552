#include "model/xml/firewall_xml.hpp"

#include "model/address.hpp"
#include "model/literal.hpp"
#include "model/xml/elements.hpp"
#include "model/xml/source.hpp"

#include <fmt/format.h>
#include <pugixml.hpp>

namespace qubes::model::xml {

namespace {

/// How files of version 1 begin; the version itself came later.
constexpr auto of_release_3 = std::string_view{"QubesFirewallRules"};

tl::unexpected<error> damaged(std::string why) {
  return fail(errc::vm_error, "firewall.xml: " + std::move(why));
}

outcome<firewall_rule> read_rule(const pugi::xml_node& x) {
  auto result = firewall_rule{};
  auto has_action = false;
  for (auto y : x.child("properties").children("property")) {
    auto name = attribute(y, "name");
    has_action |= name == "action";
    if (auto read = read_field(result, name, text_of(y)); !read)
      return damaged(read.error().text);
  }
  if (!has_action)
    return damaged("a rule has no action");
  if (auto sound = check_fields(result); !sound)
    return damaged(sound.error().text);
  return result;
}

outcome<firewall_rules> read_rules(const pugi::xml_node& root) {
  auto result = firewall_rules{};
  for (auto x : root.child("rules").children("rule")) {
    auto rule = read_rule(x);
    if (!rule)
      return tl::unexpected{std::move(rule.error())};
    result.push_back(std::move(*rule));
  }
  return result;
}

// -- version 1 ----------------------------------------------------------------------------------

outcome<bool> policy_of(const pugi::xml_node& root) {
  auto text = attribute(root, "policy");
  if (text == "allow" || text == "deny")
    return text == "allow";
  return damaged(fmt::format("its policy is {}, neither allow nor deny", quoted(text)));
}

outcome<firewall_rule> read_old_rule(const pugi::xml_node& x, bool accept) {
  auto result = firewall_rule{};
  result.accept = accept;
  auto read = [&](std::string_view key, const std::string& value) {
    return read_field(result, key, value);
  };
  auto address = std::string{attribute(x, "address")};
  auto mask = parse_integer(attribute(x, "netmask")).value_or(0);
  if (mask != 0 && (parse_ipv4(address) || parse_ipv6(address))) // a name has no mask
    address += fmt::format("/{}", mask);
  auto proto = std::string{attribute(x, "proto")};
  auto port = std::string{attribute(x, "port")};
  if (proto.empty() && !port.empty())
    proto = "tcp";
  auto done = outcome<void>{};
  if (!address.empty())
    done = read("dsthost", address);
  if (done && !proto.empty() && proto != "any")
    done = read("proto", proto);
  if (done && !port.empty()) {
    auto last = std::string{attribute(x, "toport")};
    done = read("dstports", last.empty() ? port : port + '-' + last);
  }
  if (done && !attribute(x, "expire").empty())
    done = read("expire", std::string{attribute(x, "expire")});
  if (done)
    done = check_fields(result);
  if (!done)
    return damaged(done.error().text);
  return result;
}

outcome<firewall_rules> read_old_rules(const pugi::xml_node& root) {
  auto policy = policy_of(root);
  if (!policy)
    return tl::unexpected{std::move(policy.error())};
  auto result = firewall_rules{};
  for (auto special : {"dns", "icmp"}) {
    auto& rule = result.emplace_back();
    rule.accept = has_attribute(root, special) ? attribute(root, special) == "allow" : *policy;
    if (special == std::string_view{"dns"})
      rule.dns = true;
    else
      rule.proto = "icmp";
  }
  for (auto x : root.children()) {
    if (x.type() != pugi::node_element)
      continue;
    auto rule = read_old_rule(x, !*policy);
    if (!rule)
      return tl::unexpected{std::move(rule.error())};
    result.push_back(std::move(*rule));
  }
  if (*policy)
    result.push_back(accept_all().front());
  return result;
}

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

outcome<firewall_rules> load_firewall(std::string_view text) {
  if (text.size() > largest_firewall)
    return damaged(fmt::format("it is larger than {} bytes", largest_firewall));
  auto checked = source::open(text, "it");
  if (!checked)
    return damaged(checked.error().text);
  auto root = checked->root();
  if (root.name() != std::string_view{"firewall"} && root.name() != of_release_3)
    return damaged(fmt::format("it begins with {}", quoted(root.name())));
  auto version = has_attribute(root, "version") ? attribute(root, "version") : "1";
  if (version == "1")
    return read_old_rules(root);
  if (version != "2")
    return damaged(fmt::format("version {} is not known", quoted(version)));
  return read_rules(root);
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
