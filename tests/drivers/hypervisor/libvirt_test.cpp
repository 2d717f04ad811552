// The driver against the real libvirt: its test driver in this process, the same behind a real
// libvirtd that is killed and frozen, and real QEMU.
#include "drivers/hypervisor/libvirt.hpp"

#include "drivers/hypervisor/begin_limit.hpp"
#include "drivers/hypervisor/libvirt_session.hpp"
#include "drivers/io/lanes.hpp"
#include "tests/drivers/private_daemon.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <condition_variable>
#include <csignal>
#include <future>
#include <latch>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

using namespace qubes;
using namespace qubes::drivers;
using namespace std::chrono_literals;
using model::errc;
using model::power;
using testing::AllOf;
using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

namespace {

constexpr auto soon = 30s;
const auto work = std::string{"7db78950-c373-4e32-b6a6-4c4e7e4a3fd1"};
const auto other = std::string{"7db78950-c373-4e32-b6a6-4c4e7e4a3fd2"};

struct shape {
  std::string uuid = work;
  std::string name = "work";
  std::string type = "xen";
  unsigned mib = 400;
  std::string devices = {};
};

std::string xml(const shape& x) {
  return "<domain type='" + x.type + "'><name>" + x.name + "</name><uuid>" + x.uuid
         + "</uuid><memory unit='MiB'>" + std::to_string(x.mib)
         + "</memory><vcpu>2</vcpu><os><type "
           "arch='x86_64'>hvm</type></os><on_crash>destroy</on_crash>"
           "<devices>"
         + x.devices + "</devices></domain>";
}

std::string numbered_uuid(unsigned n) {
  return work.substr(0, work.size() - 6) + std::to_string(100000 + n);
}

/// Collects the driver's news from its event thread.
class event_recorder {
public:
  struct news {
    std::string name;
    guest_event what;
    bool operator==(const news&) const = default;
    friend void PrintTo(const news& x, std::ostream* out) {
      *out << x.name << " event " << static_cast<int>(x.what);
    }
  };

  listener callbacks() {
    return {[this](auto&, auto& name, guest_event what) {
              auto lock = std::lock_guard{mutex_};
              heard_.push_back({name, what});
              changed_.notify_all();
            },
            [this](auto& why) {
              auto lock = std::lock_guard{mutex_};
              lost_.push_back(why);
              changed_.notify_all();
            }};
  }

  /// The news up to `last`, which must come.
  std::vector<news> until(const news& last) {
    auto lock = std::unique_lock{mutex_};
    EXPECT_TRUE(
        changed_.wait_for(lock, soon, [&] { return !heard_.empty() && heard_.back() == last; }))
        << "never heard: " << last.name << " event " << static_cast<int>(last.what);
    return std::exchange(heard_, {});
  }

  bool until_lost(std::size_t times) {
    auto lock = std::unique_lock{mutex_};
    return changed_.wait_for(lock, soon, [&] { return lost_.size() >= times; });
  }

  std::vector<std::string> lost() {
    auto lock = std::lock_guard{mutex_};
    return lost_;
  }

  std::vector<news> heard() {
    auto lock = std::lock_guard{mutex_};
    return heard_;
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<news> heard_;
  std::vector<std::string> lost_;
};

class libvirt_in_process : public testing::Test {
protected:
  void SetUp() override {
    host->listen(recorder.callbacks());
    auto x = host->connect();
    ASSERT_TRUE(x) << x.error().message();
  }

