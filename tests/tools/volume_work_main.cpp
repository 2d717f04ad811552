// qvmd-volume-work DRIVER DIRECTORY STEP: one step on the pool in DIRECTORY. Programs that the
// driver would run are taken to succeed.
#include "drivers/process/command_runner.hpp"
#include "tests/tools/volume_work.hpp"

#include <fmt/format.h>

#include <cstdio>

namespace {

class silent_commands final : public qubes::drivers::command_runner {
public:
  qubes::model::outcome<qubes::drivers::process_result>
  run(const qubes::drivers::command&) override {
    return qubes::drivers::process_result{};
  }
};

} // namespace

int main(int argc, char** argv) {
  if (argc != 4)
    return 2;
  auto config = qubes::model::pool{
      .name = "images",
      .driver = argv[1],
      .attributes = {{"name", "images"}, {"driver", argv[1]}, {"dir_path", argv[2]}}};
  auto pool = qubes::drivers::storage::open_pool(config, {std::make_shared<silent_commands>()});
  auto done = pool ? qubes::tests::do_step(**pool, argv[3])
                   : qubes::model::outcome<void>{tl::unexpected{pool.error()}};
  if (!done)
    fmt::print(stderr, "{}\n", done.error().message());
  return done ? 0 : 1;
}
