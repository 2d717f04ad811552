// backup create: by a profile that is there, or by one made of options for this once.
#include "bin/qvmctl/profiles.hpp"

#include "bin/qvmctl/groups.hpp"
#include "bin/qvmctl/interruption.hpp"
#include "bin/qvmctl/passphrase.hpp"
#include "bin/qvmctl/progress.hpp"
#include "bin/qvmctl/requests.hpp"
#include "drivers/process/undumpable.hpp"
#include "model/backup/backup_format.hpp"
#include "model/backup/backup_profile.hpp"
#include "model/base/literal.hpp"

#include <fmt/format.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>

namespace qubes::ctl {

namespace {

using nlohmann::json;

constexpr auto ending = std::string_view{".conf"};

std::string folder_of(const session& s) {
  return profiles_folder(s.line.profiles);
}

failure cannot(std::string_view what, const std::string& path, int code = errno) {
  return {trouble::refused, "", fmt::format("cannot {} '{}': {}", what, path, std::strerror(code)),
          code == EACCES   ? "root may"
          : code == ENOENT ? "--profiles names the folder in which the daemon has them"
                           : ""};
}

} // namespace

std::string profiles_folder(const std::string& given) {
  if (!given.empty())
    return given;
  auto* named = std::getenv("QVMCTL_PROFILES");
  return named && *named ? named : "/etc/qubes/backup";
}

std::vector<std::string> profile_names(const std::string& folder, std::error_code& failed) {
  auto names = std::vector<std::string>{};
  for (auto at = std::filesystem::directory_iterator{folder, failed};
       !failed && at != std::filesystem::directory_iterator{}; at.increment(failed))
    if (auto name = at->path().filename().string(); name.ends_with(ending))
      names.push_back(name.substr(0, name.size() - ending.size()));
  std::ranges::sort(names);
  return names;
}

exit_code list_profiles(session& s) {
  auto folder = folder_of(s);
  auto failed = std::error_code{};
  auto names = profile_names(folder, failed);
  auto need_not_be_there =
      s.line.profiles.empty() && failed == std::errc::no_such_file_or_directory;
  if (failed && !need_not_be_there)
    return report(s, cannot("read", folder, failed.value()));
  auto result =
      output_table{{{"profile"}, {"domain"}, {"path"}, {"include"}, {"exclude"}, {"problem"}}};
  for (auto& name : names) {
    auto text = read_text(fmt::format("{}/{}{}", folder, name, ending));
    auto profile = text ? model::read_backup_profile(*text)
                        : tl::unexpected{model::error{model::errc::general, text.error().text, ""}};
    if (text)
      model::wipe(*text);
    if (!profile) {
      result.add({{name}, {}, {}, {}, {}, {profile.error().text, style::bad}});
      continue;
    }
    auto include = profile->include ? fmt::format("{}", fmt::join(*profile->include, ","))
                                    : std::string{"usual"};
    result.add({{name},
                {profile->destination_vm},
                {profile->destination_path},
                {include},
                {fmt::format("{}", fmt::join(profile->exclude, ","))},
                {}});
  }
  return print(s, result.render(s.as, s.out));
}

namespace {

/// A profile's file that goes with this, unless it is to stay.
class profile_file {
public:
  explicit profile_file(interruption& stop) : stop_(stop) {}
  profile_file(const profile_file&) = delete;
  profile_file& operator=(const profile_file&) = delete;
  ~profile_file() { remove(); }

  expected<void> write(const std::string& path, std::string_view text, bool stays) {
    auto file = drivers::unique_fd{
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600)};
    if (!file && errno == EEXIST)
      return tl::unexpected{failure{trouble::refused, "",
                                    fmt::format("there is a profile '{}' already", path),
                                    "use it without --to, or choose another name"}};
    if (!file)
      return tl::unexpected{cannot("write", path)};
    path_ = path;
    stop_.removes(path);
    while (!text.empty()) {
      auto put = ::write(file.get(), text.data(), text.size());
      if (put < 0 && errno == EINTR)
        continue;
      if (put < 0)
        return tl::unexpected{cannot("write", path)};
      text.remove_prefix(static_cast<std::size_t>(put));
    }
    if (stays)
      forget();
    return {};
  }

  void remove() {
    if (!path_.empty())
      ::unlink(path_.c_str());
    forget();
  }

private:
  void forget() {
    path_.clear();
    stop_.removes("");
  }