  event_recorder recorder;
  std::unique_ptr<hypervisor> host = make_libvirt({.uri = "test:///default"});
};

MATCHER(succeeds, "") {
  if (!arg)
    *result_listener << arg.error().message();
  return arg.has_value();
}

/// The sentence of a refusal names the domain or device, and has one line.
testing::Matcher<const model::error&> refusal(errc code, const std::string& part) {
  return AllOf(Field(&model::error::code, code), Field(&model::error::text, HasSubstr(part)),
               Field(&model::error::text, testing::Not(HasSubstr("\n"))));
}

TEST_F(libvirt_in_process, a_life_with_its_events_in_order) {
  auto xid = host->create(work, xml({}));
  ASSERT_TRUE(xid) << xid.error().message();
  EXPECT_GT(*xid, 0);
  auto now = host->inspect(work);
  ASSERT_TRUE(now);
  EXPECT_EQ(now->state, power::running); // this driver cannot start paused
  EXPECT_EQ(now->xid, *xid);
  EXPECT_EQ(now->name, "work");
  EXPECT_EQ(now->memory_kib, 400U * 1024);
  EXPECT_GT(now->cpu_time_ns, 0U);
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_EQ(host->inspect(work)->state, power::paused);
  EXPECT_THAT(host->resume(work), succeeds());
  EXPECT_THAT(host->shutdown(work), succeeds());
  EXPECT_EQ(host->inspect(work)->state, power::halted);
  EXPECT_EQ(host->inspect(work)->xid, -1);
  EXPECT_THAT(recorder.until({"work", guest_event::stopped}),
              ElementsAre(event_recorder::news{"work", guest_event::started},
                          event_recorder::news{"work", guest_event::suspended},
                          event_recorder::news{"work", guest_event::resumed},
                          event_recorder::news{"work", guest_event::stopped}));
  EXPECT_THAT(host->undefine(work), succeeds());
  EXPECT_THAT(host->undefine(work), succeeds());
  EXPECT_EQ(host->inspect(work)->state, power::halted);
}

TEST_F(libvirt_in_process, counts_what_goes_over_interfaces) {
  auto interface = [](const std::string& name) {
    return "<interface type='bridge'><source bridge='br0'/><target dev='" + name
           + "'/></interface>";
  };
  ASSERT_TRUE(host->create(work, xml({.devices = interface("net7") + interface("net8")})));
  ASSERT_TRUE(host->create(other, xml({.uuid = other, .name = "other"})));
  auto found = host->device_usage();
  ASSERT_THAT(found, succeeds());
  EXPECT_GT(found->at(work).network->received_bytes, 0U);
  EXPECT_GT(found->at(work).network->sent_bytes, 0U);
  EXPECT_FALSE(found->contains(other)) << "it has no interface";
  EXPECT_THAT(host->destroy(work), succeeds());
  EXPECT_FALSE(host->device_usage()->contains(work));
}

TEST_F(libvirt_in_process, says_what_it_lacks_and_describes_the_host) {
  auto can = host->can();
  EXPECT_FALSE(can.paused_start || can.attach || can.sleep || can.guest_shutdown);
  auto facts = model::host{};
  facts.kind = model::hypervisor_kind::xen;
  EXPECT_THAT(host->describe_host(facts), succeeds());
  EXPECT_EQ(facts.kind, model::hypervisor_kind::test);
  EXPECT_EQ(facts.memory_kib, 3145728U);
  EXPECT_EQ(facts.cpus, 16U);
}

TEST_F(libvirt_in_process, lacking_attach_succeeds_without_effect) {
  ASSERT_TRUE(host->create(work, xml({})));
  EXPECT_THAT(host->attach(work, "<disk/>"), succeeds());
  EXPECT_THAT(host->detach(work, "<disk/>"), succeeds());
}

TEST_F(libvirt_in_process, a_known_definition_is_replaced_at_the_next_start) {
  ASSERT_TRUE(host->create(work, xml({.mib = 400})));
  EXPECT_THAT(host->destroy(work), succeeds());
  ASSERT_TRUE(host->create(work, xml({.mib = 500})));
  EXPECT_EQ(host->inspect(work)->memory_kib, 500U * 1024);
}

TEST_F(libvirt_in_process, starting_twice_is_refused_and_the_first_life_goes_on) {
  auto xid = host->create(work, xml({}));
  ASSERT_TRUE(xid);
  auto again = host->create(work, xml({.mib = 500}));
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error(), refusal(errc::hypervisor, "'work'"));
  EXPECT_EQ(host->inspect(work)->xid, *xid);
}

TEST_F(libvirt_in_process, calls_for_a_guest_that_is_off_are_refused) {
  EXPECT_THAT(host->destroy(work).error(), refusal(errc::vm_not_started, work));
  ASSERT_TRUE(host->create(work, xml({})));
  EXPECT_THAT(host->destroy(work), succeeds());
  for (auto call :
       {&hypervisor::destroy, &hypervisor::shutdown, &hypervisor::suspend, &hypervisor::resume}) {
    auto x = (host.get()->*call)(work);
    ASSERT_FALSE(x);
    EXPECT_THAT(x.error(), refusal(errc::vm_not_started, "'work'"));
  }
}

TEST_F(libvirt_in_process, refusals_tell_the_operation_the_domain_and_the_reason) {
  ASSERT_TRUE(host->create(work, xml({})));
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_THAT(host->suspend(work).error(), refusal(errc::hypervisor, "pause domain 'work': "));
  EXPECT_EQ(host->sleep(work).error().code, errc::not_implemented);
  EXPECT_EQ(host->wake(work).error().code, errc::not_implemented);
  EXPECT_THAT(host->create(other, "<domain").error(), refusal(errc::hypervisor, "define"));
  EXPECT_THAT(host->create(other, "<domain type='xen'/>").error(),
              refusal(errc::hypervisor, "define"));
  EXPECT_THAT(host->create(other, "").error(), refusal(errc::hypervisor, "define"));
  EXPECT_THAT(host->create(other, xml({.uuid = other, .name = "work"})).error(),
              refusal(errc::hypervisor, "'work'"));
  EXPECT_THAT(host->inspect("no uuid").error(), refusal(errc::hypervisor, "no uuid"));
}

TEST_F(libvirt_in_process, the_display_of_qubes_does_not_keep_hvm_from_starting) {
  auto x = host->create(work, xml({.devices = "<video><model type='vga'/></video>"
                                              "<graphics type='qubes'/>"}));
  ASSERT_TRUE(x) << x.error().message();
}

TEST_F(libvirt_in_process, every_recorded_domain_document_starts) {
  namespace fs = std::filesystem;
  auto documents = fs::path{QVMD_SOURCE_DIR} / "tests/golden/libvirt";
  auto started = 0;
  for (auto& file : fs::directory_iterator{documents}) {
    auto text = tests::text_of(file.path());
    if (file.path().extension() != ".xml" || text.find("<domain") == text.npos)
      continue;
    auto x = host->create(work, text);
    EXPECT_TRUE(x) << file.path() << ": " << x.error().message();
    EXPECT_THAT(host->destroy(work), succeeds());
    EXPECT_THAT(host->undefine(work), succeeds());
    ++started;
  }
  EXPECT_GT(started, 5);
}

TEST_F(libvirt_in_process, connecting_again_keeps_what_works) {
  ASSERT_TRUE(host->create(work, xml({})));
  for (auto i = 0; i < 3; ++i)
    EXPECT_THAT(host->connect(), succeeds());
  EXPECT_EQ(host->inspect(work)->state, power::running);
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_THAT(recorder.until({"work", guest_event::suspended}),
              ElementsAre(event_recorder::news{"work", guest_event::started},
                          event_recorder::news{"work", guest_event::suspended}));
  EXPECT_THAT(recorder.lost(), IsEmpty());
}

TEST_F(libvirt_in_process, after_listen_the_earlier_listener_hears_nothing) {
  auto second = event_recorder{};
  ASSERT_TRUE(host->create(work, xml({})));
  host->listen(second.callbacks());
  auto before = recorder.heard().size();
  EXPECT_THAT(host->destroy(work), succeeds());
  second.until({"work", guest_event::stopped});
  EXPECT_EQ(recorder.heard().size(), before);
}

TEST_F(libvirt_in_process, a_listener_that_throws_costs_its_own_news_alone) {
  auto calls = recorder.callbacks();
  calls.on_guest = [next = calls.on_guest](const std::string& uuid, const std::string& name,
                                           guest_event what) {
    if (what == guest_event::started)
      throw std::bad_alloc{};
    next(uuid, name, what);
  };
  host->listen(calls);
  ASSERT_TRUE(host->create(work, xml({})));
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_THAT(recorder.until({"work", guest_event::suspended}),
              ElementsAre(event_recorder::news{"work", guest_event::suspended}));
}

TEST_F(libvirt_in_process, a_connection_still_hears_events_when_another_one_ends) {
  auto second = make_libvirt({.uri = "test:///default"}); // shares domains and the event thread
  ASSERT_TRUE(second->connect());
  ASSERT_TRUE(second->create(work, xml({})));
  second.reset();
  EXPECT_THAT(host->destroy(work), succeeds());
  recorder.until({"work", guest_event::stopped});
}

TEST_F(libvirt_in_process, a_connection_may_end_while_events_arrive) {
  for (auto i = 0; i < 30; ++i) {
    auto hearer = std::make_unique<event_recorder>();
    auto brief = make_libvirt({.uri = "test:///default"});
    brief->listen(hearer->callbacks());
    ASSERT_TRUE(brief->connect());
    ASSERT_TRUE(brief->create(work, xml({})));
    EXPECT_THAT(brief->destroy(work), succeeds());
    brief.reset();
    hearer.reset();
  }
}

TEST_F(libvirt_in_process, a_hundred_creates_at_once) {
  constexpr auto count = 100U;
  auto failures = std::atomic<unsigned>{0};
  {
    auto pool = lanes{{.host = 4}};
    for (auto i = 0U; i < count; ++i)
      pool.post(lane::host, "vm" + std::to_string(i), [&, i] {
        auto uuid = numbered_uuid(i);
        auto x = host->create(uuid, xml({.uuid = uuid, .name = "vm" + std::to_string(i)}));
        failures += x && host->inspect(uuid)->state == power::running ? 0 : 1;
      });
  }
  EXPECT_EQ(failures, 0U);
  auto found = host->list();
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_EQ(found->size(), count + 1); // and the one the test driver starts with
  auto ids = std::set<std::int32_t>{};
  for (auto& x : *found)
    ids.insert(x.xid);
  EXPECT_EQ(ids.size(), count + 1);
}

TEST(libvirt, adopts_what_runs_already) {
  auto place = tests::own_directory{};
  auto file = place / "node.xml";
  auto domain = [](const shape& x, int state) {
    return "<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
           "<test:runstate>"
           + std::to_string(state) + "</test:runstate>" + xml(x).substr(xml(x).find("<name>"));
  };
  std::ofstream{file} << "<node><cpu><mhz>2000</mhz><model>i686</model><active>8</active>"
                         "<nodes>1</nodes><sockets>2</sockets><cores>2</cores><threads>2</threads>"
                         "</cpu><memory>8192000</memory>"
                      << domain({.uuid = numbered_uuid(1), .name = "sys-net"}, 1)
                      << domain({.uuid = numbered_uuid(2), .name = "vault", .mib = 256}, 3)
                      << domain({.uuid = numbered_uuid(3), .name = "off"}, 5) << "</node>";
  auto host = make_libvirt({.uri = "test://" + file});
  auto x = host->connect();
  ASSERT_TRUE(x) << x.error().message();
  auto found = host->list();
  ASSERT_TRUE(found) << found.error().message();
  EXPECT_THAT(*found,
              UnorderedElementsAre(
                  AllOf(Field(&guest::name, "sys-net"), Field(&guest::uuid, numbered_uuid(1)),
                        Field(&guest::state, power::running)),
                  AllOf(Field(&guest::name, "vault"), Field(&guest::memory_kib, 256U * 1024),
                        Field(&guest::state, power::paused))));
  auto off = host->inspect(numbered_uuid(3));
  ASSERT_TRUE(off);
  EXPECT_EQ(off->state, power::halted);
  EXPECT_EQ(off->name, "off");
  auto facts = model::host{};
  EXPECT_THAT(host->describe_host(facts), succeeds());
  EXPECT_EQ(facts.memory_kib, 8192000U);
}

TEST(libvirt, without_a_connection_calls_fail_and_name_the_uri) {
  auto uri = std::string{"test+unix:///default?socket=/nowhere/libvirt-sock"};
  auto host = make_libvirt({.uri = uri});
  EXPECT_THAT(host->list().error(), refusal(errc::hypervisor, uri));
  for (auto i = 0; i < 3; ++i) {
    auto x = host->connect();
    ASSERT_FALSE(x);
    EXPECT_THAT(x.error(), refusal(errc::hypervisor, uri));
    EXPECT_FALSE(x.error().hint.empty());
  }
  EXPECT_THAT(host->destroy(work).error(), refusal(errc::hypervisor, uri));
  EXPECT_FALSE(host->can().paused_start); // known from the URI alone
}

// -- behind a real libvirtd -----------------------------------------------------------------------

class libvirt_behind_a_daemon : public testing::Test {
protected:
  static constexpr auto program = "/usr/sbin/libvirtd";

