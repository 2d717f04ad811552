#include "bin/qvmctl/references.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::ctl {

namespace {

constexpr auto host = std::string_view{"@host"};

} // namespace

std::string reference::text() const {
  if (!property.empty())
    return owner == host ? fmt::format("{} of the host", property)
                         : fmt::format("{} of {}", property, owner);
  return fmt::format("its {} device for {}", klass, owner);
}

expected<std::vector<std::string>> device_classes(session& s) {
  return s.daemon.ask({.method = "admin.deviceclass.List"}).map([](const auto& x) {
    return lines_of(x);
  });
}

expected<std::vector<reference>> references_to(session& s, const std::string& domain) {
  auto all = domain_list::fetch(s.daemon);
  auto classes = all ? device_classes(s) : tl::unexpected{all.error()};
  if (!classes)
    return tl::unexpected{classes.error()};
  struct question {
    std::string owner;
    std::string klass; ///< "": its properties
  };
  auto about = std::vector<question>{{std::string{host}, ""}};
  auto asked = std::vector<request>{property_request("GetAll", std::string{host}, "")};
  for (auto& x : all->all()) {
    if (x.name == domain)
      continue;
    about.push_back({x.name, ""});
    asked.push_back(property_request("GetAll", x.name, ""));
    if (x.klass == "RemoteVM")
      continue;
    for (auto& klass : *classes) {
      about.push_back({x.name, klass});
      asked.push_back({fmt::format("admin.vm.device.{}.Assigned", klass), "", x.name, ""});
    }
  }
  auto answers = ask_all(s, asked);
  auto result = std::vector<reference>{};
  for (auto i = std::size_t{0}; i < about.size(); ++i) {
    auto& [owner, klass] = about[i];
    if (!answers[i]) {
      if (answers[i].error().klass == "QubesVMNotFoundError") // removed in between
        continue;
      return tl::unexpected{answers[i].error()};
    }
    if (klass.empty()) {
      auto properties = parse_properties(*answers[i]);
      if (!properties)
        return tl::unexpected{properties.error()};
      for (auto& [name, value] : *properties)
        if (!value.at_default && value.type == "vm" && value.text == domain)
          result.push_back({.owner = owner, .property = name});
      continue;
    }
    for (auto& line : lines_of(*answers[i]))
      if (auto x = parse_assigned(klass, line); x && x->backend == domain)
        result.push_back(
            {.owner = owner, .klass = klass, .argument = x->argument, .how = std::move(x->how)});
  }
  return result;
}

} // namespace qubes::ctl
