// What the sources of completion share.
#pragma once

#include "bin/qvmctl/completion.hpp"

#include <initializer_list>
#include <string>
#include <string_view>

namespace qubes::ctl {

using source = candidates (*)(const place&);

candidates words(std::initializer_list<std::string_view> all);

/// The first word of each line.
candidates firsts(std::string_view text);

/// What a method of the daemon lists.
candidates list(const place& at, std::string method);

/// By qvmd.Overview, or by admin.vm.List, which is shorter.
domain_list known_domains(const place& at, std::string method);

candidates domains(const place& at);
candidates templates(const place& at);
candidates disposable_templates(const place& at);
candidates netvms(const place& at);
candidates or_none(candidates all);
candidates pools(const place& at);
candidates labels(const place& at);
candidates booleans(const place& at);

/// Of every class of domains and of the host.
candidates all_properties();

/// Properties that the domain has, and which can be set where they are to be.
candidates property_names(const place& at);

/// P=V: names, then values.
candidates assigned_properties(const place& at);

candidates values_of_property(const std::string& name, const place& at);

} // namespace qubes::ctl
