// What a client's request about assignments and unwanted interfaces means (spec/devices.md §6).
#pragma once

#include "model/change/plan.hpp"

#include <string_view>

namespace qubes::model {

plan plan_assign(const view& v, const domain& owner, std::string_view kind,
                 std::string_view argument, std::string_view payload);
plan plan_unassign(const view& v, const domain& owner, std::string_view kind,
                   std::string_view argument);
plan plan_set_assignment(const view& v, const domain& owner, std::string_view kind,
                         std::string_view argument, std::string_view payload);

plan plan_deny_interfaces(const view& v, const domain& owner, std::string_view payload);
plan plan_allow_interfaces(const view& v, const domain& owner, std::string_view payload);

} // namespace qubes::model
