// Steps that wait for each other, written from top to bottom.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace qubes::actors {

/// Is called once, now or later, when its step is over; a step that ends the sequence drops it.
using next_step_of = std::function<void()>;
using sequence_step = std::function<void(const next_step_of& next)>;

/// Steps that may be of use only as long as `still` holds: it is asked between them, and
/// `otherwise` runs instead of the rest.
class sequence {
public:
  sequence() : sequence([] { return true; }, [] {}) {}
  sequence(std::function<bool()> still, std::function<void()> otherwise)
      : still_(std::move(still)), otherwise_(std::move(otherwise)) {}

  /// The last step is given a `next` that does nothing.
  void run(std::vector<sequence_step> steps) && {
    steps_ = std::move(steps);
    go_on(std::make_shared<const sequence>(std::move(*this)), 0);
  }

private:
  static void go_on(const std::shared_ptr<const sequence>& all, std::size_t at) {
    if (at == all->steps_.size())
      return;
    if (!all->still_())
      return all->otherwise_();
    all->steps_[at]([all, at] { go_on(all, at + 1); });
  }

  std::function<bool()> still_;
  std::function<void()> otherwise_;
  std::vector<sequence_step> steps_;
};

} // namespace qubes::actors
