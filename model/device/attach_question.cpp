#include "model/device/attach_question.hpp"

#include "model/property/property.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace qubes::model {

std::string attach_question(const view& v, std::string_view kind, const device& x,
                            const std::vector<std::string>& targets) {
  auto icons = nlohmann::ordered_json::object();
  for (auto& it : v.system.domains) {
    auto name = (it->is(disp_vm) ? "@dispvm:" : "") + it->name.str();
    icons[name] = read_text({v, it.get()}, "icon");
  }
  auto question = nlohmann::ordered_json{
      {"source", x.backend},
      {"device_name", describe(kind, x)},
      {"argument", x.port},
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

} // namespace qubes::model
