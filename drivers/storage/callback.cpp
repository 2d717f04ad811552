// Another driver's pool, with commands of the administrator run around its work
// (spec/storage.md §9). Configurations are entries of one JSON file.
#include "drivers/io/json.hpp"
#include "drivers/process/command_runner.hpp"
#include "drivers/storage/drivers.hpp"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <mutex>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

std::string shell_word(std::string_view text) {
  auto result = std::string{"'"};
  for (auto c : text)
    result += c == '\'' ? std::string{"'\\''"} : std::string{c};
  return result + '\'';
}

/// Text as it is; anything else as JSON writes it.
std::string text_of(const nlohmann::json& x) {
  return x.is_string() ? x.get<std::string>() : x.dump();
}

class callback_pool final : public pool {
public:
  callback_pool(std::string name, std::string id, nlohmann::json entry, std::shared_ptr<pool> inner,
                const environment& with)
      : name_(std::move(name)), id_(std::move(id)), entry_(std::move(entry)),
        inner_(std::move(inner)), commands_(with.commands) {}

  // -- the pool -----------------------------------------------------------------------------------

  outcome<void> set_up() override {
    return prepare().and_then([&] { return tell("pre_setup"); }).and_then([&] {
      return inner_->set_up();
    });
  }

  outcome<model::pool_facts> facts() override { return inner_->facts(); }
  outcome<std::vector<std::string>> list() override { return inner_->list(); }

  // -- life ---------------------------------------------------------------------------------------

  outcome<void> create(const volume& x) override {
    auto made = prepare().and_then([&] { return tell("pre_volume_create", x); }).and_then([&] {
      return inner_->create(x);
    });
    if (!made)
      return made;
    auto told = tell("post_volume_create", x);
    if (!told)
      (void)inner_->remove(x); // the first reason is the one to tell
    return told;
  }

  outcome<void> remove(const volume& x) override {
    return prepare().and_then([&] { return inner_->remove(x); }).and_then([&] {
      return tell("post_volume_remove", x);
    });
  }

  outcome<void> verify(const volume& x) override {
    return prepare().and_then([&] { return inner_->verify(x); });
  }

  outcome<void> start(const volume& x) override {
    return prepare()
        .and_then([&] { return tell("pre_volume_start", x); })
        .and_then([&] { return inner_->start(x); })
        .and_then([&] { return tell("post_volume_start", x); });
  }

  outcome<void> stop(const volume& x) override {
    return prepare().and_then([&] { return inner_->stop(x); }).and_then([&] {
      return tell("post_volume_stop", x);
    });
  }

  outcome<void> abandon(const volume& x) override {
    return prepare().and_then([&] { return inner_->abandon(x); }).and_then([&] {
      return tell("post_volume_stop", x);
    });
  }

  bool is_dirty(const volume& x) override { return inner_->is_dirty(x); }
  outcome<model::volume_facts> look(const volume& x) override { return inner_->look(x); }
  std::string device(const volume& x) override { return inner_->device(x); }

  // -- data ---------------------------------------------------------------------------------------

  outcome<std::string> begin_export(const volume& x) override {
    return prepare().and_then([&] { return tell("pre_volume_export", x); }).and_then([&] {
      return inner_->begin_export(x);
    });
  }

  void end_export(const volume& x, const std::string& path) override {
    inner_->end_export(x, path);
    (void)tell("post_volume_export_end", x, {path}); // the data was read, whatever it says
  }

  outcome<std::string> begin_import(const volume& x, std::uint64_t bytes) override {
    return prepare()
        .and_then([&] { return tell("pre_volume_import_data", x, {fmt::format("{}", bytes)}); })
        .and_then([&] { return inner_->begin_import(x, bytes); });
  }

  outcome<void> end_import(const volume& x, bool keep) override {
    return prepare().and_then([&] { return inner_->end_import(x, keep); }).and_then([&] {
      return tell("post_volume_import_data_end", x, {keep ? "True" : "False"});
    });
  }

  outcome<void> import_volume(const volume& to, pool& home, const volume& from) override {
    return prepare()
        .and_then([&] { return tell("pre_volume_import", to, {from.it.vid}); })
        .and_then([&] { return inner_->import_volume(to, home, from); })
        .and_then([&] { return tell("post_volume_import", to, {from.it.vid}); });
  }

  outcome<void> resize(const volume& x, std::uint64_t bytes) override {
    return prepare()
        .and_then([&] { return tell("pre_volume_resize", x, {fmt::format("{}", bytes)}); })
        .and_then([&] { return inner_->resize(x, bytes); });
  }

