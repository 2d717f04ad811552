#include "drivers/hypervisor/container_watch.hpp"

#include "drivers/io/contain.hpp"
#include "drivers/process/process_handle.hpp"

#include <libvirt/libvirt.h>

#include <utility>

namespace qubes::drivers {

namespace {

template <class T>
void free_it(void* x) {
  delete static_cast<T*>(x);
}

} // namespace

container_watch::container_watch(told missed, std::chrono::milliseconds patience)
    : missed_(std::move(missed)), patience_(patience) {
  // nop
}

container_watch::~container_watch() {
  forget_all();
}

void container_watch::watch(const std::string& uuid, std::int32_t controller) {
  auto& x = containers_[uuid];
  if (x.controller == controller)
    return;
  drop(x);
  x.controller = controller;
  x.process = handle_of(controller);
  if (!x.process)
    return await_word(uuid, x);
  x.handle = virEventAddHandle(x.process.get(), VIR_EVENT_HANDLE_READABLE, on_end,
                               new reminder{this, uuid}, free_it<reminder>);
}

void container_watch::forget(const std::string& uuid) {
  if (auto x = containers_.extract(uuid))
    drop(x.mapped());
}

void container_watch::forget_all() {
  for (auto& [uuid, x] : containers_)
    drop(x);
  containers_.clear();
}

void container_watch::drop(container& x) {
  if (auto handle = std::exchange(x.handle, -1); handle >= 0)
    virEventRemoveHandle(handle);
  if (auto timer = std::exchange(x.timer, -1); timer >= 0)
    virEventRemoveTimeout(timer);
}

void container_watch::await_word(const std::string& uuid, container& x) {
  drop(x);
  x.timer = virEventAddTimeout(static_cast<int>(patience_.count()), on_patience_lost,
                               new reminder{this, uuid}, free_it<reminder>);
}

void container_watch::on_end(int, int, int, void* opaque) {
  contain("the end of a container", [opaque] {
    auto [me, uuid] = *static_cast<reminder*>(opaque);
    if (auto x = me->containers_.find(uuid); x != me->containers_.end())
      me->await_word(uuid, x->second);
  });
}

void container_watch::on_patience_lost(int, void* opaque) {
  contain("the end of a container", [opaque] {
    auto [me, uuid] = *static_cast<reminder*>(opaque);
    if (auto x = me->containers_.extract(uuid)) {
      drop(x.mapped());
      me->missed_(uuid, x.mapped().controller);
    }
  });
}

} // namespace qubes::drivers
