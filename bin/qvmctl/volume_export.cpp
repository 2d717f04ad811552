#include "bin/qvmctl/volume_export.hpp"

#include "bin/qvmctl/requests.hpp"
#include "drivers/io/files.hpp"

#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace qubes::ctl {

using drivers::storage::open_source;
using drivers::storage::size_of;

volume_export::volume_export(const route& way) : daemon_(internal_socket(way)) {}

expected<void> volume_export::check(const route& way) {
  if (!way.by_qrexec())
    return {};
  return tl::unexpected{failure{trouble::refused, "",
                                "the data of volumes is read in dom0, and this is not dom0",
                                "export it there"}};
}

expected<std::unique_ptr<volume_export>> volume_export::begin(const route& way,
                                                              const std::string& domain,
                                                              const std::string& volume,
                                                              const interruption& stop) {
  constexpr auto look_up = milliseconds{200}; ///< for an interrupt
  if (auto may = check(way); !may)
    return tl::unexpected{std::move(may.error())};
  auto result = std::unique_ptr<volume_export>{new volume_export{way}};
  auto& x = *result;
  x.daemon_.subscribe(
      x.here_, {"qvmd.VolumeExport", volume, domain, ""},
      [&x](const event& told) { x.path_ = value_of(told.args, "path"); },
      [&x](failure why) { x.ended_ = std::move(why); });
  x.daemon_.run([&] { return x.path_ || x.ended_ || stop.raised(); }, {}, look_up, [] {});
  if (stop.raised())
    return tl::unexpected{failure{trouble::refused, "", "cancelled", ""}};
  if (x.ended_ && x.ended_->klass == "ProtocolError")
    x.ended_->hint = "only qvmd has this; another daemon serves this socket";
  if (!x.path_)
    return tl::unexpected{std::move(*x.ended_)};
  auto file = open_source(*x.path_);
  auto size = file ? size_of(file->get(), *x.path_) : tl::unexpected{file.error()};
  if (!size)
    return tl::unexpected{failure{trouble::refused, "", size.error().text, size.error().hint}};
  x.file_ = std::move(*file);
  x.size_ = *size;
  return result;
}

std::uint64_t volume_export::next_data(std::uint64_t from) const {
  auto data = ::lseek(file_.get(), static_cast<off_t>(from), SEEK_DATA);
  if (data < 0)
    return errno == ENXIO ? size_ : from;
  return std::min(static_cast<std::uint64_t>(data), size_);
}

expected<std::size_t> volume_export::read(std::uint64_t at, char* to, std::size_t most) const {
  for (;;) {
    auto got =
        ::pread(file_.get(), to, std::min<std::uint64_t>(most, size_ - at), static_cast<off_t>(at));
    if (got > 0)
      return static_cast<std::size_t>(got);
    if (got < 0 && errno == EINTR)
      continue;
    return tl::unexpected{failure{
        trouble::refused, "",
        fmt::format("cannot read '{}': {}", *path_, got == 0 ? "it ends" : std::strerror(errno)),
        ""}};
  }
}

expected<void> volume_export::was_kept() {
  constexpr auto moment = milliseconds{5};
  daemon_.run([&] { return ended_.has_value(); }, std::chrono::steady_clock::now() + moment);
  if (!ended_)
    return {};
  return tl::unexpected{failure{trouble::no_daemon, "",
                                "the daemon went before all of the volume was read",
                                "begin again once it is there"}};
}

} // namespace qubes::ctl
