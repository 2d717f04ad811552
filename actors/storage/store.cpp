#include "actors/storage/store.hpp"

#include "actors/common/off_thread.hpp"
#include "model/change/foreign.hpp"

#include <spdlog/spdlog.h>

namespace qubes::actors {

using model::outcome;

namespace {

constexpr auto quiet = std::chrono::milliseconds{500};

} // namespace

store_actor::behavior_type store(store_actor::stateful_pointer<store_state> self, world_ptr in,
                                 std::shared_ptr<store_file> files, drivers::executor* lanes) {
  return self->state.make(std::move(in), std::move(files), lanes);
}

store_actor::behavior_type store_state::make(world_ptr in, std::shared_ptr<store_file> files,
                                             drivers::executor* lanes) {
  world_ = std::move(in);
  files_ = std::move(files);
  lanes_ = lanes;
  head_ = world_->system.read();
  holdings_.adopt(*head_);
  tell_status();
  return {
      answer_probe,
      [this](const model::change& what, const std::string& caller) { return commit(what, caller); },
      [this](atom::reload) { return reload(); },
      [this](atom::flush) { return flush(); },
      [](const completion& run) { run(); },
  };
}

// -- changes ----------------------------------------------------------------------------------

caf::result<model::system_ptr> store_state::commit(const model::change& what,
                                                   const std::string& caller) {
  auto to = self->make_response_promise<promise>();
  if (batch_.size() >= world_->settings.batch) {
    to.deliver(to_caf({model::errc::store, "too many changes wait to be written", "try again"}));
    return to;
  }
  gather({what, caller, to});
  if (!busy_ && batch_.size() == 1)
    self->send(self, completion{[this] { // behind the changes that have arrived already
                 if (!busy_)
                   write_batch();
               }});
  return to;
}

/// Puts the change on top of the head, or refuses it there.
void store_state::gather(pending x) {
  auto machine = world_->machine.read();
  auto next = model::apply(*head_, *machine, x.what);
  if (!next) {
    x.to.deliver(to_caf(next.error()));
    return;
  }
  auto booked = holdings_.book(*head_, *next, x.caller, world_->settings);
  if (!booked) {
    x.to.deliver(to_caf(booked.error()));
    return;
  }
  x.booked = std::move(*booked);
  head_ = std::make_shared<model::system>(std::move(*next));
  batch_.push_back(std::move(x));
}

void store_state::write_batch() {
  if (batch_.empty() && !std::exchange(must_write_, false)) {
    answer_flushers();
    return;
  }
  busy_ = true;
  writing_ = std::exchange(batch_, {});
  written_head_ = head_;
  world_->status.begin_call(status_board::store_call, "dom0",
                            {"write", "qubes.xml", world_->now_us()});
  off_thread(
      store_actor{self}, *lanes_, drivers::lane::disk, "store",
      [](const std::shared_ptr<store_file>& files, const model::system_ptr& what) {
        return files->save(*what);
      },
      [this](const outcome<void>& result) { written(result); }, files_, written_head_);
  off_thread(
      store_actor{self}, *lanes_, drivers::lane::disk, "store",
      [](const std::shared_ptr<store_file>& files) -> outcome<void> {
        files->prune();
        return {};
      },
      [](const outcome<void>&) { /* the next write prunes again */ }, files_);
}

/// While changes come one after the other, each write keeps what the one before has written.
void store_state::keep_when_quiet() {
  quiet_since_us_ = world_->now_us();
  if (!std::exchange(will_keep_, true))
    self->delayed_send(self, quiet, completion{[this] { look_for_quiet(); }});
}

void store_state::look_for_quiet() {
  auto left = quiet - std::chrono::microseconds{world_->now_us() - quiet_since_us_};
  if (left.count() > 0)
    return self->delayed_send(self, left, completion{[this] { look_for_quiet(); }});
  will_keep_ = false;
  keep([] { /* where it failed, the next write does */ });
}

void store_state::keep(std::function<void()> then) {
  off_thread(
      store_actor{self}, *lanes_, drivers::lane::disk, "store",
      [](const std::shared_ptr<store_file>& files) -> outcome<void> {
        files->keep();
        return {};
      },
      [then = std::move(then)](const outcome<void>&) { then(); }, files_);
}

void store_state::written(outcome<void> result) {
  busy_ = false;
  world_->status.finish_call(status_board::store_call);
  auto done = std::exchange(writing_, {});
  ++status_.batches;
  if (result) {
    keep_when_quiet();
    ++status_.generation;
    status_.changes += done.size();
    status_.error.clear();
    publish(written_head_);
    forget_lost(*world_);
    for (auto& x : done)
      x.to.deliver(written_head_);
  } else {
    spdlog::error("qubes.xml was not written: {}", result.error().message());
    status_.error = result.error().message();
    take_back(batch_);
    take_back(done);
    for (auto& x : done)
      x.to.deliver(to_caf(result.error()));
    gather_again();
  }
  tell_status();
  go_on();
}

void store_state::tell_status() {
  status_.fallback = files_->running_on();
  status_.bytes = holdings_.file();
  status_.bytes_by_caller = holdings_.by_caller();
  world_->status.set(status_);
}

/// From the last one to the first.
void store_state::take_back(const std::vector<pending>& from) {
  for (auto x = from.rbegin(); x != from.rend(); ++x)
    holdings_.take_back(x->booked);
}

/// What was gathered stood on a head that is no more: it is checked anew on what is durable.
void store_state::gather_again() {
  head_ = world_->system.read();
  for (auto& x : std::exchange(batch_, {}))
    gather(std::move(x));
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

/// A finding in the log is found in `status` as well.
void tell_findings(world& in, std::vector<model::xml::finding> all) {
  auto told = std::make_shared<const std::vector<model::xml::finding>>(std::move(all));
  in.findings.write(told);
  for (auto& x : *told)
    spdlog::warn("qubes.xml:{}: {}", x.line, x.text);
}

void forget_lost(world& in) {
  auto now = in.findings.read();
  if (std::ranges::none_of(*now, &model::xml::finding::until_saved))
    return;
  auto left = *now;
  std::erase_if(left, [](auto& x) { return x.until_saved; });
  in.findings.write(std::make_shared<std::vector<model::xml::finding>>(std::move(left)));
}

/// No domain has planned this change: all look what it means for them.
outcome<void> store_state::adopt(const store_file::foreign& x) {
  if (auto may = model::may_follow(world_->look().view(), x.loaded.system); !may)
    return may;
  files_->adopt(x);
  must_write_ = x.loaded.numbered;
  publish(std::make_shared<model::system>(x.loaded.system));
  tell_findings(*world_, x.loaded.findings);
  holdings_.adopt(x.loaded.system);
  if (world_->events)
    self->send(world_->events, file_changed{});
  if (world_->registry)
    self->send(world_->registry, file_changed{});
  return {};
}

caf::result<void> store_state::reload() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  reloaders_.push_back(to);
  if (!busy_)
    reread();
  return to;
}

/// Once for all requests so far.
void store_state::reread() {
  busy_ = true;
  off_thread(
      store_actor{self}, *lanes_, drivers::lane::disk, "store",
      [](const std::shared_ptr<store_file>& files,
         const std::shared_ptr<const model::host>& machine) {
        using news = std::optional<store_file::foreign>;
        return files->changed_by_others()
                   ? files->reread(*machine).map([](auto&& x) { return news{std::move(x)}; })
                   : outcome<news>{};
      },
      [this, asked = std::exchange(reloaders_, {})](
          const outcome<std::optional<store_file::foreign>>& found) mutable {
        busy_ = false;
        take_back(batch_);
        auto done = found.and_then([this](auto& x) { return x ? adopt(*x) : outcome<void>{}; });
        if (!done || *found) {
          status_.error = done ? "" : done.error().message();
          tell_status();
        }
        for (auto& to : asked)
          if (done)
            deliver(to);
          else
            to.deliver(to_caf(done.error()));
        gather_again();
        write_batch();
        if (!busy_)
          go_on();
      },
      files_, world_->machine.read());
}

void store_state::go_on() {
  if (reloaders_.empty())
    write_batch();
  else
    reread();
}

caf::result<void> store_state::flush() {
  auto to = self->make_response_promise<caf::typed_response_promise<void>>();
  flushers_.push_back(to);
  if (!busy_)
    write_batch();
  return to;
}

/// Once the last state is kept as a generation: the next daemon may find the file damaged.
void store_state::answer_flushers() {
  if (flushers_.empty())
    return;
  keep([all = std::exchange(flushers_, {})]() mutable {
    for (auto& x : all)
      deliver(x);
  });
}

} // namespace qubes::actors
