// Every actor as the others see it, on one page.
#pragma once

#include "messages/disk_jobs.hpp"
#include "messages/driver_jobs.hpp"
#include "messages/orders.hpp"
#include "messages/types.hpp"

namespace qubes {

/// A CLIENT: an actor that hands out orders, each with a ticket that its reply brings back.
using client_actor = caf::typed_actor<
    // The one answer to an order.
    caf::reacts_to<answer>>;

/// A DOMAIN: one VM of the host.
using domain_actor = caf::typed_actor<
    // Carries out a client's order.
    caf::reacts_to<order, reply>,
    // Brings the domain and everything it needs up; joins a start that is under way.
    caf::replies_to<atom::start>::with<void>,
    // A netvm that counts this domain as its client came up: plug the network in again.
    caf::reacts_to<netvm_up>,
    // ... or a life of that netvm is over: an interface at that is dead.
    caf::reacts_to<netvm_fell>,
    // The domain's record may name another netvm, although this actor has not changed it.
    caf::reacts_to<netvm_may_differ>,
    // The hypervisor tells of this domain.
    caf::reacts_to<news>,
    // Something in the domain's QubesDB that is watched changed, or is not watched any more.
    caf::reacts_to<guest_news>, caf::reacts_to<watch_end>,
    // The domain's agent came or went.
    caf::reacts_to<agent_news>,
    // A backend offers a device that is assigned to this domain.
    caf::reacts_to<device_available>,
    // Another domain wants a device of ours, if the user consents.
    caf::reacts_to<device_request>,
    // A backend says that this domain has a device no more.
    caf::reacts_to<device_removed>,
    // A port of ours is free, after what was there before.
    caf::reacts_to<port_freed>,
    // Whether the user is still asked the right thing.
    caf::reacts_to<questions_due>,
    // A device of another domain is passed to this one.
    caf::reacts_to<device_passed>,
    // The menu of applications that this domain shows changes.
    caf::reacts_to<model::menu_turn>,
    // The truth after a (re)connect: what the hypervisor has now, halted when it has nothing.
    caf::replies_to<atom::reconcile, model::guest>::with<void>,
    // The domain's record is gone: ends once what it has begun is done.
    caf::reacts_to<record_gone>,
    // INTERNAL: a firewall rule may have expired.
    caf::reacts_to<atom::expire, std::uint64_t>,
    // INTERNAL: a deadline of the domain's own has passed.
    caf::reacts_to<atom::overdue, std::uint64_t>,
    // INTERNAL: what failed in this life is tried again.
    caf::reacts_to<atom::tick, std::uint64_t>,
    // INTERNAL: what the domain has put off.
    caf::reacts_to<completion>>;

/// A NETVM: supervises the domains connected to a domain that provides network.
using netvm_actor = caf::typed_actor<
    // A client needs the network: brings the provider up, then watches the client.
    caf::replies_to<atom::join, std::string, domain_actor>::with<void>,
    caf::replies_to<atom::rejoin, std::string, domain_actor>::with<void>,
    // Counts a client without bringing the provider up, and watches it.
    caf::reacts_to<atom::count, std::string, domain_actor>,
    // A client stopped or went elsewhere.
    caf::reacts_to<atom::leave, std::string>,
    // The provider wants to stop: refused while clients run, unless forced. Joins wait from here
    // on.
    caf::replies_to<close_netvm>::with<void>,
    // A client connected, left, or has another address: tells the provider. Answers once it is
    // told, or cannot be.
    caf::replies_to<atom::refresh>::with<void>,
    // The provider stays after all.
    caf::reacts_to<atom::open>,
    // The provider is running: plug the clients in again. What an earlier life served, a new one
    // does not.
    caf::reacts_to<provider_up>,
    // A life of the provider is over: tell the clients, then bring it up for clients that wait to
    // join.
    caf::reacts_to<provider_fell>>;

/// The STORE: the only writer of qubes.xml.
using store_actor = caf::typed_actor<
    // Shows that the store still answers.
    caf::replies_to<atom::probe>::with<void>,
    // Makes a change durable on behalf of a domain, "" for the daemon's own; answers once it is on
    // disk and published.
    caf::replies_to<model::change, std::string>::with<model::system_ptr>,
    // Reads the file again, if another program changed it.
    caf::replies_to<atom::reload>::with<void>,
    // Answers when everything acknowledged or waiting so far is decided.
    caf::replies_to<atom::flush>::with<void>,
    // INTERNAL: the disk lane is done.
    caf::reacts_to<completion>>;

/// The DRIVER: the only road to what can block.
using driver_actor = caf::typed_actor<
    // Shows that the driver still answers.
    caf::replies_to<atom::probe>::with<void>,
    // Does a job on its lane; answers with what it found once it is done. Fails fast while the
    // hypervisor of its domain is out of reach. Asked by `ask_driver`
    // (actors/common/ask_driver.hpp).
    caf::replies_to<driver_job>::with<driver_result>,
    // Connects (again), then tells every domain the truth. Answers once the first attempt failed,
    // or all of them have heard.
    caf::replies_to<atom::launch>::with<void>,
    // A connection died.
    caf::reacts_to<hypervisor_lost>,
    // The hypervisor's event thread tells of a guest.
    caf::reacts_to<news>,
    // ... and that a device of the host came or went.
    caf::reacts_to<atom::hardware>,
    // The thread that watches QubesDBs tells of an entry, or of a daemon that has ended.
    caf::reacts_to<guest_news>, caf::reacts_to<watch_end>,
    // The thread that watches agents tells which are there.
    caf::reacts_to<agents_now>,
    // XenStore says that some guest ended: those believed running are looked at again.
    caf::reacts_to<some_guest_ended>,
    // INTERNAL: a lane is done.
    caf::reacts_to<completion>,
    // INTERNAL: time to try to connect again.
    caf::reacts_to<reconnect>>;

/// STORAGE: takes work on a domain's disks apart, and hands a piece to each pool.
using storage_actor = caf::typed_actor<
    // Shows that storage still answers.
    caf::replies_to<atom::probe>::with<void>,
    // Has a job done; answers with what it found once it is. Asked by `ask_storage`
    // (actors/common/ask_storage.hpp).
    caf::replies_to<storage_job>::with<storage_result>,
    // The pools changed: spawns those that are new, ends those that are gone.
    caf::reacts_to<model::system_ptr>,
    // Every domain knows what it has: its volumes are looked at, for later requests.
    caf::reacts_to<domains_known>,
    // The actor of the domain with this uuid is no more: ends its removal, if that was noted.
    caf::reacts_to<domain_ended>,
    // INTERNAL: a pool has done its piece.
    caf::reacts_to<completion>>;

/// A POOL: work on its volumes, in order for each, different ones in parallel.
using pool_actor = caf::typed_actor<
    // Does a job about one volume or the pool on a storage thread; answers once it is done, or has
    // not got on for too long.
    caf::reacts_to<pool_job, pool_reply>,
    // The pool was removed: ends once what it has begun is done.
    caf::reacts_to<pool_removed>,
    // INTERNAL: a storage thread is done.
    caf::reacts_to<completion>,
    // INTERNAL: look for work that does not get on.
    caf::reacts_to<atom::tick>>;

/// The REGISTRY: which domains there are, and the host's own properties and labels.
using registry_actor = caf::typed_actor<
    // Shows that the registry still answers.
    caf::replies_to<atom::probe>::with<void>,
    // Carries out an order about the host.
    caf::reacts_to<order, reply>,
    // An order for this domain, whose actor died and rests: what protects is done all the same.
    caf::reacts_to<atom::rescue, std::string, order, reply>,
    // The published system changed: spawns new domains' actors, ends those of domains that are
    // gone.
    caf::reacts_to<model::system_ptr>,
    // Spawns all actors; answers when all are there.
    caf::replies_to<atom::launch>::with<void>,
    // A domain provides network now, or not any more: spawns or ends its netvm. Answers once the
    // directory shows it.
    caf::replies_to<atom::align, std::string>::with<void>,
    // Others changed the file: every domain looks whether its netvm is another one.
    caf::reacts_to<file_changed>,
    // Ends all domain and netvm actors; the domains themselves go on running.
    caf::reacts_to<atom::stop>,
    // INTERNAL: an actor that died too often may begin again.
    caf::reacts_to<atom::rested>,
    // INTERNAL: something that the registry waited for is known.
    caf::reacts_to<completion>,
    // INTERNAL: domains that were created wait no longer for others.
    caf::reacts_to<atom::tick>>;

/// DISPOSABLES: some wait ready, started and paused, for templates that want it.
using disposables_actor = caf::typed_actor<
    // The truth about all domains is known: what an earlier life left half done is ended.
    caf::reacts_to<domains_known>,
    // A client wants one of this template, on behalf of a domain; "" when none is ready.
    caf::replies_to<take_disposable>::with<std::string>,
    // The record of this template changed, or one of its disposables ended.
    caf::reacts_to<atom::review, std::string>,
    // As many as this template ("" for all) should have shall be made now.
    caf::reacts_to<atom::fill, std::string>,
    // This template, or what it is based on, has run: its disposables are of yesterday.
    caf::reacts_to<atom::outdated, std::string>,
    // None of this template ("" for any) shall be left.
    caf::reacts_to<atom::drop, std::string>,
    // This disposable was unpaused.
    caf::reacts_to<atom::used, std::string>,
    // INTERNAL: time to fill the pool of this template.
    caf::reacts_to<atom::tick, std::string>,
    // INTERNAL: time to try again to fill the pool of this template.
    caf::reacts_to<atom::retry, std::string>,
    // INTERNAL: whether this disposable that was to go is gone.
    caf::reacts_to<atom::recheck, std::string>,
    // INTERNAL: a change takes long to reach the disk.
    caf::reacts_to<completion>,
    // INTERNAL (as any client): an order was carried out.
    caf::reacts_to<answer>>;

/// EVENTS: tells subscribers what happens, in order.
using events_actor = caf::typed_actor<
    // Passes on what happened.
    caf::reacts_to<events>,
    // A connection wants to hear: of everything, or of one domain, as far as its caller may.
    caf::reacts_to<atom::subscribe, connection_id, model::audience>,
    // A connection closed.
    caf::reacts_to<atom::closed, connection_id>,
    // The file was written by others: names may be back of which nothing was told.
    caf::reacts_to<file_changed>>;

/// STATS: tells subscribers what the running domains use, as often as the host's stats_interval.
using stats_actor = caf::typed_actor<
    // A connection wants to hear: of all ("") domains, or of one.
    caf::reacts_to<atom::subscribe, connection_id, std::string>,
    // A connection closed.
    caf::reacts_to<atom::closed, connection_id>,
    // INTERNAL: time to look again.
    caf::reacts_to<atom::tick, std::uint64_t>>;

/// SLEEP: puts all domains to sleep before the host, and wakes them after it.
using sleep_actor = caf::typed_actor<
    // Carries out suspend_host or resume_host.
    caf::reacts_to<order, reply>,
    // INTERNAL (as any client): a domain carried out its part.
    caf::reacts_to<answer>,
    // INTERNAL: a domain has had its time for that.
    caf::reacts_to<atom::overdue, std::uint64_t>>;

/// BACKUP: what a profile's backup would hold, and the backups being made.
using backup_actor = caf::typed_actor<
    // Carries out tell_backup, run_backup or cancel_backup.
    caf::reacts_to<order, reply>,
    // Breaks off the backups being made; answers once nothing is left of them.
    caf::replies_to<atom::stop>::with<void>,
    // INTERNAL: a lane is done.
    caf::reacts_to<completion>,
    // INTERNAL: time to tell how far the backups are.
    caf::reacts_to<atom::tick>>;

/// The GATE: clients' requests in, replies out.
using gate_actor = caf::typed_actor<
    // Shows that the gate still answers.
    caf::replies_to<atom::probe>::with<void>,
    // INTERNAL (as any client): an order was carried out.
    caf::reacts_to<answer>,
    // The server's thread hands over an order for a domain, or for the host ("").
    caf::reacts_to<order, connection_id, std::string, audit_entry>,
    // A client left before its answer.
    caf::reacts_to<atom::closed, connection_id>,
    // INTERNAL: look for overdue orders.
    caf::reacts_to<atom::tick>>;

/// How an actor that is asked whether it still answers does so.
inline constexpr auto answer_probe = [](atom::probe) -> caf::result<void> { return caf::unit; };

} // namespace qubes
