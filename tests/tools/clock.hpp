// Measured time, and statistics of many measurements.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <vector>

namespace qubes::tools {

using clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

inline double milliseconds(clock::duration x) {
  return std::chrono::duration<double, std::milli>(x).count();
}

/// How long `job` took, in milliseconds.
template <class Job>
double timed(Job&& job) {
  auto begin = clock::now();
  job();
  return milliseconds(clock::now() - begin);
}

class samples {
public:
  void add(double x) { values_.push_back(x); }
  void add(const samples& other) {
    values_.insert(values_.end(), other.values_.begin(), other.values_.end());
  }
  std::size_t count() const { return values_.size(); }
  double median() { return percentile(50); }
  double max() { return percentile(100); }

  /// The value below which `percent` of all lie; 0 when there is none.
  double percentile(double percent) {
    if (values_.empty())
      return 0;
    std::sort(values_.begin(), values_.end());
    auto last = static_cast<double>(values_.size() - 1);
    return values_[static_cast<std::size_t>(std::lround(last * percent / 100))];
  }

private:
  std::vector<double> values_;
};

} // namespace qubes::tools