  void SetUp() override {
    ::signal(SIGPIPE, SIG_IGN); // as the daemon does
    if (!std::filesystem::exists(program))
      GTEST_SKIP() << "libvirtd is not installed (" << program << ")";
    for (auto part : {"run", "home"}) {
      std::filesystem::create_directory(place / part);
      std::filesystem::permissions(place / part, std::filesystem::perms::all);
    }
    std::ofstream{place / "libvirtd.conf"} << "auth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n";
    start_daemon();
    host = make_libvirt({.uri = uri(), .silence = 3s});
    host->listen(recorder.callbacks());
    auto x = host->connect();
    ASSERT_TRUE(x) << x.error().message();
  }

  /// Starts an unprivileged daemon, so that it keeps its files to itself; it says when it is ready.
  void start_daemon() {
    daemon.reset();
    auto ready = place / "ready";
    ::unlink(ready.c_str());
    auto bell = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    auto where = sockaddr_un{.sun_family = AF_UNIX, .sun_path = {}};
    ready.copy(where.sun_path, sizeof where.sun_path - 1);
    ASSERT_EQ(::bind(bell, reinterpret_cast<sockaddr*>(&where), sizeof where), 0);
    std::filesystem::permissions(ready, std::filesystem::perms::all);
    daemon.emplace(
        std::vector<std::string>{program, "-f", place / "libvirtd.conf", "-p", place / "run/pid"},
        std::vector<std::string>{"NOTIFY_SOCKET=" + ready, "HOME=" + place / "home",
                                 "XDG_RUNTIME_DIR=" + place / "run"},
        place / "run/log", true);
    auto rings = pollfd{bell, POLLIN, 0};
    auto answered = ::poll(&rings, 1, 30000);
    ::close(bell);
    ASSERT_EQ(answered, 1) << tests::text_of(place / "run/log");
  }

