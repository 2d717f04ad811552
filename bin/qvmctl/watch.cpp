#include "bin/qvmctl/watch.hpp"

#include <algorithm>
#include <utility>

namespace qubes::ctl {

namespace {

constexpr auto reading_limit = std::chrono::seconds{30};

/// The domain that an event is about: its subject, or the one that an event of the host names.
std::string_view about(const event& x) {
  if (!x.subject.empty())
    return x.subject;
  auto vm = std::find_if(x.args.begin(), x.args.end(), [](auto& y) { return y.first == "vm"; });
  return vm == x.args.end() ? std::string_view{} : vm->second;
}

} // namespace

watch::watch(client& daemon, std::vector<std::string> names, on_state each)
    : daemon_(daemon), each_(std::move(each)) {
  for (auto& x : names)
    domains_.try_emplace(std::move(x));
  daemon_.subscribe(
      here_, {.method = "admin.Events"}, [this](auto& x) { heard(x); },
      [this](failure why) { trouble_ = std::move(why); });
}

void watch::heard(const event& x) {
  if (x.name == "connection-established")
    return read_all();
  if (!x.name.starts_with("domain-"))
    return;
  if (auto found = domains_.find(about(x)); found != domains_.end())
    read(found->first);
}

void watch::read_all() {
  daemon_.send(here_, {.method = "admin.vm.List"}, reading_limit,
               [this](expected<std::string> answer) {
                 auto now = answer ? domain_list::parse_list(*answer)
                                   : tl::unexpected{std::move(answer.error())};
                 if (!now) {
                   trouble_ = now.error();
                   return;
                 }
                 ready_ = true;
                 for (auto& [name, _] : domains_) {
                   auto found = now->find(name);
                   each_(name, found ? found->state : std::string{removed});
                 }
               });
}

void watch::read(const std::string& name) {
  auto& x = domains_[name];
  if (std::exchange(x.under_way, true)) {
    x.again = true;
    return;
  }
  daemon_.send(here_, {.method = "admin.vm.List", .destination = name}, reading_limit,
               [this, name](expected<std::string> answer) {
                 auto& x = domains_[name];
                 x.under_way = false;
                 if (std::exchange(x.again, false))
                   read(name);
                 if (!answer && answer.error().klass == "QubesVMNotFoundError")
                   return each_(name, std::string{removed});
                 auto now = answer ? domain_list::parse_list(*answer)
                                   : tl::unexpected{std::move(answer.error())};
                 if (!now)
                   trouble_ = now.error();
                 else if (!now->all().empty())
                   each_(name, now->all().front().state);
               });
}

} // namespace qubes::ctl
