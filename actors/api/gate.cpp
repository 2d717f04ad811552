#include "actors/api/gate.hpp"

#include "actors/common/hand_on.hpp"
#include "actors/common/log.hpp"
#include "actors/common/reply.hpp"

#include "model/policy/permission.hpp"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>

namespace qubes::actors {

using model::errc;

// -- in the server's thread -----------------------------------------------------------------------

request_handler::request_handler(world_ptr in, gate_actor gate, frame_sink to,
                                 std::function<void(connection_id)> drop,
                                 std::function<void(connection_id, const std::string&)> charge)
    : world_(std::move(in)), gate_(std::move(gate)), to_(std::move(to)), drop_(std::move(drop)),
      charge_(std::move(charge)) {}

namespace {

/// A request, and so the record, file or message that is made of it, is of a size that was
/// foreseen.
model::outcome<void> check_size(const api::request& x, bool of_dom0, const quotas& most) {
  auto bytes = x.argument.size() + x.payload.size();
  auto allowed = of_dom0 ? most.value_bytes : most.others_value_bytes;
  if (bytes <= allowed)
    return {};
  return model::fail(
      errc::value, fmt::format("argument and payload have {} bytes, more than {}", bytes, allowed),
      fmt::format("quota.{} says how many are allowed",
                  of_dom0 ? "value_bytes" : "others_value_bytes"));
}

} // namespace

void request_handler::serve(connection_id who, api::socket where, const caller& peer,
                            std::string_view bytes) {
  auto request = api::parse_request(bytes);
  if (!request) {
    spdlog::warn("framing error from pid {} uid {}: {} bytes", peer.pid, peer.uid, bytes.size());
    return drop_(who);
  }
  auto refuse = [&](const model::error& why) { to_(who, api::exception(why), true); };
  auto now = world_->look();
  auto fine = check(*request, where, now);
  if (!fine)
    return refuse(fine.error());
  if (!fine->source->name.is_dom0())
    charge_(who, fine->source->name.str());
  if (auto may = model::permit(request->method, request->argument, *fine->source); !may) {
    log(spdlog::level::warn, {.domain = fine->destination->name.str(), .method = request->method},
        fmt::format("denied to {} (pid {} uid {}): {}", fine->source->name.str(), peer.pid,
                    peer.uid, may.error().message()));
    return refuse(may.error());
  }
  auto x = call{*request, now, *world_, *fine->source, *fine->destination};
  if (auto* read = std::get_if<read_handler>(&fine->row->handler)) {
    auto result = (*read)(x);
    return result ? to_(who, api::success(*result), true) : refuse(result.error());
  }
  auto& source = *fine->source;
  auto audit = begin_audit(x, *fine->row, peer);
  auto refuse_order = [&](const model::error& why) {
    log_audit(audit, tl::unexpected{why}, world_->now_us());
    refuse(why);
  };
  if (auto fits = check_size(*request, source.name.is_dom0(), world_->settings); !fits)
    return refuse_order(fits.error());
  if (auto room =
          world_->budget.take(who, source.name.str(), source.name.is_dom0(), world_->settings);
      !room)
    return refuse_order(room.error());
  auto* streams = std::get_if<subscription>(&fine->row->handler);
  if (streams || std::holds_alternative<sampling>(fine->row->handler))
    log_audit(audit, std::string{}, world_->now_us());
  if (streams) {
    auto& about = *fine->destination;
    auto audience = model::audience{about.name.is_dom0() ? std::string{} : about.name.str(),
                                    fine->source->uuid, world_->policy.read()};
    caf::anon_send(world_->events, atom::subscribe_v, who, std::move(audience));
    return;
  }
  if (std::holds_alternative<sampling>(fine->row->handler)) {
    auto& about = fine->destination->name;
    caf::anon_send(world_->stats, atom::subscribe_v, who,
                   about.is_dom0() ? std::string{} : about.str());
    return;
  }
  auto [what, to] = make_order(*fine->row, x);
  if (!what)
    return refuse_order(what.error());
  what->caller = source.name.str();
  caf::anon_send(gate_, std::move(*what), who, std::move(to), std::move(audit));
}

void request_handler::closed(connection_id who) {
  world_->budget.give_back(who);
}

void request_handler::gone(connection_id who) {
  caf::anon_send(world_->events, atom::closed_v, who);
  caf::anon_send(world_->stats, atom::closed_v, who);
  caf::anon_send(gate_, atom::closed_v, who);
}

// -- in the actor ---------------------------------------------------------------------------------

namespace {

constexpr auto sweep = std::chrono::seconds{1};

} // namespace

gate_actor::behavior_type gate(gate_actor::stateful_pointer<gate_state> self, world_ptr in,
                               frame_sink to) {
  return self->state.make(std::move(in), std::move(to));
}

gate_actor::behavior_type gate_state::make(world_ptr in, frame_sink to) {
  world_ = std::move(in);
  to_ = std::move(to);
  return {
      answer_probe,
      [this](const answer& x) { answered(x); },
      [this](const order& what, connection_id who, const std::string& domain,
             const audit_entry& audit) { take(what, who, domain, audit); },
      [this](atom::closed, connection_id who) { gone(who); },
      [this](atom::tick) { look_for_overdue(); },
  };
}

gate_state::~gate_state() {
  auto why = model::error{errc::general, "the daemon is stopping; the order may go on", {}};
  for (auto& [number, x] : tickets_) {
    log_audit(x.audit, tl::unexpected{why}, world_->now_us());
    if (x.who != 0)
      to_(x.who, api::exception(why), true);
  }
  for (auto& [who, x] : kept_)
    x->stop.request_stop();
}

void gate_state::take(order what, connection_id who, const std::string& domain,
                      const audit_entry& audit) {
  auto ticket = next_ticket_++;
  auto limit = std::chrono::microseconds{limit_of(what, world_->settings)};
  tickets_[ticket] = {who, world_->now_us() + limit.count(), begin_cancellation(what), audit,
                      begun_by(what, domain)};
  auto to = reply_to(ticket, client_actor{self}, what.caller);
  hand_on(*world_, domain, std::move(what), to);
  if (!std::exchange(ticking_, true))
    self->delayed_send(self, sweep, atom::tick_v);
}

void gate_state::answered(const answer& x) {
  auto i = tickets_.find(x.ticket);
  if (i == tickets_.end())
    return; // overdue or gone
  auto of = std::move(i->second);
  log_audit(of.audit, x.result, world_->now_us());
  tickets_.erase(i);
  if (of.begins && !x.result)
    of.cancellation->stop.request_stop(); // what it may have begun
  if (of.who == 0)
    return;
  if (x.result)
    tell(std::move(of), *x.result);
  else
    to_(of.who, api::exception(x.result.error()), true);
}

void gate_state::tell(ticket x, const std::string& reply) {
  if (!x.begins)
    return to_(x.who, api::success(reply), true);
  kept_[x.who] = std::move(x.cancellation);
  x.begins->args.back().second = reply;
  to_(x.who, api::event_frame(*x.begins), false);
}

/// The reply to this client has no reader any more.
void gate_state::gone(connection_id who) {
  if (auto x = kept_.extract(who))
    x.mapped()->stop.request_stop();
  for (auto& [number, x] : tickets_)
    if (x.who == who) {
      x.who = 0;
      if (x.cancellation)
        x.cancellation->stop.request_stop();
    }
}

/// While work reports progress, its deadline moves.
std::int64_t gate_state::deadline_of(const ticket& x) const {
  auto limit = std::chrono::microseconds{world_->settings.order}.count();
  auto heard_us = x.cancellation ? x.cancellation->heard_us.load() : 0;
  return std::max(x.deadline_us, heard_us == 0 ? 0 : heard_us + limit);
}

/// One timer for all orders, and none while there are none: an idle daemon sleeps.
void gate_state::look_for_overdue() {
  auto now_us = world_->now_us();
  auto overdue = std::vector<std::uint64_t>{};
  for (auto& [number, x] : tickets_)
    if (deadline_of(x) <= now_us) {
      overdue.push_back(number);
      if (x.cancellation)
        x.cancellation->stop.request_stop();
    }
  for (auto number : overdue)
    answered({number, model::fail(errc::timed_out, "the order was not carried out in time",
                                  "it may still be; see 'qvmctl status'")});
  ticking_ = !tickets_.empty();
  if (ticking_)
    self->delayed_send(self, sweep, atom::tick_v);
}

} // namespace qubes::actors
