// Sums of jobs, and what they find: the result of each at the place of its job.
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>
#include <variant>

namespace qubes {

/// Each job names its `result`, void for none.
template <class... Jobs>
struct job_list {
  template <class Result>
  using kept = std::conditional_t<std::is_void_v<Result>, std::monostate, Result>;

  using any = std::variant<Jobs...>;
  template <template <class> class Wrapped>
  using any_of = std::variant<Wrapped<Jobs>...>;
  using any_result = std::variant<kept<typename Jobs::result>...>; ///< in the order of the jobs

  template <class Job>
  static constexpr bool has = (std::is_same_v<Job, Jobs> || ...);

  template <class Job>
  static constexpr auto index_of = [] {
    constexpr bool is_it[]{std::is_same_v<Job, Jobs>...};
    auto i = std::size_t{0};
    while (!is_it[i])
      ++i;
    return i;
  }();
};

/// What a job of the list found.
template <class List>
class job_result {
public:
  /// What was found, unless the job's result is void.
  template <class Job, class... Found>
  static job_result of(Found&&... found) {
    auto result = job_result{};
    result.found_.template emplace<List::template index_of<Job>>(std::forward<Found>(found)...);
    return result;
  }

  /// The result of this job.
  template <class Job>
  auto& get() {
    return std::get<List::template index_of<Job>>(found_);
  }
  template <class Job>
  const auto& get() const {
    return std::get<List::template index_of<Job>>(found_);
  }

  /// The result, moved out; nothing when it is void.
  template <class Job>
  typename Job::result take() {
    if constexpr (!std::is_void_v<typename Job::result>)
      return std::move(get<Job>());
  }

private:
  typename List::any_result found_;
};

} // namespace qubes
