#include "model/system/operation.hpp"

#include <algorithm>

namespace qubes::model {

namespace {

constexpr auto longest_sentence = std::size_t{1000};

void keep_last(std::vector<operation>& all) {
  if (all.size() > operation_history::kept_of_one)
    all.erase(all.begin(), all.end() - operation_history::kept_of_one);
}

} // namespace

operation_failure failure_of(const error& why, std::string_view step) {
  return {.step = std::string{step},
          .exception = std::string{wire_name(why.code)},
          .cause = why.text.substr(0, longest_sentence),
          .remedy = why.hint.substr(0, longest_sentence)};
}

bool is_only_refused(errc why) noexcept {
  switch (why) {
  case errc::vm_not_found:
  case errc::vm_not_started:
  case errc::vm_not_running:
  case errc::vm_not_paused:
  case errc::vm_not_suspended:
  case errc::vm_not_halted: return true;
  default: return false;
  }
}

std::string operation_history::add(const std::string& uuid, operation x) {
  auto& mine = by_uuid_[uuid];
  mine.push_back(std::move(x));
  keep_last(mine);
  return make_room();
}

void operation_history::put(const std::string& uuid, std::vector<operation> all) {
  std::ranges::stable_sort(all, {}, &operation::ended_s);
  keep_last(all);
  if (all.empty())
    return forget(uuid);
  by_uuid_[uuid] = std::move(all);
  make_room();
}

std::string operation_history::make_room() {
  if (by_uuid_.size() <= kept_domains)
    return {};
  auto oldest =
      std::ranges::min_element(by_uuid_, {}, [](auto& x) { return x.second.back().ended_s; });
  auto gone = oldest->first;
  by_uuid_.erase(oldest);
  return gone;
}

std::vector<operation> operation_history::of(const std::string& uuid) const {
  auto found = by_uuid_.find(uuid);
  return found == by_uuid_.end() ? std::vector<operation>{} : found->second;
}

std::vector<operation_history::owned> operation_history::failures_since(std::int64_t s) const {
  auto result = std::vector<owned>{};
  for (auto& [uuid, all] : by_uuid_)
    for (auto& x : all)
      if (x.failed() && x.ended_s >= s)
        result.push_back({uuid, x});
  std::ranges::stable_sort(result, std::ranges::greater{}, [](auto& x) { return x.what.ended_s; });
  return result;
}

} // namespace qubes::model
