#include "drivers/process/command_runner.hpp"

#include <fmt/format.h>

namespace qubes::drivers {

namespace {

class process_runner final : public command_runner {
public:
  model::outcome<process_result> run(const command& x) override {
    return drivers::run(x.words, x.environment, x.limit, x.how, x.watch);
  }
};

} // namespace

std::shared_ptr<command_runner> make_command_runner() {
  return std::make_shared<process_runner>();
}

model::outcome<std::string> run_or_fail(command_runner& with, const command& x) {
  auto done = with.run(x);
  if (!done)
    return model::fail(model::errc::storage, std::move(done.error().text),
                       std::move(done.error().hint));
  if (done->status == 0)
    return std::move(done->output);
  while (!done->output.empty() && done->output.back() == '\n')
    done->output.pop_back();
  return model::fail(model::errc::storage, fmt::format("'{}' ended with status {}: {}", x.words[0],
                                                       done->status, done->output));
}

} // namespace qubes::drivers
