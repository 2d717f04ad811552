#include "actors/attach_question.hpp"

#include "model/property.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace qubes::actors {

std::string attach_question(const model::view& v, const model::device& disk,
                            const std::vector<std::string>& targets) {
  auto icons = nlohmann::ordered_json::object();
  for (auto& x : v.system.domains) {
    auto name = (x->is(model::disp_vm) ? "@dispvm:" : "") + x->name.str();
    icons[name] = model::read_text({v, x.get()}, "icon");
  }
  auto question = nlohmann::ordered_json{
      {"source", disk.backend},
      {"device_name", model::describe_disk(disk)},
      {"argument", disk.port},
      {"targets", targets},
      {"default_target", targets.size() == 1 ? targets.front() : ""},
      {"icons", std::move(icons)},
  };
  return question.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

std::string chosen_target(std::string_view answer, const std::vector<std::string>& targets) {
  constexpr auto consent = std::string_view{"allow:"};
  if (!answer.starts_with(consent))
    return {};
  auto it = std::ranges::find(targets, answer.substr(consent.size()));
  return it == targets.end() ? std::string{} : *it;
}

} // namespace qubes::actors
