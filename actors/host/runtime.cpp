#include "actors/host/runtime.hpp"

#include "actors/host/backup.hpp"
#include "actors/host/disposables.hpp"
#include "actors/host/host_sleep.hpp"
#include "actors/host/registry.hpp"
#include "actors/host/stats.hpp"
#include "drivers/host/kept_operations.hpp"
#include "drivers/host/unfinished_starts.hpp"
#include "model/property/property.hpp"

#include <spdlog/spdlog.h>

#include <cstdlib>

namespace qubes::actors {

namespace {

/// The few actors without which nothing works: when one dies of a fault, the daemon ends at once
/// and the service manager starts it anew from what is durable.
class watcher : public caf::event_based_actor {
public:
  watcher(caf::actor_config& config, std::vector<caf::actor_addr> vital)
      : caf::event_based_actor(config), vital_(std::move(vital)) {}

  caf::behavior make_behavior() override {
    for (auto& x : vital_)
      if (auto who = caf::actor_cast<caf::actor>(x))
        monitor(who);
    set_down_handler([](const caf::down_msg& x) {
      if (x.reason != caf::exit_reason::user_shutdown && x.reason != caf::exit_reason::normal
          && x.reason != caf::exit_reason::kill) {
        spdlog::critical("a vital part of the daemon died: {}", caf::to_string(x.reason));
        std::abort();
      }
    });
    return {[](atom::tick) {}};
  }

private:
  std::vector<caf::actor_addr> vital_;
};

/// A record that is set aside may come back: nothing is removed as long as there are any.
void read_operations(world& in, drivers::disk& state) {
  auto system = in.system.read();
  auto found = drivers::find_operations(state, [&](const std::string& uuid) {
    return !system->quarantine.empty() || system->find_uuid(uuid);
  });
  for (auto& x : found.unreadable)
    spdlog::warn("operations of before are forgotten: {}", x);
  in.history.adopt(std::move(found.history));
}

} // namespace

model::outcome<std::unique_ptr<runtime>> runtime::open(caf::actor_system& in, parts with) {
  auto loaded = with.files->load(with.machine);
  if (!loaded)
    return tl::unexpected{loaded.error()};
  auto result = std::unique_ptr<runtime>{new runtime{in}};
  auto world = std::make_shared<actors::world>();
  result->world_ = world;
  tell_findings(*world, std::move(loaded->loaded.findings));
  auto first = std::make_shared<model::system>(std::move(loaded->loaded.system));
  world->system.write(first);
  world->machine.write(std::make_shared<model::host>(std::move(with.machine)));
  if (loaded->loaded.numbered && !loaded->fallback) { // else the next daemon gives others
    if (auto kept = with.files->save(*first))
      forget_lost(*world);
    else
      spdlog::error("what was given to domains is not written: {}", kept.error().message());
  }
  world->settings = with.settings;
  world->now_us = std::move(with.now_us);
  world->wall_us = std::move(with.wall_us);
  world->began_us = world->now_us();
  world->hypervisor_uri = std::move(with.hypervisor_uri);
  world->containers_uri = std::move(with.containers_uri);
  world->store_path = std::move(with.store_path);

  world->chance = std::move(with.chance);
  auto now = world->look();
  for (auto& x : now.system->domains)
    if (x->is(model::disp_vm) && model::read_bool({now.view(), x.get()}, "auto_cleanup"))
      world->leftovers.insert(x->uuid);

  if (auto& run = with.machinery.run) {
    auto marked = drivers::marked_starts(*run);
    if (!marked)
      return tl::unexpected{std::move(marked.error())};
    world->unfinished_starts.adopt(std::move(*marked));
  }
  read_operations(*world, *with.machinery.state);

  world->deadlines = deadlines::open(in);
  auto lanes = with.machinery.lanes;
  world->storage = in.spawn(storage, world, std::move(with.disks), lanes);
  world->events = in.spawn(hub, world, with.to_clients);
  world->store = in.spawn(actors::store, world, std::move(with.files), lanes.get());
  world->driver = in.spawn(driver, world, std::move(with.machinery));
  world->registry = in.spawn(registry, world);
  world->disposables = in.spawn(disposables, world);
  world->stats = in.spawn(stats, world, with.to_clients);
  world->sleep = in.spawn(host_sleep, world);
  world->backup = in.spawn(backup, world, std::move(with.backups), lanes);
  result->gate_ = in.spawn(actors::gate, world, with.to_clients);
  result->watcher_ = in.spawn<watcher>(std::vector<caf::actor_addr>{
      world->events.address(), world->store.address(), world->driver.address(),
      world->storage.address(), world->stats.address(), world->sleep.address(),
      world->backup.address(), world->disposables.address(), world->registry.address(),
      result->gate_.address()});
  return result;
}

void runtime::start(std::function<void()> ready) {
  system_.spawn([world = world_, ready = std::move(ready)](caf::event_based_actor* self) {
    auto go_on = [world, ready] {
      caf::anon_send(world->storage, domains_known{}); // what is to go goes first
      caf::anon_send(world->disposables, domains_known{});
      ready();
    };
    auto failed = [go_on](const caf::error& x) {
      spdlog::error("start: {}", from_caf(x).message());
      go_on();
    };
    static constexpr auto limit = std::chrono::seconds{60};
    timed_request(self, world, world->registry, limit, atom::launch_v)
        .then(
            [self, world, go_on, failed] {
              timed_request(self, world, world->driver, limit, atom::launch_v).then(go_on, failed);
            },
            failed);
  });
}

bool runtime::answers(std::chrono::milliseconds limit) {
  caf::scoped_actor self{system_};
  auto all = true;
  auto ask = [&](const auto& who) {
    self->request(who, limit, atom::probe_v)
        .receive([] {}, [&](const caf::error&) { all = false; });
  };
  ask(gate_);
  ask(world_->registry);
  ask(world_->store);
  ask(world_->driver);
  ask(world_->storage);
  return all;
}

void runtime::stop(std::chrono::milliseconds limit) {
  caf::scoped_actor self{system_};
  self->request(world_->backup, limit, atom::stop_v)
      .receive([] {},
               [](const caf::error& x) {
                 spdlog::error("a backup did not end before the stop: {}", from_caf(x).message());
               });
  self->request(world_->store, limit, atom::flush_v)
      .receive([] {},
               [](const caf::error& x) {
                 spdlog::error("not everything could be written before the stop: {}",
                               from_caf(x).message());
               });
  abandon();
}

void runtime::abandon() {
  if (std::exchange(ended_, true))
    return;
  constexpr auto over = caf::exit_reason::user_shutdown;
  caf::anon_send(world_->registry, atom::stop_v);
  caf::anon_send_exit(watcher_, over);
  caf::anon_send_exit(gate_, over);
  caf::anon_send_exit(world_->events, over);
  caf::anon_send_exit(world_->disposables, over);
  caf::anon_send_exit(world_->driver, over);
  caf::anon_send_exit(world_->storage, over);
  caf::anon_send_exit(world_->stats, over);
  caf::anon_send_exit(world_->sleep, over);
  caf::anon_send_exit(world_->backup, over);
  caf::anon_send_exit(world_->store, over);
  world_->deadlines->end();
  // The world outlives its actors in lambdas on the lanes; its handles must not.
  watcher_ = {};
  gate_ = gate_actor{};
}

runtime::~runtime() {
  abandon();
}

} // namespace qubes::actors
