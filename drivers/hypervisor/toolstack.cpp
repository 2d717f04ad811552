#include "drivers/hypervisor/toolstack.hpp"

#include "drivers/process/process.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <utility>
#include <vector>

namespace qubes::drivers {

namespace {

using model::outcome;

class xl final : public toolstack {
public:
  explicit xl(std::string program) : program_(std::move(program)) {}

  outcome<void> destroy(std::int32_t xid) override {
    return call({"destroy", fmt::format("{}", xid)}, {});
  }

  outcome<void> detach_disk(std::int32_t xid, const std::string& target) override {
    return call({"block-detach", fmt::format("{}", xid), target}, "not connected");
  }

  outcome<void> detach_interface(std::int32_t xid, const std::string& mac) override {
    return call({"network-detach", fmt::format("{}", xid), mac}, "Unknown device");
  }

private:
  /// `gone`: words of a failure that there was nothing to do.
  outcome<void> call(std::vector<std::string> words, std::string_view gone) const {
    words.insert(words.begin(), program_);
    auto done = run(words, {}, std::chrono::minutes{1});
    if (!done)
      return tl::unexpected{done.error()};
    if (done->status == 0 || (!gone.empty() && done->output.find(gone) != std::string::npos))
      return {};
    return model::fail(model::errc::hypervisor, fmt::format("'{}' says: {}", fmt::join(words, " "),
                                                            model::trimmed(done->output)));
  }

  const std::string program_;
};

} // namespace

std::shared_ptr<toolstack> open_toolstack(const std::string& program) {
  return program.empty() ? nullptr : std::make_shared<xl>(program);
}

} // namespace qubes::drivers
