#include "population.hpp"

#include <fmt/format.h>

#include <array>
#include <string_view>

namespace qubes::tools {

namespace {

constexpr unsigned shared_names = 40;

std::string any_name(dice& chance) {
  return fmt::format("d{}", chance() % shared_names);
}

template <class Range>
const std::string& any_of(const Range& from, dice& chance) {
  return from[chance() % from.size()];
}

void create(stage& on, dice& chance) {
  on.ask({"admin.vm.Create.AppVM", any_of(on.names.templates, chance), "dom0",
          fmt::format("name={} label=red", any_name(chance))});
}

void create_disposable(stage& on, dice& chance) {
  auto made = on.ask({"admin.vm.CreateDisposable", "", any_name(chance), ""});
  if (made.ok() && !on.ask({"admin.vm.Remove", "", made.text, ""}).ok())
    on.violation(fmt::format("the disposable {} could not be removed", made.text));
}

void copy(stage& on, dice& chance) {
  auto offer = on.ask({"admin.vm.volume.CloneFrom", "private", any_name(chance), ""});
  if (offer.ok())
    on.ask({"admin.vm.volume.CloneTo", "private", any_name(chance), offer.text});
}

void connect(stage& on, dice& chance) {
  if (chance() % 4 == 0)
    on.ask({"admin.vm.property.Reset", "netvm", any_name(chance), ""});
  else
    on.ask({"admin.vm.property.Set", "netvm", any_name(chance),
            chance() % 3 == 0 ? "" : any_of(on.names.providers, chance)});
}

struct action {
  unsigned weight;
  void (*run)(stage&, dice&);
};

constexpr std::array actions{
    action{5, create},
    action{1, create_disposable},
    action{2, copy},
    action{2, connect},
    action{3,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.Remove", "", any_name(chance), ""});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.property.Set", "template", any_name(chance),
                     any_of(on.names.templates, chance)});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.property.Set", "template_for_dispvms", any_name(chance),
                     chance() % 4 == 0 ? "False" : "True"});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.tag.Set", "windy", any_name(chance), ""});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.tag.Remove", "windy", any_name(chance), ""});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.Start", "", any_name(chance), ""});
           }},
    action{1,
           [](stage& on, dice& chance) {
             on.ask({"admin.vm.Kill", "", any_name(chance), ""});
           }},
};

} // namespace

void populate(stage& on, std::size_t index, std::uint64_t seed) {
  dice chance{seed * 1000 + index};
  unsigned total = 0;
  for (const auto& x : actions)
    total += x.weight;
  while (!on.over) {
    auto point = chance() % total;
    auto what = actions.begin();
    for (; point >= what->weight; ++what)
      point -= what->weight;
    what->run(on, chance);
  }
}

} // namespace qubes::tools
