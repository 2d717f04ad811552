#include "actors/host/offers.hpp"

#include <fmt/format.h>

namespace qubes::actors {

using model::errc;

namespace {

constexpr auto most_offers = std::size_t{16384};
constexpr auto token_length = 32;

} // namespace

void volume_offers::carry_out(const ask::offer_volume& x, const reply& to) {
  constexpr auto letters =
      std::string_view{"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"};
  auto now = host_.world()->look();
  auto* from = now.find(x.domain);
  if (!from)
    return to.refuse(model::no_such_domain(x.domain));
  auto token = std::string{};
  for (auto i = 0; i < token_length; ++i)
    token += letters[host_.world()->chance() % letters.size()];
  offers_[token] = {.domain = x.domain, .uuid = from->uuid, .volume = x.volume};
  offered_.push_back(token);
  while (offered_.size() > most_offers) { // no client came for the oldest
    offers_.erase(offered_.front());
    offered_.pop_front();
  }
  to.ok(token);
}

void volume_offers::carry_out(const ask::clone_volume& x, const reply& to) {
  auto offer = offers_.extract(x.token);
  if (offer.empty())
    return to.refuse({errc::token_not_found, "no volume is on offer under this token",
                      "each token is good once; ask for a new one with volume.CloneFrom"});
  auto actors = host_.world()->directory.read();
  auto* entry = actors->find(x.domain);
  if (!entry || !entry->domain)
    return to.refuse(model::no_such_domain(x.domain));
  host_.self->send(entry->domain,
                   order{ask::import_volume{x.volume, std::move(offer.mapped()), x.cancellation}},
                   to);
}

} // namespace qubes::actors