  std::string uri() const {
    return "test+unix:///default?socket=" + place / "run/libvirt/libvirt-sock";
  }

  void expect_lost_everywhere() {
    auto begin = std::chrono::steady_clock::now();
    auto sentence = "the connection to '" + uri() + "' is lost; it is being restored";
    EXPECT_THAT(host->list().error(), refusal(errc::hypervisor, sentence));
    EXPECT_THAT(host->destroy(work).error(), refusal(errc::hypervisor, sentence));
    EXPECT_THAT(host->create(work, xml({})).error(), refusal(errc::hypervisor, sentence));
    EXPECT_THAT(host->inspect(work).error(), refusal(errc::hypervisor, sentence));
    EXPECT_LT(std::chrono::steady_clock::now() - begin, 500ms);
  }

  tests::own_directory place;
  std::optional<tests::private_daemon> daemon;
  event_recorder recorder;
  std::unique_ptr<hypervisor> host;
};

TEST_F(libvirt_behind_a_daemon, a_life_with_its_events_in_order) {
  ASSERT_TRUE(host->create(work, xml({})));
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_THAT(host->resume(work), succeeds());
  EXPECT_THAT(host->destroy(work), succeeds());
  EXPECT_THAT(recorder.until({"work", guest_event::stopped}),
              ElementsAre(event_recorder::news{"work", guest_event::started},
                          event_recorder::news{"work", guest_event::suspended},
                          event_recorder::news{"work", guest_event::resumed},
                          event_recorder::news{"work", guest_event::stopped}));
  EXPECT_EQ(host->destroy(work).error().code, errc::vm_not_started);
}

TEST_F(libvirt_behind_a_daemon, a_killed_daemon_is_told_once_and_the_connection_comes_back) {
  for (auto pass = std::size_t{1}; pass <= 2; ++pass) {
    daemon->kill();
    ASSERT_TRUE(recorder.until_lost(pass));
    EXPECT_THAT(recorder.lost().back(), HasSubstr(uri()));
    expect_lost_everywhere();
    EXPECT_THAT(host->connect().error(), refusal(errc::hypervisor, uri()));
    start_daemon();
    EXPECT_THAT(host->connect(), succeeds());
    ASSERT_TRUE(host->create(work, xml({})));
    recorder.until({"work", guest_event::started}); // the driver listens again
    EXPECT_EQ(host->list()->size(), 2U);
    EXPECT_EQ(recorder.lost().size(), pass);
  }
}

TEST_F(libvirt_behind_a_daemon, a_frozen_daemon_is_lost_and_connecting_to_it_ends) {
  daemon->freeze();
  auto begin = std::chrono::steady_clock::now();
  auto stuck = std::async(std::launch::async, [&] { return host->list(); });
  EXPECT_TRUE(recorder.until_lost(1));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  expect_lost_everywhere();
  auto refused = host->connect(); // the daemon accepts, and never answers
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), refusal(errc::hypervisor, uri()));
  daemon->send(SIGCONT);
  ASSERT_EQ(stuck.wait_for(soon), std::future_status::ready); // a late answer is an answer
  EXPECT_THAT(stuck.get(), succeeds());
  EXPECT_THAT(host->connect(), succeeds());
  EXPECT_THAT(host->list(), succeeds());
  EXPECT_EQ(recorder.lost().size(), 1U);
}

