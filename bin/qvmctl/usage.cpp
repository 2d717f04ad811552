#include "bin/qvmctl/usage.hpp"

#include "model/base/literal.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <string_view>

namespace qubes::ctl {

namespace {

std::string_view text_of(const event& x, std::string_view key) {
  for (auto& [name, text] : x.args)
    if (name == key)
      return text;
  return {};
}

std::optional<double> fraction(std::string_view text) {
  auto result = 0.0;
  auto [end, bad] = std::from_chars(text.data(), text.data() + text.size(), result);
  auto whole = bad == std::errc{} && end == text.data() + text.size() && std::isfinite(result);
  return whole ? std::optional{result} : std::nullopt;
}

usage usage_of(const event& x) {
  auto whole = [&](std::string_view key) { return model::parse_integer(text_of(x, key)); };
  return {.name = x.subject,
          .cpu = whole("cpu_usage"),
          .vcpus = whole("online_vcpus").value_or(1),
          .cpu_time_ms = whole("cpu_time").value_or(0),
          .memory_kib = whole("memory_assigned_usable").value_or(0),
          .most_kib = whole("memory_assigned_total").value_or(0),
          .used_kib = whole("memory_with_swap_used"),
          .swap_kib = whole("swap_used"),
          .disk_read = whole("disk_read"),
          .disk_written = whole("disk_written"),
          .net_received = whole("net_received"),
          .net_sent = whole("net_sent"),
          .stub_cpu = fraction(text_of(x, "cpu_usage_internal"))};
}

} // namespace

std::optional<std::int64_t> usage::spare_kib() const {
  if (!used_kib || *used_kib == memory_kib) // what it does not say is told as all of it
    return std::nullopt;
  return std::max<std::int64_t>(memory_kib - (*used_kib - swap_kib.value_or(0)), 0);
}

void usage_board::hear(const event& x) {
  if (x.name != "vm-stats")
    return;
  auto [place, first] = domains_.try_emplace(x.subject);
  auto& [last, sample] = place->second;
  last = usage_of(x);
  if (first && last.cpu == 0) // the first look: it is not known how busy it is
    last.cpu.reset();
  if (sample == sample_)
    ++sample_;
  sample = sample_;
  std::erase_if(domains_, [&](auto& y) { return y.second.sample + 1 < sample_; });
}

std::vector<usage> usage_board::all() const {
  auto result = std::vector<usage>{};
  for (auto& [name, x] : domains_)
    result.push_back(x.last);
  return result;
}

} // namespace qubes::ctl