  outcome<void> revert(const volume& x, const std::string& revision) override {
    return prepare().and_then([&] { return inner_->revert(x, revision); });
  }

private:
  /// What has to happen once, before the pool is used for the first time.
  outcome<void> prepare() {
    auto hold = std::lock_guard{preparing_};
    if (prepared_)
      return {};
    auto done = tell("pre_sinit");
    prepared_ = done.has_value();
    return done;
  }

  outcome<void> tell(const char* event, const volume& x, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {x.it.name, x.it.vid, x.it.source});
    return tell(event, more);
  }

  /// An event's own command takes no arguments; the general one gets them all.
  outcome<void> tell(const char* event, const std::vector<std::string>& more = {}) {
    auto own = entry_.find(event);
    auto line =
        own != entry_.end() ? text_of(*own) : text_of(entry_.value("cmd", nlohmann::json("")));
    if (line.empty() || line == "-")
      return {};
    if (own == entry_.end()) {
      for (auto& x : {name_, text_of(entry_.at("bdriver")), std::string{event}, id_, entry_.dump()})
        line += ' ' + shell_word(x);
      for (auto& x : more)
        line += ' ' + shell_word(x);
    }
    auto said = run_or_fail(*commands_, {.words = {"/bin/bash", "-c", line}});
    if (!said)
      return fail(errc::storage,
                  fmt::format("pool '{}', command for {}: {}", name_, event, said.error().text));
    auto answers = entry_.value("signal_back", nlohmann::json(false));
    if (answers == nlohmann::json(true)
        && ('\n' + *said + '\n').find("\nSIGNAL_setup\n") != std::string::npos)
      return inner_->set_up();
    return {};
  }

  const std::string name_;
  const std::string id_;
  const nlohmann::json entry_;
  const std::shared_ptr<pool> inner_;
  const std::shared_ptr<command_runner> commands_;
  std::mutex preparing_;
  bool prepared_ = false;
};

/// What is wrong with an entry of the file.
outcome<void> check_entry(const std::string& path, const std::string& id,
                          const nlohmann::json& entry) {
  if (!entry.is_object())
    return fail(errc::storage, fmt::format("'{}' has no configuration '{}'", path, id));
  auto driver = entry.find("bdriver");
  if (driver == entry.end() || !driver->is_string())
    return fail(errc::storage, fmt::format("'{}' of '{}' names no driver", id, path),
                "bdriver is the driver that does the work");
  if (*driver == "callback")
    return fail(errc::storage, fmt::format("'{}' of '{}' is a callback of a callback", id, path));
  auto options = entry.find("bdriver_args");
  if (options != entry.end() && !options->is_object())
    return fail(errc::storage, fmt::format("bdriver_args of '{}' in '{}' is no object", id, path));
  return {};
}

constexpr auto with_comments = true;

nlohmann::json read_entries(const std::string& path) {
  return parse_json(std::ifstream{path}, with_comments);
}

/// The entry of the file that a pool names, with all it must have.
outcome<nlohmann::json> entry_of(const std::string& path, const std::string& id) {
  auto all = read_entries(path);
  if (!all.is_object())
    return fail(errc::storage, fmt::format("'{}' is no JSON object", path),
                "it holds the configurations of callback pools");
  auto entry = all.value(id, nlohmann::json{});
  return check_entry(path, id, entry).map([&] { return std::move(entry); });
}

/// The pool that does the work.
model::pool inner_pool(const std::string& name, const nlohmann::json& entry) {
  auto result = model::pool{
      .name = name, .driver = text_of(entry.at("bdriver")), .attributes = {{"name", name}}};
  auto options = entry.value("bdriver_args", nlohmann::json::object());
  for (auto& [key, value] : options.items())
    result.attributes.emplace_back(key, text_of(value));
  return result;
}

model::callback_pools pools_of(const nlohmann::json& all) {
  auto result = model::callback_pools{};
  if (all.is_object())
    for (auto& [id, entry] : all.items())
      if (check_entry({}, id, entry))
        result.emplace(id, inner_pool({}, entry));
  return result;
}

} // namespace

model::callback_pools read_callbacks(const std::string& path) {
  return pools_of(read_entries(path));
}

model::callback_pools parse_callbacks(std::string_view json) {
  return pools_of(parse_json(json, with_comments));
}

outcome<std::shared_ptr<pool>> open_callback_pool(const model::pool& config,
                                                  const environment& with) {
  auto id = std::string{config.attribute("conf_id")};
  auto entry = entry_of(with.callbacks, id);
  if (!entry)
    return tl::unexpected{std::move(entry.error())};
  auto opened = open_pool(inner_pool(config.name, *entry), with);
  if (!opened)
    return opened;
  return std::make_shared<callback_pool>(config.name, std::move(id), std::move(*entry),
                                         std::move(*opened), with);
}

} // namespace qubes::drivers::storage