TEST_F(libvirt_behind_a_daemon, a_daemon_that_hangs_for_less_than_the_limit_keeps_its_connection) {
  host = make_libvirt({.uri = uri(), .silence = 60s});
  host->listen(recorder.callbacks());
  ASSERT_THAT(host->connect(), succeeds());
  daemon->freeze();
  auto started = std::async(std::launch::async, [&] { return host->create(work, xml({})); });
  EXPECT_EQ(started.wait_for(5s), std::future_status::timeout);
  daemon->send(SIGCONT);
  ASSERT_EQ(started.wait_for(soon), std::future_status::ready);
  EXPECT_TRUE(started.get());
  EXPECT_THAT(recorder.lost(), IsEmpty());
}

TEST_F(libvirt_behind_a_daemon, a_connection_ends_without_waiting_for_a_frozen_daemon) {
  daemon->freeze();
  auto begin = std::chrono::steady_clock::now();
  host.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 10s);
  daemon->send(SIGCONT);
}

/// libvirt's client before 10.3 does not survive two threads with calls on one connection.
TEST_F(libvirt_behind_a_daemon, fifty_lives_at_once_over_the_wire) {
  auto failures = std::atomic<unsigned>{0};
  auto live = [&](unsigned n) {
    auto uuid = numbered_uuid(n);
    auto text = xml({.uuid = uuid, .name = "vm" + std::to_string(n)});
    for (auto pass = 0; pass < 4; ++pass)
      failures += host->create(uuid, text) && host->suspend(uuid) && host->resume(uuid)
                          && host->inspect(uuid) && host->list() && host->destroy(uuid)
                      ? 0
                      : 1;
  };
  auto threads = std::vector<std::future<void>>{};
  for (auto i = 0U; i < 50; ++i)
    threads.push_back(std::async(std::launch::async, live, i));
  for (auto& x : threads)
    ASSERT_EQ(x.wait_for(2 * soon), std::future_status::ready);
  EXPECT_EQ(failures, 0U);
  EXPECT_EQ(host->list()->size(), 1U);
  EXPECT_THAT(recorder.lost(), IsEmpty());
}

