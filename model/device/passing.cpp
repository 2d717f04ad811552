#include "model/device/passing.hpp"

#include "model/base/literal.hpp"
#include "model/base/name.hpp"
#include "model/device/guest_devices.hpp"
#include "model/property/feature.hpp"
#include "model/property/kind_of.hpp"
#include "model/property/property.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto camera_class = std::string_view{"webcam"};

bool has_stub_agent(const view& v, const domain& x) {
  return abilities_of(v, x).stub_domains && read_text({v, &x}, "virt_mode") == "hvm"
         && has_feature(v, x, "stubdom-qrexec", chain::with_template);
}

service_run take_usb(const view& v, const domain& who, const attachment& x) {
  auto by = has_stub_agent(v, who) ? stub_domain_of(who.name.str()) : who.name.str();
  return {by,
          {.service = "qubes.USBAttach",
           .user = "root",
           .input = fmt::format("{} {}\n", x.backend, x.port),
           .needs = service_rule{policy_folder::services, "qubes.USB+" + x.port,
                                 fmt::format("{} {} allow,user=root", by, x.backend)}}};
}

outcome<service_run> take_camera(const view& v, const domain& who, const attachment& x) {
  if (!has_feature(v, who, "supported-rpc.qvc.WebcamAttach", chain::with_template))
    return fail(errc::general, fmt::format("'{}' takes no cameras", who.name.str()),
                "install qubes-video-companion in its template");
  auto argument = x.port;
  for (auto& [key, format] : x.options) {
    argument += '+' + format;
    std::ranges::replace(argument.begin() + static_cast<std::ptrdiff_t>(x.port.size()),
                         argument.end(), 'x', '+');
  }
  auto* from = v.system.find(x.backend);
  auto rule = fmt::format("qvc.Webcam +{} uuid:{} uuid:{} allow", argument, who.uuid,
                          from ? from->uuid : std::string{});
  return service_run{
      who.name,
      {.service = "qvc.WebcamAttach",
       .user = "root",
       .input = fmt::format("{} {}\n", x.backend, argument),
       .needs = service_rule{policy_folder::run_time,
                             fmt::format("10-qvc-{}-{}.policy", x.backend, x.port), rule}}};
}

} // namespace

outcome<void> check_passing(std::string_view kind, const device_options& options) {
  for (auto& [key, value] : options) {
    if (kind != camera_class)
      return fail(errc::general, fmt::format("a device of class {} has no options", kind));
    if (key != "format")
      return fail(errc::general, fmt::format("a camera has no option {}", quoted(key)),
                  "its only option is format");
    if (!is_camera_format(value))
      return fail(errc::general, fmt::format("{} is no format of a picture", quoted(value)),
                  "write WIDTHxHEIGHTxRATE");
  }
  return {};
}

outcome<service_run> take_over(const view& v, const domain& who, const attachment& x) {
  if (x.kind == camera_class)
    return take_camera(v, who, x);
  return take_usb(v, who, x);
}

service_run hand_back(const attachment& x) {
  if (x.kind == camera_class)
    return {x.backend, {.service = "qvc.WebcamDetach+" + x.port, .user = "root"}};
  return {x.backend, {.service = "qubes.USBDetach", .user = "root", .input = x.port + '\n'}};
}

} // namespace qubes::model
