#include "drivers/hypervisor/libvirt_events.hpp"

#include "drivers/io/contain.hpp"
#include "drivers/io/quiet_thread.hpp"

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <atomic>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

namespace qubes::drivers {

namespace {

constexpr int never = -1;

void say_nothing(void*, virErrorPtr) {
  // Errors are returned as values; libvirt would print each of them.
}

class loop {
public:
  void enter() {
    auto lock = std::lock_guard{users_mutex_};
    if (users_++ > 0)
      return;
    static auto prepared = std::once_flag{};
    std::call_once(prepared, [] {
      virInitialize();
      virSetErrorFunc(nullptr, say_nothing);
      virEventRegisterDefaultImpl();
    });
    wake_ = virEventAddTimeout(never, on_wake, this, nullptr);
    stop_ = false;
    thread_ = quiet_thread([this] { run(); });
  }

  void leave() {
    auto lock = std::lock_guard{users_mutex_};
    if (--users_ > 0)
      return;
    stop_ = true;
    virEventUpdateTimeout(wake_, 0);
    thread_.join();
    virEventRemoveTimeout(wake_);
  }

  void post(std::function<void()> job) {
    {
      auto lock = std::lock_guard{jobs_mutex_};
      jobs_.push_back(std::move(job));
    }
    virEventUpdateTimeout(wake_, 0);
  }

  bool is_own_thread() const { return std::this_thread::get_id() == id_.load(); }

private:
  void run() {
    id_ = std::this_thread::get_id();
    while (!stop_)
      virEventRunDefaultImpl();
    run_jobs();
    id_ = std::thread::id{};
  }

  static void on_wake(int timer, void* self) {
    virEventUpdateTimeout(timer, never);
    static_cast<loop*>(self)->run_jobs();
  }

  void run_jobs() {
    auto jobs = std::vector<std::function<void()>>{};
    {
      auto lock = std::lock_guard{jobs_mutex_};
      jobs.swap(jobs_);
    }
    for (auto& x : jobs)
      contain("news of the hypervisor", x);
  }

  std::mutex users_mutex_;
  unsigned users_ = 0;
  std::thread thread_;
  std::atomic<std::thread::id> id_{};
  std::atomic<bool> stop_{false};
  int wake_ = never;
  std::mutex jobs_mutex_;
  std::vector<std::function<void()>> jobs_;
};

/// Never destroyed: when the process exits early, a thread may still use it.
loop& the_loop() {
  static auto& only = *new loop{};
  return only;
}

} // namespace

libvirt_events::libvirt_events() {
  the_loop().enter();
}

libvirt_events::~libvirt_events() {
  the_loop().leave();
}

void libvirt_events::post(std::function<void()> job) {
  the_loop().post(std::move(job));
}

void libvirt_events::run_out() {
  if (the_loop().is_own_thread())
    return;
  auto ended = std::promise<void>{};
  post([&ended] { ended.set_value(); });
  ended.get_future().wait();
}

} // namespace qubes::drivers