TEST_F(libvirt_behind_a_daemon, calls_from_many_threads_over_the_wire_all_end_when_it_is_killed) {
  auto answered = std::latch{40};
  auto errors = std::vector<std::future<model::error>>{};
  for (auto t = 0U; t < 8; ++t)
    errors.push_back(std::async(std::launch::async, [&, t] {
      auto uuid = numbered_uuid(t);
      auto text = xml({.uuid = uuid, .name = "vm" + std::to_string(t)});
      for (auto i = 0;; ++i) {
        auto lives = host->create(uuid, text);
        auto ended = lives ? host->destroy(uuid) : outcome<void>{};
        auto failed = !lives || !ended;
        if (i < 5)
          answered.count_down(failed ? 5 - i : 1);
        if (failed)
          return lives ? ended.error() : lives.error();
      }
    }));
  answered.wait();
  daemon->kill();
  for (auto& x : errors) {
    ASSERT_EQ(x.wait_for(soon), std::future_status::ready);
    EXPECT_THAT(x.get(), refusal(errc::hypervisor, "is lost; it is being restored"));
  }
  EXPECT_TRUE(recorder.until_lost(1));
  start_daemon();
  EXPECT_THAT(host->connect(), succeeds());
  EXPECT_THAT(host->list(), succeeds());
  EXPECT_EQ(recorder.lost().size(), 1U);
}