  interruption& stop_;
  std::string path_; ///< "" for none to remove
};

/// A text as YAML has it, whatever is in it.
std::string yaml(std::string_view text) {
  return dump(json(std::string{text}));
}

std::string yaml(const std::vector<std::string>& list) {
  auto parts = std::vector<std::string>{};
  for (auto& x : list)
    parts.push_back(yaml(std::string_view{x}));
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string profile_text(const command_line& x) {
  auto result = fmt::format("destination_vm: {}\ndestination_path: {}\n",
                            yaml(std::string_view{x.backup_in.empty() ? "dom0" : x.backup_in}),
                            yaml(std::string_view{x.backup_to}));
  result += x.words.empty() ? "include:\n" : fmt::format("include: {}\n", yaml(x.words));
  if (!x.exclude.empty())
    result += fmt::format("exclude: {}\n", yaml(x.exclude));
  if (!x.backup_compression.empty())
    result += fmt::format("compression: {}\n", x.backup_compression == "none"
                                                   ? std::string{"false"}
                                                   : yaml(std::string_view{x.backup_compression}));
  if (!x.passphrase_vm.empty())
    result += fmt::format("passphrase_vm: {}\n", yaml(std::string_view{x.passphrase_vm}));
  return result;
}

/// "1.2 GiB" of the line of Info that has the total; 0 when it says none.
std::int64_t total_of(std::string_view info) {
  constexpr auto head = std::string_view{"Total size:"};
  auto at = info.find(head);
  if (at == info.npos)
    return 0;
  auto rest = info.substr(at + head.size());
  rest = rest.substr(0, rest.find('\n'));
  auto text = std::string{};
  for (auto c : rest)
    if (c != ' ' && c != '|')
      text += c;
  return parse_size(text).value_or(0);
}

/// What a backup would hold; the daemon may take its time.
expected<std::string> info_of(session& s, const std::string& profile, const interruption& stop) {
  auto answer = std::optional<expected<std::string>>{};
  auto here = listener{};
  s.daemon.send(here, {"admin.backup.Info", profile, "dom0", ""}, std::nullopt,
                [&](auto x) { answer = std::move(x); });
  s.daemon.run([&] { return answer.has_value() || stop.raised(); }, {}, milliseconds{100}, [] {});
  if (stop.raised())
    return tl::unexpected{failure{trouble::refused, "", "cancelled", ""}};
  return std::move(*answer);
}

/// What a word of a profile chooses here; a name that no domain has and a class that there is not
/// are refused.
expected<std::vector<const entry*>> chosen_by(session& s, const domain_list& all,
                                              const std::string& word) {
  constexpr auto tag = std::string_view{"@tag:"}, type = std::string_view{"@type:"};
  if (!word.starts_with('@'))
    return all.choose({word});
  auto result = std::vector<const entry*>{};
  if (word.starts_with(tag)) {
    auto asked = std::vector<request>{};
    for (auto& x : all.all())
      asked.push_back({"admin.vm.tag.Get", word.substr(tag.size()), x.name, ""});
    auto answers = ask_all(s, asked);
    for (auto i = std::size_t{0}; i < answers.size(); ++i)
      if (answers[i] && *answers[i] == "1")
        result.push_back(&all.all()[i]);
    return result;
  }
  if (!word.starts_with(type))
    return usage_failure(fmt::format("'{}' chooses nothing", word),
                         "a name, @tag:TAG or @type:CLASS");
  auto classes = s.daemon.ask({.method = "admin.vmclass.List"});
  if (!classes)
    return tl::unexpected{classes.error()};
  auto known = lines_of(*classes);
  auto klass = word.substr(type.size());
  if (std::ranges::find(known, klass) == known.end())
    return usage_failure(fmt::format("no class '{}'", klass), one_of(klass, known));
  for (auto& x : all.all())
    if (x.klass == klass)
      result.push_back(&x);
  return result;
}

/// Each word must choose a domain, and one must be left.
expected<void> check_choice(session& s) {
  if (s.line.backup_to.empty() || (s.line.words.empty() && s.line.exclude.empty()))
    return {};
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return tl::unexpected{all.error()};
  auto chosen = std::vector<const entry*>{};
  for (auto& word : s.line.words) {
    auto some = chosen_by(s, *all, word);
    if (!some)
      return tl::unexpected{some.error()};
    if (some->empty())
      return tl::unexpected{failure{trouble::refused, "",
                                    fmt::format("'{}' chooses no domain", word),
                                    "'qvmctl ls' lists them, with --tag and --class as well"}};
    chosen.insert(chosen.end(), some->begin(), some->end());
  }
  for (auto& word : s.line.exclude) {
    auto some = chosen_by(s, *all, word);
    if (!some)
      return tl::unexpected{some.error()};
    std::erase_if(chosen, [&](auto x) { return std::ranges::find(*some, x) != some->end(); });
  }
  if (!s.line.words.empty() && chosen.empty())
    return tl::unexpected{
        failure{trouble::refused, "", "all that was chosen is left out again", "see --exclude"}};
  return {};
}

/// Says which profiles there are where the one that was named is not; a domain may have been meant.
failure explain_profile(session& s, failure why, const std::string& profile) {
  if (why.klass != "QubesBackupProfileNotFoundError" || !s.line.backup_to.empty())
    return why;
  auto failed = std::error_code{};
  auto names = profile_names(folder_of(s), failed);
  if (auto all = domain_list::fetch(s.daemon); all && all->find(profile))
    return {why.kind, why.klass, fmt::format("'{}' is a domain and no profile", profile),
            fmt::format("'qvmctl backup create --to PATH {}' makes a backup of it", profile)};
  if (failed)
    return why;
  return {why.kind, why.klass,
          fmt::format("there is no backup profile '{}' in {}", profile, folder_of(s)),
          names.empty()
              ? "--to PATH makes a backup without one, --save NAME keeps what it is made by"
              : one_of(profile, names)};
}

/// What a backup would hold; one of no domain is refused, since it would look like one that was
/// made.
expected<std::string> info_of_something(session& s, const std::string& profile,
                                        const interruption& stop) {
  auto info = info_of(s, profile, stop);
  if (!info)
    return tl::unexpected{explain_profile(s, std::move(info.error()), profile)};
  if (info->find("VMs not selected") == std::string::npos) // of a daemon that tells less
    return info;
  if (auto good = check_choice(s); !good)
    return tl::unexpected{good.error()};
  auto rows = lines_of(*info);
  auto cells = std::ranges::count_if(
      rows, [](auto& x) { return std::ranges::count(x, '|') >= 3; }); // and the heads of columns
  if (cells <= 1)
    return tl::unexpected{failure{trouble::refused, "",
                                  fmt::format("backup {} would have no domain in it", profile),
                                  "'qvmctl backup create --help' tells how to choose some"}};
  return info;
}

/// One backup by a profile that is there, with how far it is.
class making {
public:
  making(session& s, std::string profile, const interruption& stop)
      : s_(s), profile_(std::move(profile)), stop_(stop) {}

  /// `begun`: the daemon knows the profile by now.
  expected<void> run(const std::function<void()>& begun) {
    auto info = info_of_something(s_, profile_, stop_);
    if (!info)
      return tl::unexpected{info.error()};
    auto total = total_of(*info);
    auto shown = progress{s_.out, fmt::format("backup {}", profile_), total};
    auto here = listener{};
    s_.daemon.subscribe(
        here, {.method = "admin.Events"},
        [&](const event& x) {
          if (auto percent = percent_of(x)) {
            begun();
            shown.at(static_cast<std::int64_t>(static_cast<double>(total) * *percent / 100));
          }
        },
        [](const failure&) {}); // the backup goes on without events
    s_.daemon.send(here_, {"admin.backup.Execute", profile_, "dom0", ""}, std::nullopt,
                   [this](auto answer) { answer_ = std::move(answer); });
    s_.daemon.run([this] { return answer_.has_value(); }, {}, milliseconds{100},
                  [this] { cancel_when_told(); });
    shown.clear();
    if (!*answer_)
      return tl::unexpected{std::move(answer_->error())};
    return {};
  }

private:
  std::optional<double> percent_of(const event& x) const {
    auto ours = false;
    auto percent = std::optional<double>{};
    for (auto& [key, value] : x.args)
      if (key == "backup_profile")
        ours = value == profile_;
      else if (auto number = 0.0;
               key == "progress"
               && std::from_chars(value.data(), value.data() + value.size(), number).ec
                      == std::errc{}
               && number >= 0 && number <= 100)
        percent = number;
    return x.name == "backup-progress" && ours ? percent : std::nullopt;
  }

  void cancel_when_told() {
    if (!stop_.raised() || std::exchange(cancelled_, true))
      return;
    s_.daemon.send(here_, {"admin.backup.Cancel", profile_, "dom0", ""}, std::nullopt,
                   [this](auto answer) {
                     cancelled_ = answer.has_value(); // tell again: it may not have begun
                   });
  }

  session& s_;
  std::string profile_;
  const interruption& stop_;
  std::optional<expected<std::string>> answer_;
  bool cancelled_ = false;
  listener here_;
};

/// The new profile's text with its passphrase, which is asked for where no domain knows it.
expected<model::secret> whole_text(session& s, const interruption& stop) {
  auto text = profile_text(s.line);
  if (s.line.dry_run || !s.line.passphrase_vm.empty())
    return model::secret{text};
  auto passphrase = read_passphrase(s, true, stop.token());
  if (!passphrase)
    return tl::unexpected{passphrase.error()};
  auto quoted = yaml(passphrase->view());
  auto result = model::secret::join(text, "passphrase_text: ", quoted, "\n");
  model::wipe(quoted);
  return result;
}

expected<std::string> new_profile(session& s, profile_file& file, const interruption& stop) {
  auto name = s.line.save_as.empty() ? fmt::format("qvmctl-{}", ::getpid()) : s.line.save_as;
  if (auto good = model::check_profile_name(name); !good)
    return bad_word(good.error());
  auto text = whole_text(s, stop);
  if (!text)
    return tl::unexpected{text.error()};
  auto stays = !s.line.save_as.empty() && !s.line.dry_run;
  return file.write(fmt::format("{}/{}{}", folder_of(s), name, ending), text->view(), stays)
      .map([&] { return name; });
}

/// What the daemon would find out when it begins: a place in dom0 that is not there, and a program
/// whose backup could not be read again.
expected<void> check_new(const session& s) {
  auto& x = s.line;
  auto known = std::vector<std::string>{"none"};
  for (auto& row : model::compression_rows)
    known.emplace_back(row.program);
  auto& how = x.backup_compression;
  if (!how.empty() && std::ranges::find(known, how) == known.end())
    return usage_failure(fmt::format("no compression '{}'", how), one_of(how, known));
  auto here = (x.backup_in.empty() || x.backup_in == "dom0") && !s.daemon.way().by_qrexec();
  if (x.backup_to.empty() || !here)
    return {};
  auto to = std::filesystem::path{x.backup_to};
  if (!to.is_absolute())
    return usage_failure(fmt::format("--to '{}' is no path from the root", x.backup_to),
                         "for example --to /mnt/backup");
  auto failed = std::error_code{};
  if (std::filesystem::is_directory(to, failed))
    return {};
  using std::filesystem::file_type;
  auto above = std::filesystem::status(to.parent_path(), failed).type();
  if (above == file_type::directory || above == file_type::none) // the daemon may see more than we
    return {};
  return tl::unexpected{failure{trouble::refused, "",
                                fmt::format("there is no folder '{}'", to.parent_path().string()),
                                "make it, or name another one with --to"}};
}

expected<void> check_line(const command_line& x) {
  auto of_new = !x.backup_in.empty() || !x.backup_compression.empty() || !x.passphrase_vm.empty()
                || !x.save_as.empty() || !x.exclude.empty() || !x.passphrase_file.empty();
  if (x.backup_to.empty() && of_new)
    return usage_failure("options of a new profile need --to", "--to PATH says where it goes");
  if (x.backup_to.empty() && x.words.size() != 1)
    return usage_failure("'backup create' needs a PROFILE or --to PATH",
                         "'qvmctl backup ls' lists profiles");
  for (auto list : {&x.words, &x.exclude})
    for (auto& word : *list)
      if (is_glob(word) || word.find(',') != std::string::npos)
        return usage_failure(fmt::format("'{}': a profile knows no globs and no commas", word),
                             "a word for each: a name, @tag:TAG or @type:CLASS");
  if (!x.passphrase_vm.empty() && !x.passphrase_file.empty())
    return usage_failure("--passphrase-file and --passphrase-in exclude each other",
                         "leave one of them out");
  return {};
}

} // namespace

exit_code run_backup_create(session& s) {
  if (auto good = check_line(s.line); !good)
    return report(s, good.error());
  if (auto good = check_new(s); !good)
    return report(s, good.error());
  auto undumpable = drivers::stay_undumpable();
  auto stop = interruption{};
  auto file = profile_file{stop};
  auto profile = s.line.backup_to.empty() ? expected<std::string>{s.line.words.front()}
                                          : new_profile(s, file, stop);
  if (!profile)
    return report(s, profile.error());
  if (s.line.dry_run) {
    auto info = info_of_something(s, *profile, stop);
    return info ? print(s, raw(s, *info)) : report(s, info.error());
  }
  auto begun = std::chrono::steady_clock::now();
  auto made = making{s, *profile, stop}.run([&] { file.remove(); });
  if (!made)
    return report(s, made.error());
  auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return print(s, fmt::format("backup {} made in {}\n", *profile, duration(seconds)));
}

} // namespace qubes::ctl
