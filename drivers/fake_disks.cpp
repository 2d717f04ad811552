#include "drivers/disks.hpp"

#include <fmt/format.h>

#include <mutex>
#include <set>

namespace qubes::drivers {

namespace {

using model::errc;
using model::fail;

class fake_disks final : public disks {
public:
  outcome<void> create(const model::system&, const model::domain& x) override {
    auto hold = std::lock_guard{guard_};
    if (!made_.insert(x.name.str()).second)
      return fail(errc::storage, fmt::format("'{}' has disks already", x.name.str()));
    return {};
  }

  outcome<void> remove(const model::system&, const model::domain& x) override {
    auto hold = std::lock_guard{guard_};
    made_.erase(x.name.str());
    return {};
  }

  outcome<model::volume_facts> look(const model::system&, const model::domain&,
                                    const model::volume& it) override {
    return model::volume_facts{
        .size = it.size, .usage = 0, .path = it.vid, .outdated = false, .revisions = {}};
  }

  outcome<void> copy(const model::system&, const model::volume&, const model::volume&) override {
    return {};
  }
  outcome<void> resize(const model::system&, const model::volume&, std::uint64_t) override {
    return {};
  }
  outcome<void> clear(const model::system&, const model::volume&, std::uint64_t) override {
    return {};
  }
  outcome<void> revert(const model::system&, const model::volume&, const std::string&) override {
    return {};
  }
  outcome<std::string> begin_import(const model::system&, const model::volume& it,
                                    std::uint64_t) override {
    return it.vid + "-import";
  }
  outcome<void> end_import(const model::system&, const model::volume&, bool) override { return {}; }
  outcome<void> set_up(const model::system&, const model::pool&) override { return {}; }
  outcome<model::pool_facts> look(const model::system&, const model::pool&) override {
    return model::pool_facts{};
  }
  outcome<std::vector<std::string>> list(const model::system&, const model::pool&) override {
    return std::vector<std::string>{};
  }

private:
  std::mutex guard_;
  std::set<std::string> made_;
};

} // namespace

std::unique_ptr<disks> make_fake_disks() {
  return std::make_unique<fake_disks>();
}

} // namespace qubes::drivers
