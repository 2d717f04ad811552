#include "actors/store.hpp"

#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::outcome;

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self, world_ptr in,
                                 std::shared_ptr<library> files, drivers::executor* lanes) {
  return self->state.make(std::move(in), std::move(files), lanes);
}

store_actor::behavior_type store_state::make(world_ptr in, std::shared_ptr<library> files,
                                             drivers::executor* lanes) {
  world_ = std::move(in);
  files_ = std::move(files);
  lanes_ = lanes;
  head_ = std::make_shared<model::system>(*world_->system.read());
  return {
      [this](const model::change& what) { return commit(what); },
      [this](atom::reload) { return reload(); },
      [this](atom::flush) { return flush(); },
      [](const completion& run) { run(); },
  };
}

// -- changes ----------------------------------------------------------------------------------

caf::result<model::system_ptr> store_state::commit(const model::change& what) {
  auto to = self->make_response_promise<promise>();
  if (batch_.size() >= world_->settings.batch) {
    to.deliver(to_caf({model::errc::store, "too many changes wait to be written", "try again"}));
    return to;
  }
  gather({what, to});
  if (!busy_ && batch_.size() == 1)
    self->send(self, completion{[this] { // behind the changes that have arrived already
                 if (!busy_)
                   write_batch();
               }});
  return to;
}

/// Puts the change on top of the head, or refuses it there.
void store_state::gather(pending x) {
  auto next = model::apply(*head_, *world_->machine.read(), x.what);
  if (!next) {
    x.to.deliver(to_caf(next.error()));
    return;
  }
  head_ = std::make_shared<model::system>(std::move(*next));
  batch_.push_back(std::move(x));
}

void store_state::write_batch() {
  if (batch_.empty()) {
    settle_flushers();
    return;
  }
  busy_ = true;
  writing_ = std::exchange(batch_, {});
  written_head_ = head_;
  lanes_->post(drivers::lane::disk, "store",
               [me = store_actor{self}, this, files = files_, what = written_head_] {
                 auto result = files->save(*what);
                 caf::anon_send(me, completion{[this, result] { written(result); }});
                 files->prune();
               });
}

void store_state::written(outcome<void> result) {
  busy_ = false;
  auto done = std::exchange(writing_, {});
  ++status_.batches;
  if (result) {
    ++status_.generation;
    status_.changes += done.size();
    status_.error.clear();
    publish(written_head_);
    for (auto& x : done)
      x.to.deliver(written_head_);
  } else {
    spdlog::error("qubes.xml was not written: {}", result.error().message());
    status_.error = result.error().message();
    for (auto& x : done)
      x.to.deliver(to_caf(result.error()));
    // Whoever gathered on top of the lost head is checked again on what is durable.
    head_ = std::make_shared<model::system>(*world_->system.read());
    for (auto& x : std::exchange(batch_, {}))
      gather(std::move(x));
  }
  world_->status.set(status_);
  write_batch();
}

void store_state::publish(model::system_ptr next) {
  auto before = world_->system.read();
  world_->system.write(next);
  if (world_->storage && before->pools != next->pools)
    self->send(world_->storage, next);
  if (world_->registry)
    self->send(world_->registry, std::move(next));
}

// -- the file as others left it ----------------------------------------------------------------

caf::result<void> store_state::reload() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  if (busy_) {
    to.deliver(to_caf({model::errc::store, "qubes.xml is being written", "try again"}));
    return to;
  }
  busy_ = true;
  lanes_->post(
      drivers::lane::disk, "store",
      [me = store_actor{self}, this, files = files_, machine = world_->machine.read(), to] {
        auto foreign = files->changed_by_others();
        auto found = foreign ? files->load(*machine) : outcome<library::opened>{};
        caf::anon_send(me, completion{[this, foreign, found, to]() mutable {
                         busy_ = false;
                         if (!found) {
                           to.deliver(to_caf(found.error()));
                         } else {
                           if (foreign) {
                             head_ = std::make_shared<model::system>(found->loaded.system);
                             publish(head_);
                           }
                           deliver(to);
                         }
                         // Changes gathered meanwhile stand on the old head.
                         for (auto& x : std::exchange(batch_, {}))
                           gather(std::move(x));
                         write_batch();
                       }});
      });
  return to;
}

caf::result<void> store_state::flush() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  flushers_.push_back(to);
  if (!busy_)
    write_batch();
  return to;
}

void store_state::settle_flushers() {
  for (auto& x : std::exchange(flushers_, {}))
    deliver(x);
}

} // namespace qubes::actors
