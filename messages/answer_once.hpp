// An answer that cannot be forgotten.
#pragma once

#include "model/base/error.hpp"

#include <functional>
#include <memory>
#include <utility>

namespace qubes {

/// CAF 0.17 never answers for a lost promise; this one does when its last copy is dropped: because
/// a handler forgot it or threw, or because its actor quit. Only the first answer counts.
template <class T>
class answer_once {
public:
  using sink = std::function<void(model::outcome<T>)>;

  explicit answer_once(sink to) : core_(std::make_shared<core>(std::move(to))) {}

  void ok(T x = {}) const { core_->give(std::move(x)); }
  void refuse(model::error x) const { core_->give(tl::unexpected<model::error>{std::move(x)}); }
  void give(model::outcome<T> x) const { core_->give(std::move(x)); }

  /// Refuses what still waits then, and does not keep the answer open itself.
  std::function<void(model::error)> later_refusal() const {
    return [core = std::weak_ptr{core_}](model::error x) {
      if (auto still = core.lock())
        still->give(tl::unexpected<model::error>{std::move(x)});
    };
  }

  /// Nothing that is said now is heard. For the thread that gives it.
  bool is_given() const { return !core_->to; }

private:
  struct core {
    explicit core(sink x) : to(std::move(x)) {}
    core(const core&) = delete;
    core& operator=(const core&) = delete;
    ~core() {
      if (to)
        give(model::fail(model::errc::internal, "the daemon lost track of this request",
                         "its outcome is not known; the log has more"));
    }
    void give(model::outcome<T> x) {
      if (auto once = std::exchange(to, nullptr))
        once(std::move(x));
    }
    sink to;
  };

  std::shared_ptr<core> core_;
};

} // namespace qubes