TEST_F(libvirt_behind_a_daemon, a_rescue_has_a_connection_while_all_others_are_lent) {
  auto whole = session::open(uri(), {1, 1, 1, 1});
  ASSERT_TRUE(whole) << whole.error().message();
  auto lent = std::vector<lease>{};
  for (auto x : {traffic::host, traffic::build, traffic::guest}) {
    auto one = lease::of(*whole, x);
    ASSERT_TRUE(one) << one.error().message();
    lent.push_back(std::move(*one));
    auto no_patience = begin_limit{[] { return 0ms; }};
    EXPECT_FALSE(lease::of(*whole, x)) << "there is but one";
  }
  EXPECT_TRUE(lease::of(*whole, traffic::rescue));
}

/// A call with a limit that the test moves, seen to have asked for the limit.
class patient_work {
public:
  template <class Call>
  auto operator()(Call call) {
    auto limit = begin_limit{[this] {
      auto left = over_ ? 0ms : 10ms;
      ++asked_;
      return left;
    }};
    auto result = call();
    given_up_ += limit.given_up() ? 1 : 0;
    return result;
  }

  void until_asked(unsigned times) const {
    while (asked_ < times)
      std::this_thread::yield();
  }
  void run_out() { over_ = true; }
  unsigned given_up() const { return given_up_; }

private:
  std::atomic<unsigned> asked_{0};
  std::atomic<unsigned> given_up_{0};
  std::atomic<bool> over_{false};
};

class libvirt_with_one_connection : public libvirt_behind_a_daemon {
protected:
  void SetUp() override {
    libvirt_behind_a_daemon::SetUp();
    if (IsSkipped() || HasFatalFailure())
      return;
    host = make_libvirt({.uri = uri(), .guest = 1, .silence = 60s});
    host->listen(recorder.callbacks());
    ASSERT_THAT(host->connect(), succeeds());
    for (auto& x : {work, other}) {
      ASSERT_TRUE(host->create(x, xml({.uuid = x, .name = x})));
      ASSERT_THAT(host->suspend(x), succeeds()); // the connection is open now
      ASSERT_THAT(host->resume(x), succeeds());
    }
  }

  /// Begins two pauses; the daemon does not answer, so one call has the connection and one waits.
  void begin_two_pauses() {
    daemon->freeze();
    for (auto i = 0U; i < 2; ++i)
      pauses[i] = std::async(std::launch::async, [this, i] {
        return patience[i]([&] { return host->suspend(i == 0 ? work : other); });
      });
    for (auto& x : patience)
      x.until_asked(1);
  }

  bool is_answered(std::size_t i) const {
    return pauses[i].wait_for(0s) == std::future_status::ready;
  }

  patient_work patience[2];
  std::future<outcome<void>> pauses[2];
};

TEST_F(libvirt_with_one_connection, a_call_that_was_given_up_is_not_made_afterwards) {
  begin_two_pauses();
  for (auto& x : patience)
    x.run_out();
  while (!is_answered(0) && !is_answered(1)) // the waiting call is refused all the same
    std::this_thread::yield();
  EXPECT_FALSE(is_answered(0) && is_answered(1)) << "the other one is with the daemon";
  daemon->send(SIGCONT);
  for (auto i = 0U; i < 2; ++i) {
    ASSERT_EQ(pauses[i].wait_for(soon), std::future_status::ready);
    auto x = pauses[i].get();
    ASSERT_FALSE(x);
    EXPECT_THAT(x.error(), refusal(errc::general, "it was given up before it could begin"));
    EXPECT_EQ(patience[i].given_up(), 1U);
  }
  for (auto& x : {work, other})
    EXPECT_EQ(host->inspect(x)->state, power::running);
  EXPECT_THAT(host->suspend(work), succeeds()) << "the connection is free again";
}

TEST_F(libvirt_with_one_connection, a_waiting_call_goes_on_when_the_daemon_answers_again) {
  begin_two_pauses();
  daemon->send(SIGCONT);
  for (auto& x : pauses) {
    ASSERT_EQ(x.wait_for(soon), std::future_status::ready);
    EXPECT_THAT(x.get(), succeeds());
  }
}

TEST_F(libvirt_with_one_connection,
       a_waiting_call_is_refused_like_others_when_the_connection_is_lost) {
  begin_two_pauses();
  daemon->kill();
  auto sentence = "the connection to '" + uri() + "' is lost; it is being restored";
  for (auto& x : pauses) {
    ASSERT_EQ(x.wait_for(soon), std::future_status::ready);
    auto answer = x.get();
    ASSERT_FALSE(answer);
    EXPECT_THAT(answer.error(), refusal(errc::hypervisor, sentence));
    EXPECT_FALSE(answer.error().hint.empty());
  }
}

