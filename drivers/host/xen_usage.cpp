#include "drivers/host/xen_usage.hpp"

#include "model/base/literal.hpp"

extern "C" {
#include <xenctrl.h>
}

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <cerrno>
#include <cstring>
#include <span>

namespace qubes::drivers {

namespace {

constexpr auto at_once = std::size_t{256};
constexpr auto kib_of_page = std::uint64_t{XC_PAGE_SIZE} / 1024;

struct closer {
  void operator()(xc_interface* x) const noexcept { xc_interface_close(x); }
};

model::guest described(const xc_domaininfo_t& x) {
  auto result = model::guest{};
  result.uuid = model::parse_uuid(fmt::format("{:02x}", fmt::join(x.handle, ""))).value_or("");
  result.xid = x.domain;
  result.memory_kib = x.tot_pages * kib_of_page;
  result.memory_most_kib = x.max_pages * kib_of_page;
  result.vcpus = x.nr_online_vcpus;
  result.cpu_time_ns = x.cpu_time;
  return result;
}

class xen_usage final : public usage_meter {
public:
  explicit xen_usage(xc_interface* open) : xen_(open) {}

  model::outcome<std::vector<model::guest>> read() override {
    auto result = std::vector<model::guest>{};
    auto part = std::vector<xc_domaininfo_t>(at_once);
    for (auto next = std::uint32_t{0};;) {
      auto count =
          xc_domain_getinfolist(xen_.get(), next, static_cast<unsigned>(part.size()), part.data());
      if (count < 0)
        return model::fail(model::errc::hypervisor,
                           fmt::format("Xen lists no domains: {}", std::strerror(errno)));
      for (auto& x : std::span{part}.first(static_cast<std::size_t>(count)))
        if ((x.flags & XEN_DOMINF_dying) == 0)
          result.push_back(described(x));
      if (static_cast<std::size_t>(count) < part.size())
        return result;
      next = std::uint32_t{part.back().domain} + 1;
    }
  }

private:
  std::unique_ptr<xc_interface, closer> xen_;
};

} // namespace

std::shared_ptr<usage_meter> open_usage_meter() {
  if (auto* open = xc_interface_open(nullptr, nullptr, 0))
    return std::make_shared<xen_usage>(open);
  spdlog::warn("no usage of domains from Xen ({}): libvirt is asked instead, and is late while "
               "domains are built",
               std::strerror(errno));
  return nullptr;
}

} // namespace qubes::drivers
