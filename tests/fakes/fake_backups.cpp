#include "tests/fakes/fake_backups.hpp"

#include <algorithm>

namespace qubes::drivers {

using model::outcome;

class fake_backups::one final : public backup {
public:
  one(fake_backups& all, std::size_t number, backup_watch watch)
      : all_(all), number_(number), watch_(std::move(watch)) {}
  ~one() override {
    auto hold = std::lock_guard{all_.guard_};
    auto& mine = all_.all_[number_];
    mine.dropped = !mine.finished;
  }

  outcome<bool> add(const backup_part& x) override {
    return all_.admit(x.name, watch_).map([&] {
      auto hold = std::lock_guard{all_.guard_};
      auto* file = std::get_if<backup_part::state_file>(&x.holds);
      if (file && std::ranges::find(all_.files_, file->path) == all_.files_.end())
        return false;
      all_.all_[number_].parts.push_back(x);
      if (watch_.tell)
        watch_.tell(1024);
      return true;
    });
  }

  outcome<void> finish() override {
    return all_.admit("finish", watch_).map([&] {
      auto hold = std::lock_guard{all_.guard_};
      all_.all_[number_].finished = true;
    });
  }

private:
  fake_backups& all_;
  std::size_t number_;
  backup_watch watch_;
};

outcome<void> fake_backups::admit(const std::string& step, const backup_watch& watch) const {
  auto fate = [&] {
    auto hold = std::lock_guard{guard_};
    return fate_;
  }();
  if (auto why = fate ? fate(step) : std::nullopt)
    return tl::unexpected{std::move(*why)};
  if (watch.stop.stop_requested())
    return tl::unexpected{backup_cancelled()};
  return {};
}

outcome<std::unique_ptr<backup>> fake_backups::begin(const backup_order& x, backup_watch watch) {
  return admit("", watch).map([&]() -> std::unique_ptr<backup> {
    auto hold = std::lock_guard{guard_};
    all_.push_back({x, {}, false, false});
    return std::make_unique<one>(*this, all_.size() - 1, std::move(watch));
  });
}

void fake_backups::set_script(script fate) {
  auto hold = std::lock_guard{guard_};
  fate_ = std::move(fate);
}

void fake_backups::set_files(std::vector<std::string> names) {
  auto hold = std::lock_guard{guard_};
  files_ = std::move(names);
}

std::vector<fake_backups::made> fake_backups::all() const {
  auto hold = std::lock_guard{guard_};
  return all_;
}

} // namespace qubes::drivers