TEST(connections, are_as_many_as_calls_may_wait_for_guests) {
  EXPECT_EQ(libvirt_options{}.guest, lanes::widths{}.guest);
  auto pool = connection_pool{"test:///default", libvirt_options{}.guest};
  auto limit = begin_limit{[] { return 0ms; }};
  auto lent = std::vector<virConnectPtr>{};
  for (auto i = 0U; i < lanes::widths{}.guest; ++i) {
    auto x = pool.take();
    ASSERT_TRUE(x) << i;
    lent.push_back(*x);
  }
  EXPECT_FALSE(limit.given_up()) << "nobody had to wait";
  EXPECT_FALSE(pool.take());
  EXPECT_TRUE(limit.given_up());
  pool.give_back(lent.back());
  EXPECT_TRUE(pool.take()) << "one that is free needs no waiting";
}

// -- real QEMU in this process --------------------------------------------------------------------

class libvirt_with_qemu : public testing::Test {
protected:
  static constexpr auto driver =
      "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so";
  static constexpr auto emulator = "/usr/bin/qemu-system-x86_64";

  void SetUp() override {
    for (auto part : {driver, emulator})
      if (!std::filesystem::exists(part))
        GTEST_SKIP() << "real QEMU is not installed (" << part << ")";
    if (::geteuid() != 0)
      GTEST_SKIP() << "the embedded QEMU driver is tested as root only";
    if (::getpwnam("libvirt-qemu") == nullptr)
      GTEST_SKIP() << "the driver wants the user libvirt-qemu to exist (libvirt-daemon-system)";
    std::filesystem::create_directory(place / "etc");
    std::ofstream{place / "etc/qemu.conf"}
        << "stdio_handler = \"file\"\nsecurity_driver = \"none\"\nuser = \"root\"\n"
           "group = \"root\"\nremember_owner = 0\nnamespaces = []\ncgroup_controllers = []\n";
    host = make_libvirt(
        {.uri = "qemu:///embed?root=" + (place / "").substr(0, (place / "").size() - 1)});
    host->listen(recorder.callbacks());
    auto x = host->connect();
    ASSERT_TRUE(x) << x.error().message();
  }

  void TearDown() override {
    for (auto& left : {work, other})
      if (host)
        (void)host->destroy(left);
  }

  tests::own_directory place;
  event_recorder recorder;
  std::unique_ptr<hypervisor> host;
};

TEST_F(libvirt_with_qemu, starts_paused_resumes_and_is_destroyed) {
  ASSERT_TRUE(host->can().paused_start);
  auto xid = host->create(work, xml({.type = "qemu", .mib = 64}));
  ASSERT_TRUE(xid) << xid.error().message();
  EXPECT_EQ(host->inspect(work)->state, power::paused);
  EXPECT_THAT(host->resume(work), succeeds());
  EXPECT_EQ(host->inspect(work)->state, power::running);
  EXPECT_EQ(host->wake(work).error().code, errc::hypervisor); // the guest is awake
  EXPECT_THAT(host->suspend(work), succeeds());
  EXPECT_THAT(host->destroy(work), succeeds());
  EXPECT_THAT(recorder.until({"work", guest_event::stopped}),
              ElementsAre(event_recorder::news{"work", guest_event::started},
                          event_recorder::news{"work", guest_event::suspended},
                          event_recorder::news{"work", guest_event::resumed},
                          event_recorder::news{"work", guest_event::suspended},
                          event_recorder::news{"work", guest_event::stopped}));

  // A start that fails leaves no definition behind: the name is free for another.
  auto disk = "<disk type='file' device='disk'><source file='/nowhere/root.img'/>"
              "<target dev='vda'/></disk>";
  EXPECT_THAT(host->undefine(work), succeeds());
  auto failed = host->create(work, xml({.type = "qemu", .mib = 64, .devices = disk}));
  ASSERT_FALSE(failed);
  EXPECT_THAT(failed.error(), refusal(errc::hypervisor, "start domain 'work'"));
  auto next = host->create(other, xml({.uuid = other, .type = "qemu", .mib = 64}));
  ASSERT_TRUE(next) << next.error().message();
  EXPECT_THAT(host->destroy(other), succeeds());
}

} // namespace
