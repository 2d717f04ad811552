#include "bin/qvmctl/groups.hpp"

#include "bin/qvmctl/domains.hpp"
#include "bin/qvmctl/references.hpp"
#include "bin/qvmctl/requests.hpp"
#include "bin/qvmctl/watch.hpp"
#include "model/base/power.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

namespace qubes::ctl {

namespace {

using model::bits;
using model::power;
using std::chrono::steady_clock;

/// One thing that can be done to a domain.
struct action {
  std::string_view command;
  std::string_view method;
  std::string_view verb;
  std::string_view done;
  std::uint8_t from; ///< states in which --all and globs take a domain
  std::uint8_t to;   ///< states --wait waits for; 0 when the answer alone tells
};

constexpr auto alive = bits(power::starting, power::running, power::paused, power::suspended,
                            power::halting, power::dying, power::crashed);

// clang-format off
constexpr std::array actions{
  action{"start",    "admin.vm.Start",    "start",     "started",   bits(power::halted),                   bits(power::running)},
  action{"shutdown", "admin.vm.Shutdown", "shut down", "shut down", alive,                                 0},
  action{"kill",     "admin.vm.Kill",     "kill",      "killed",    alive,                                 bits(power::halted)},
  action{"pause",    "admin.vm.Pause",    "pause",     "paused",    bits(power::running),                  bits(power::paused)},
  action{"unpause",  "admin.vm.Unpause",  "unpause",   "unpaused",  bits(power::paused),                   bits(power::running)},
  action{"suspend",  "admin.vm.Suspend",  "suspend",   "suspended", bits(power::running),                  bits(power::suspended, power::paused)},
  action{"resume",   "admin.vm.Resume",   "resume",    "resumed",   bits(power::suspended, power::paused), bits(power::running)},
};

/// States in which an action finds nothing to do: what it is for is so already, or another action
/// leads there. `{0}` is the domain.
struct idle_row {
  std::string_view command;
  std::uint8_t states;
  std::string_view already; ///< "": it is refused
  std::string_view refused{};
  std::string_view hint{};
};

constexpr std::array idle_table{
  idle_row{"start",    bits(power::running),   "runs already"},
  idle_row{"start",    bits(power::paused),    "", "'{0}' is paused",    "'qvmctl unpause {0}' lets it go on"},
  idle_row{"start",    bits(power::suspended), "", "'{0}' is suspended", "'qvmctl resume {0}' wakes it"},
  idle_row{"shutdown", bits(power::halted),    "is down already"},
  idle_row{"kill",     bits(power::halted),    "is down already"},
  idle_row{"pause",    bits(power::paused),    "is paused already"},
  idle_row{"suspend",  bits(power::suspended), "is suspended already"},
};

/// What qvmctl can do about a refusal. `{}` is the domain.
struct remedy_row {
  std::string_view command;
  std::string_view klass;
  std::string_view state; ///< the domain is in; "" for any
  std::string_view hint;
};

constexpr std::array remedies{
  remedy_row{"restart",  "QubesVMInUseError",           "",          "'qvmctl restart --force {0}' restarts it under its clients"},
  remedy_row{"shutdown", "QubesVMInUseError",           "",          "'qvmctl shutdown --cascade {0}' shuts its clients down first, --force does not ask"},
  remedy_row{"shutdown", "QubesVMShutdownTimeoutError", "",          "'qvmctl kill {0}' ends it at once"},
  remedy_row{"shutdown", "QubesVMNotRunningError",      "Transient", "'qvmctl wait {0}' waits until it runs, 'qvmctl kill {0}' ends it at once"},
  remedy_row{"shutdown", "QubesVMNotRunningError",      "Suspended", "'qvmctl resume {0}' first, or --force"},
  remedy_row{"shutdown", "QubesVMNotRunningError",      "Paused",    "'qvmctl unpause {0}' first, or --force"},
  remedy_row{"shutdown", "QubesVMNotRunningError",      "",          "'qvmctl kill {0}' ends it at once"},
  remedy_row{"pause",    "QubesVMNotRunningError",      "",          "'qvmctl start {0}' starts it"},
  remedy_row{"suspend",  "QubesVMNotRunningError",      "",          "'qvmctl start {0}' starts it"},
  remedy_row{"start",    "QubesMemoryError",            "",          "'qvmctl ls -o name,state,memory' shows who holds memory"},
};
// clang-format on

constexpr auto spinner = std::array{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
constexpr auto frame_time = milliseconds{100};
constexpr auto read_again = std::chrono::seconds{1};

std::uint8_t bit_of(std::string_view state) {
  for (auto& x : model::power_rows)
    if (x.wire == state)
      return model::bit(x.state);
  return 0;
}

std::string names_of_states(std::uint8_t some) {
  auto result = std::string{};
  for (auto& x : model::power_rows)
    if (some & model::bit(x.state))
      result += fmt::format("{}{}", result.empty() ? "" : " or ", x.wire);
  return result;
}

const action& action_of(std::string_view command) {
  return *std::find_if(actions.begin(), actions.end(),
                       [&](auto& x) { return x.command == command; });
}

/// What an action is for, where that is so already; "" where there is work to do; or why it is
/// refused. The run and its dry run both go by this.
expected<std::string> already(const action& what, const entry& x) {
  if (x.klass == "AdminVM" || x.klass == "RemoteVM")
    return tl::unexpected{failure{
        trouble::refused, "",
        fmt::format("'{}' {} and cannot be {}", x.name,
                    x.klass == "AdminVM" ? "is this host" : "runs on another host", what.done),
        x.klass == "AdminVM" ? "" : "do that there"}};
  if (what.command == "start" && x.going_down) // the daemon starts it when it is down
    return std::string{};
  for (auto& row : idle_table)
    if (row.command == what.command && (row.states & bit_of(x.state))) {
      if (row.already.empty())
        return tl::unexpected{failure{trouble::refused, "",
                                      fmt::format(fmt::runtime(row.refused), x.name),
                                      fmt::format(fmt::runtime(row.hint), x.name)}};
      return std::string{row.already};
    }
  return std::string{};
}

double seconds_since(time_point from) {
  return std::chrono::duration<double>(steady_clock::now() - from).count();
}

/// One domain on its way.
struct item {
  enum class stage : std::uint8_t { queued, asked, watched, done, failed };

  const entry* who = nullptr;
  stage at = stage::queued;
  std::string state;
  time_point begun;
  double took = 0;
  bool agreed = false;  ///< the answer only says that the daemon will see to it
  bool already = false; ///< the domain was in that state before
  failure why;

  bool over() const { return at == stage::done || at == stage::failed; }
};

/// What the command that was typed can do about a failure, else what its part can.
std::string remedy(std::string_view typed, const action& what, const failure& why,
                   const std::string& name, std::string_view state) {
  if (!why.hint.empty())
    return why.hint;
  for (auto command : {typed, what.command})
    for (auto& row : remedies)
      if (row.command == command && row.klass == why.klass
          && (row.state.empty() || row.state == state))
        return fmt::format(fmt::runtime(row.hint), name);
  return {};
}

failure lost_output() {
  return {trouble::refused, "", "what was done could not be written to the output",
          "'qvmctl ls' shows the states now"};
}

output_table summary_table() {
  return output_table{{{"name"}, {"result"}, {"seconds", true}, {"error"}}};
}

void add_to_summary(output_table& to, const item& x) {
  auto done = x.at == item::stage::done;
  to.add({{x.who->name},
          {done && x.already                  ? "already"
           : done && x.agreed                 ? "asked"
           : done                             ? "done"
           : x.why.kind == trouble::timed_out ? "timed out"
                                              : "refused"},
          {std::round(x.took * 1000) / 1000},
          {done ? nlohmann::json{} : nlohmann::json(x.why.message())}});
}

/// Shows a set of items while they are under way and collects the outcome.
class board {
public:
  board(session& s, std::vector<item>& items, std::string_view verb)
      : s_(s), items_(items), verb_(verb), area_(s.out) {
    for (auto& x : items)
      name_width_ = std::max(name_width_, x.who->name.size());
  }

  void finished(item& x, std::string_view done) {
    x.at = item::stage::done;
    x.took = seconds_since(x.begun);
    if (s_.as != format::table)
      return;
    if (!s_.out.moving)
      return area_.say(fmt::format("{}: {} ({})", x.who->name, done, duration(x.took)));
    area_.say(fmt::format("{} {}  {:<13}  {}", s_.out.paint("✔", style::good), padded_name(x), done,
                          s_.out.paint(duration(x.took), style::dim)));
  }

  void failed(item& x, failure why) {
    x.at = item::stage::failed;
    x.took = seconds_since(x.begun);
    x.why = std::move(why);
    if (s_.as != format::table)
      return;
    auto mark = s_.out.moving ? s_.out.paint("✘ ", style::bad) : std::string{"qvmctl: "};
    auto what = x.why.kind == trouble::timed_out
                    ? std::string{}
                    : fmt::format("cannot {} '{}': ", verb_, x.who->name);
    area_.complain(fmt::format("{}{}{}", mark, what, printable(x.why.message())));
  }

  /// The lines of what is under way, as many as fit.
  void tick() {
    if (!s_.out.moving || s_.as != format::table)
      return;
    ++frame_;
    auto lines = std::vector<std::string>{};
    const auto room = std::max<std::size_t>(s_.out.rows, 4) - 3;
    auto more = std::size_t{0};
    for (auto& x : items_) {
      if (x.over() || x.at == item::stage::queued)
        continue;
      if (lines.size() < room)
        lines.push_back(line(x));
      else
        ++more;
    }
    auto over = std::count_if(items_.begin(), items_.end(), [](auto& x) { return x.over(); });
    if (more > 0 || items_.size() > room)
      lines.push_back(s_.out.paint(
          fmt::format("  {} more, {} of {} finished", more, over, items_.size()), style::dim));
    area_.draw(lines);
  }

  void clear() { area_.clear(); }

  bool lost_a_line() const noexcept { return area_.lost_a_line(); }

  /// Ends the show: json or csv of everything, or a closing word when not all went well.
  exit_code close() {
    area_.clear();
    auto good = static_cast<std::size_t>(std::count_if(
        items_.begin(), items_.end(), [](auto& x) { return x.at == item::stage::done; }));
    if (s_.as != format::table) {
      if (auto code = print(s_, summary().render(s_.as, s_.out)); code != exit_code::done)
        return code;
    } else if (good < items_.size() && items_.size() > 1) {
      write_err(fmt::format("qvmctl: {} of {} done, {} not\n", good, items_.size(),
                            items_.size() - good));
    }
    if (lost_a_line())
      return report(s_, lost_output());
    if (good == items_.size())
      return exit_code::done;
    return good > 0 ? exit_code::partly : code_of(worst());
  }

private:
  std::string padded_name(const item& x) const {
    return s_.out.paint(x.who->name, x.who->color)
           + std::string(name_width_ - x.who->name.size(), ' ');
  }

  std::string line(const item& x) const {
    auto state = fmt::format("{:<13}", x.state);
    return fmt::format("{} {}  {}  {}", s_.out.paint(spinner[frame_ % spinner.size()], style::busy),
                       padded_name(x), s_.out.paint(state, style_of_state(x.state)),
                       s_.out.paint(duration(seconds_since(x.begun)), style::dim));
  }

  output_table summary() const {
    auto result = summary_table();
    for (auto& x : items_)
      add_to_summary(result, x);
    return result;
  }

  /// When nothing was done: refusals weigh more than time running out.
  trouble worst() const {
    auto result = items_.front().why.kind;
    for (auto& x : items_)
      if (x.why.kind != result)
        return trouble::refused;
    return result;
  }

  session& s_;
  std::vector<item>& items_;
  std::string_view verb_;
  live_area area_;
  std::size_t name_width_ = 0;
  std::size_t frame_ = 0;
};

std::optional<time_point> deadline_of(const std::optional<double>& seconds) {
  if (!seconds)
    return std::nullopt;
  return steady_clock::now() + to_milliseconds(*seconds);
}

/// As people write them: no more than milliseconds, and no zeros at the end.
std::string seconds_text(double x) {
  auto result = fmt::format("{:.3f}", x);
  result.erase(result.find_last_not_of('0') + 1);
  if (result.ends_with('.'))
    result.pop_back();
  return result;
}

failure too_late(std::string_view goal, double seconds, const item& x) {
  return {trouble::timed_out, "",
          fmt::format("'{}' is {} and not {} after {} s", x.who->name, x.state, goal,
                      seconds_text(seconds)),
          "'qvmctl status' tells what the daemon is doing"};
}

/// Does one action to many domains: level after level, the domains of a level at once.
class action_run {
public:
  action_run(session& s, const action& what, std::vector<std::vector<const entry*>> levels)
      : s_(s), what_(what), levels_(std::move(levels)), items_(gather(levels_)),
        board_(s, items_, what.verb) {}

  exit_code run() {
    work();
    return board_.close();
  }

  const std::vector<item>& items() const noexcept { return items_; }

  bool lost_a_line() const noexcept { return board_.lost_a_line(); }

  /// Without a closing word.
  void work() {
    const auto deadline = deadline_of(s_.line.wait.seconds);
    if (waits_for_state() || (s_.out.moving && s_.as == format::table))
      follow(deadline);
    auto in_time = true;
    for (auto i = std::size_t{0}; i < levels_.size() && in_time; ++i) {
      for (auto x : levels_[i])
        ask(item_of(*x), i + 1 == levels_.size());
      in_time = s_.daemon.run([&] { return level_over(i); }, deadline, frame_time, [&] { tick(); });
    }
    for (auto& x : items_)
      if (!x.over())
        board_.failed(x, too_late(goal(), s_.line.wait.seconds.value_or(0), x));
    board_.clear();
  }

private:
  static std::vector<item> gather(const std::vector<std::vector<const entry*>>& levels) {
    auto result = std::vector<item>{};
    for (auto& level : levels)
      for (auto x : level)
        result.push_back({.who = x, .state = x->state, .begun = steady_clock::now(), .why = {}});
    return result;
  }

  item& item_of(const entry& x) {
    return *std::find_if(items_.begin(), items_.end(), [&](auto& y) { return y.who == &x; });
  }

  bool waits_for_state() const { return s_.line.wait.asked && what_.to != 0; }

  std::string goal() const {
    return what_.to ? names_of_states(what_.to) : std::string{model::wire_name(power::halted)};
  }

  bool level_over(std::size_t level) {
    return std::all_of(levels_[level].begin(), levels_[level].end(),
                       [&](auto x) { return item_of(*x).over(); });
  }

  /// States are followed for --wait and for the eyes; only the first cannot do without.
  void follow(std::optional<time_point> deadline) {
    auto names = std::vector<std::string>{};
    for (auto& x : items_)
      names.push_back(x.who->name);
    watch_.emplace(s_.daemon, std::move(names),
                   [this](auto& name, auto& state) { learn(name, state); });
    auto patience = steady_clock::now() + std::chrono::seconds{5};
    s_.daemon.run([&] { return watch_->ready() || watch_->trouble(); },
                  std::min(patience, deadline.value_or(patience)));
  }

  void ask(item& x, bool last_level) {
    if (auto client = client_left_running(x)) {
      return board_.failed(x, {trouble::refused, "",
                               fmt::format("its client '{}' did not shut down", client->name),
                               "--force does not wait for clients"});
    }
    if (s_.command == what_.command) { // else what came before has changed the state
      auto so = already(what_, *x.who);
      if (!so)
        return board_.failed(x, std::move(so.error()));
      x.already = !so->empty();
      if (x.already)
        return board_.finished(x, *so);
    }
    x.at = item::stage::asked;
    x.begun = steady_clock::now();
    auto how = argument(last_level);
    x.agreed = what_.command == "shutdown" && how.find("wait") == std::string::npos;
    s_.daemon.send(here_,
                   {.method = std::string{what_.method},
                    .argument = std::move(how),
                    .destination = x.who->name},
                   std::nullopt, [this, &x](auto answer) { answered(x, std::move(answer)); });
  }

  /// Domains of an earlier level must be down before their netvm is asked.
  std::string argument(bool last_level) const {
    if (what_.command != "shutdown")
      return {};
    auto wait = s_.line.wait.asked || !last_level;
    if (s_.line.force)
      return wait ? "force+wait" : "force";
    return wait ? "wait" : "";
  }

  const entry* client_left_running(const item& x) {
    if (what_.command != "shutdown" || s_.line.force)
      return nullptr;
    for (auto& y : items_)
      if (y.at == item::stage::failed && y.who->netvm == x.who->name)
        return y.who;
    return nullptr;
  }

  void answered(item& x, expected<std::string> answer) {
    if (x.over())
      return;
    if (!answer && answer.error().klass == "QubesVMNotStartedError"
        && (what_.command == "shutdown" || what_.command == "kill")) {
      x.already = true;
      return board_.finished(x, "is down already");
    }
    if (!answer) {
      auto why = std::move(answer.error());
      why.hint = remedy(s_.command, what_, why, x.who->name, x.state);
      return board_.failed(x, std::move(why));
    }
    if (!waits_for_state())
      return board_.finished(x, x.agreed ? "shutting down" : what_.done);
    x.at = item::stage::watched;
    watch_->read(x.who->name);
    next_read_ = steady_clock::now() + read_again;
  }

  void learn(const std::string& name, const std::string& state) {
    auto found =
        std::find_if(items_.begin(), items_.end(), [&](auto& x) { return x.who->name == name; });
    if (found == items_.end())
      return;
    found->state = state;
    if (found->at != item::stage::watched)
      return;
    if (bit_of(state) & what_.to)
      return board_.finished(*found, what_.done);
    constexpr auto ended = bits(power::halted, power::crashed);
    if (state == removed || ((bit_of(state) & ended) && !(what_.to & ended)))
      board_.failed(*found, {trouble::refused, "", fmt::format("it went down again ({})", state),
                             "the journal of the domain and 'qvmctl status' may tell why"});
  }

  void tick() {
    if (watch_ && steady_clock::now() >= next_read_) {
      next_read_ = steady_clock::now() + read_again;
      for (auto& x : items_)
        if (x.at == item::stage::watched)
          watch_->read(x.who->name);
    }
    board_.tick();
  }

  session& s_;
  const action& what_;
  std::vector<std::vector<const entry*>> levels_;
  std::vector<item> items_;
  board board_;
  std::optional<watch> watch_;
  time_point next_read_;
  listener here_;
};

/// Whether the domain is named itself, not by a glob or --all.
bool is_named(const session& s, const domain_list& all, const entry& x) {
  return std::any_of(s.line.words.begin(), s.line.words.end(),
                     [&](auto& y) { return !is_glob(y) && all.find(y) == &x; });
}

/// The domains a command is about: those named, and of globs and --all those it fits.
expected<std::vector<const entry*>> targets(session& s, const domain_list& all,
                                            const action& what) {
  auto chosen = s.line.all ? all.all_but(s.line.exclude) : all.choose(s.line.words);
  if (!chosen)
    return chosen;
  std::erase_if(*chosen, [&](auto x) {
    return !is_named(s, all, *x) && (!(bit_of(x->state) & what.from) || x->klass == "RemoteVM");
  });
  return chosen;
}

struct step {
  std::size_t number; ///< equal numbers go at once; 0: nothing would be done
  const entry* who;
  std::string why;
  std::string_view verb{}; ///< "": that of the whole command
  bool refused = false;
  bool asked = true; ///< not only for another's sake
};

void refuse(step& x, const failure& why) {
  x.number = 0;
  x.why = fmt::format("would be refused: {}", why.message());
  x.refused = true;
}

step refused_step(const entry& x, const failure& why) {
  auto result = step{0, &x, ""};
  refuse(result, why);
  return result;
}

std::string joined(const std::vector<const entry*>& some) {
  auto names = std::vector<std::string>{};
  for (auto x : some)
    names.push_back(x->name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// What would end their starts now, as far as the daemon knows, and those of their clients.
void refuse_what_falls_short(session& s, const domain_list& all, std::vector<step>& steps) {
  auto names = std::vector<std::string>{};
  for (auto& x : steps)
    if (x.number)
      names.push_back(x.who->name);
  auto shortfalls = shortfalls_of(s, names);
  auto next = shortfalls.begin();
  for (auto& x : steps)
    if (x.number)
      if (auto& why = *next++; why)
        refuse(x, *why);
  for (auto& x : steps)
    for (auto netvm : x.number ? all.netvms_of(*x.who) : std::vector<const entry*>{})
      if (std::ranges::any_of(steps, [&](auto& y) { return y.who == netvm && y.refused; })) {
        refuse(x, {trouble::refused, "", fmt::format("its netvm '{}' would not start", netvm->name),
                   ""});
        break;
      }
}

/// What a start brings up, netvms first.
std::vector<step> start_steps(session& s, const domain_list& all,
                              const std::vector<const entry*>& chosen) {
  constexpr auto comes_up = bits(power::halted, power::halting, power::dying, power::crashed);
  auto result = std::vector<step>{};
  auto add = [&](step x) {
    auto found = std::ranges::find(result, x.who, &step::who);
    if (found == result.end())
      result.push_back(std::move(x));
    else
      found->asked = found->asked || x.asked;
  };
  for (auto x : chosen) {
    auto so = already(action_of("start"), *x);
    if (!so) {
      add(refused_step(*x, so.error()));
      continue;
    }
    if (!so->empty() || !(x->going_down || (bit_of(x->state) & comes_up))) {
      add({0, x, fmt::format("is {} already", x->state)});
      continue;
    }
    auto number = std::size_t{0};
    auto above = all.netvms_of(*x);
    for (auto i = above.size(); i-- > 0;)
      if (!above[i]->active())
        add({.number = ++number,
             .who = above[i],
             .why = fmt::format("netvm of {}", i == 0 ? x->name : above[i - 1]->name),
             .asked = false});
    add({++number, x, "asked for"});
  }
  refuse_what_falls_short(s, all, result);
  auto idle =
      std::stable_partition(result.begin(), result.end(), [](auto& x) { return x.number > 0; });
  std::stable_sort(result.begin(), idle, [](auto& x, auto& y) { return x.number < y.number; });
  return result;
}

/// What the daemon would refuse a shutdown for; of another daemon nothing is known.
expected<void> may_shut_down(session& s, const entry& x) {
  auto may = would_be_taken(s, {"admin.vm.Shutdown", s.line.force ? "force" : "", x.name, ""});
  if (!may)
    may.error().hint = remedy(s.command, action_of("shutdown"), may.error(), x.name, x.state);
  return may;
}

std::vector<step> shutdown_steps(session& s, const domain_list& all,
                                 const std::vector<const entry*>& asked_for,
                                 const std::vector<std::vector<const entry*>>& levels) {
  auto result = std::vector<step>{};
  // What keeps a domain up now may be down by then.
  auto others_go_first = [&] {
    return std::ranges::any_of(result, [](auto& y) { return y.number > 0; });
  };
  for (auto i = std::size_t{0}; i < levels.size(); ++i)
    for (auto x : levels[i]) {
      auto clients = all.clients_of(*x);
      std::erase_if(clients, [&](auto y) {
        return std::any_of(result.begin(), result.end(),
                           [&](auto& z) { return z.who == y && z.number; });
      });
      auto so = already(action_of("shutdown"), *x);
      if (!so)
        result.push_back(refused_step(*x, so.error()));
      else if (!so->empty())
        result.push_back({0, x, fmt::format("is {} already", x->state)});
      else if (!clients.empty() && !s.line.force)
        result.push_back(
            refused_step(*x, {trouble::refused, "",
                              fmt::format("{} connected, see {}", joined(clients),
                                          s.command == "restart" ? "--force" : "--cascade"),
                              ""}));
      else if (auto may = others_go_first() ? expected<void>{} : may_shut_down(s, *x); !may)
        result.push_back(refused_step(*x, may.error()));
      else if (std::find(asked_for.begin(), asked_for.end(), x) == asked_for.end())
        result.push_back({i + 1, x, fmt::format("client of {}", x->netvm.value_or(""))});
      else
        result.push_back({i + 1, x, "asked for"});
    }
  return result;
}

std::vector<step> plain_steps(const action& what, const std::vector<const entry*>& chosen) {
  auto result = std::vector<step>{};
  for (auto x : chosen) {
    auto so = already(what, *x);
    if (!so)
      result.push_back(refused_step(*x, so.error()));
    else if (!so->empty())
      result.push_back({0, x, *so});
    else if (bit_of(x->state) & what.from)
      result.push_back({1, x, "asked for"});
    else
      result.push_back(
          refused_step(*x, {trouble::refused, "", fmt::format("it is {}", x->state), ""}));
  }
  return result;
}

/// Ends as the run itself would.
exit_code print_steps(session& s, const action& what, const std::vector<step>& steps) {
  auto result = output_table{{{"step", true}, {"action"}, {"name"}, {"state"}, {"why"}}};
  for (auto& x : steps)
    result.add({{x.number ? nlohmann::json(x.number) : nlohmann::json{}},
                {!x.number        ? "nothing"
                 : x.verb.empty() ? what.verb
                                  : x.verb,
                 x.number ? style::bold : style::dim},
                {x.who->name, style::plain, x.who->color},
                {x.who->state, style_of_state(x.who->state)},
                {x.why, style::dim}});
  auto printed = print(s, result.render(s.as, s.out));
  auto asked = std::set<const entry*>{}; // a restart has two steps
  auto refused = std::set<const entry*>{};
  for (auto& x : steps) {
    if (x.asked)
      asked.insert(x.who);
    if (x.asked && x.refused)
      refused.insert(x.who);
  }
  if (printed != exit_code::done || refused.empty())
    return printed;
  return refused == asked ? exit_code::refused : exit_code::partly;
}

} // namespace

exit_code run_action(session& s) {
  const auto& what = action_of(s.command);
  for (auto& x : s.line.words)
    if (!is_glob(x))
      if (auto good = check_name(x); !good)
        return report(s, good.error());
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto chosen = targets(s, *all, what);
  if (!chosen)
    return report(s, chosen.error());
  if (chosen->empty()) {
    if (s.as != format::table)
      return print(s, summary_table().render(s.as, s.out));
    write_err(fmt::format("nothing to {}: no such domain is {}\n", what.verb,
                          what.from == alive ? "up" : names_of_states(what.from)));
    return exit_code::done;
  }
  auto levels = std::vector<std::vector<const entry*>>{};
  if (what.command == "shutdown")
    levels = all->clients_first(s.line.cascade ? all->with_clients(*chosen) : *chosen);
  else
    levels.push_back(*chosen);
  if (!s.line.dry_run)
    return action_run{s, what, std::move(levels)}.run();
  if (what.command == "start")
    return print_steps(s, what, start_steps(s, *all, *chosen));
  if (what.command == "shutdown")
    return print_steps(s, what, shutdown_steps(s, *all, *chosen, levels));
  return print_steps(s, what, plain_steps(what, *chosen));
}

namespace {

/// Accepts a state in any case; refuses others by name.
expected<std::string> parse_state(std::string_view text) {
  auto names = std::vector<std::string>{};
  for (auto& x : model::power_rows) {
    auto same =
        std::equal(text.begin(), text.end(), x.wire.begin(), x.wire.end(), [](char a, char b) {
          return std::tolower(static_cast<unsigned char>(a))
                 == std::tolower(static_cast<unsigned char>(b));
        });
    if (same)
      return std::string{x.wire};
    names.emplace_back(x.wire);
  }
  return usage_failure(fmt::format("no state '{}'", text), one_of(text, names));
}

} // namespace

exit_code run_wait(session& s) {
  auto goal = parse_state(s.line.state);
  if (!goal)
    return report(s, goal.error());
  for (auto& x : s.line.words)
    if (!is_glob(x))
      if (auto good = check_name(x); !good)
        return report(s, good.error());
  const auto deadline = deadline_of(s.line.timeout);
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto chosen = all->choose(s.line.words);
  if (!chosen)
    return report(s, chosen.error());

  auto items = std::vector<item>{};
  auto names = std::vector<std::string>{};
  for (auto x : *chosen) {
    items.push_back({.who = x,
                     .at = item::stage::watched,
                     .state = x->state,
                     .begun = steady_clock::now(),
                     .why = {}});
    names.push_back(x->name);
  }
  auto shown = board{s, items, "wait for"};
  auto learn = [&](item& x, const std::string& state) {
    x.state = state;
    if (x.over())
      return;
    if (state == *goal)
      shown.finished(x, *goal);
    else if (state == removed)
      shown.failed(x, {trouble::refused, "", "it was removed", ""});
  };
  for (auto& x : items) // what is there already needs no time
    learn(x, x.who->state);
  auto follow =
      watch{s.daemon, names, [&](auto& name, auto& state) {
              learn(*std::ranges::find(items, name, [](auto& x) { return x.who->name; }), state);
            }};
  auto next_read = steady_clock::now() + read_again;
  auto over = [&] {
    return follow.trouble()
           || std::all_of(items.begin(), items.end(), [](auto& x) { return x.over(); });
  };
  s.daemon.run(over, deadline, frame_time, [&] {
    if (follow.ready() && steady_clock::now() >= next_read) {
      next_read = steady_clock::now() + read_again;
      for (auto& x : items)
        if (!x.over())
          follow.read(x.who->name);
    }
    shown.tick();
  });
  for (auto& x : items)
    if (!x.over())
      shown.failed(x, follow.trouble() ? *follow.trouble()
                                       : too_late(*goal, s.line.timeout.value_or(0), x));
  return shown.close();
}

namespace {

/// A device that was attached by hand, which a restart would lose.
struct held_device {
  std::string domain;
  assigned_device what;
};

expected<std::vector<held_device>> held_by(session& s, const std::vector<const entry*>& some) {
  auto classes = device_classes(s);
  if (!classes)
    return tl::unexpected{classes.error()};
  auto asked = std::vector<request>{};
  auto about = std::vector<std::pair<std::string, std::string>>{};
  for (auto x : some)
    for (auto& klass : *classes) {
      about.emplace_back(x->name, klass);
      asked.push_back({fmt::format("admin.vm.device.{}.Attached", klass), "", x->name, ""});
    }
  auto answers = ask_all(s, asked);
  auto result = std::vector<held_device>{};
  for (auto i = std::size_t{0}; i < asked.size(); ++i)
    for (auto& line : answers[i] ? lines_of(*answers[i]) : std::vector<std::string>{})
      if (auto x = parse_assigned(about[i].second, line); x && value_of(x->how, "mode") == "manual")
        result.push_back({about[i].first, std::move(*x)});
  return result;
}

std::string port_of(const assigned_device& x) {
  return x.argument.substr(0, x.argument.find('+'));
}

/// The devices come back after the start; what does not is told and is no reason to stop.
exit_code give_back(session& s, const std::vector<held_device>& devices) {
  auto asked = std::vector<request>{};
  for (auto& [domain, x] : devices)
    asked.push_back({fmt::format("admin.vm.device.{}.Attach", x.klass),
                     fmt::format("{}+{}", x.backend, x.argument), domain, serialize(x.how)});
  auto answers = ask_all(s, asked);
  auto code = exit_code::done;
  for (auto i = std::size_t{0}; i < devices.size(); ++i)
    if (!answers[i] && answers[i].error().klass != "DeviceAlreadyAttached") {
      report(s, {answers[i].error().kind, "",
                 fmt::format("'{}' has not got back {}:{}: {}", devices[i].domain,
                             devices[i].what.backend, port_of(devices[i].what),
                             answers[i].error().text),
                 answers[i].error().hint});
      code = exit_code::partly;
    }
  return code;
}

} // namespace

namespace {

/// Disposables would be gone when they are down.
expected<void> leave_out_disposables(session& s, const domain_list& all,
                                     std::vector<const entry*>& chosen) {
  for (auto x : std::vector<const entry*>{chosen}) {
    if (x->klass != "DispVM")
      continue;
    auto goes = s.daemon.ask(property_request("Get", x->name, "auto_cleanup"));
    if (!goes)
      return tl::unexpected{explain(s, goes.error(), x->name, "auto_cleanup")};
    if (!goes->ends_with("True"))
      continue;
    if (is_named(s, all, *x))
      return tl::unexpected{failure{
          trouble::refused, "",
          fmt::format("'{}' is a disposable that goes when it halts", x->name),
          fmt::format("'qvmctl disposable start {}' makes another", x->based_on.value_or(""))}};
    std::erase(chosen, x);
  }
  return {};
}

/// First all go down, clients before their netvms; then what is down comes up, netvms first, also
/// when others did not go down.
class restarting {
public:
  using levels_of_domains = std::vector<std::vector<const entry*>>;

  restarting(session& s, levels_of_domains levels) : s_(s), levels_(std::move(levels)) {}

  std::vector<step> plan(const domain_list& all, const std::vector<const entry*>& chosen) {
    auto result = shutdown_steps(s_, all, chosen, levels_);
    auto last = levels_.size();
    auto starts = std::vector<step>{};
    for (auto& x : result) {
      auto level = std::size_t{0};
      while (std::ranges::find(levels_[level], x.who) == levels_[level].end())
        ++level;
      if (x.number || !x.who->active())
        starts.push_back(
            {2 * last - level, x.who, x.number ? "goes up again" : x.why, action_of("start").verb});
    }
    std::erase_if(result, [](auto& x) { return !x.who->active(); });
    refuse_what_falls_short(s_, all, starts);
    std::ranges::stable_sort(starts, {}, &step::number);
    result.insert(result.end(), starts.begin(), starts.end());
    return result;
  }

  exit_code run(const std::vector<held_device>& devices) {
    s_.line.wait.asked = true;
    auto down = levels_;
    for (auto& level : down) // what is down already is only started
      std::erase_if(level, [](auto x) { return !x->active(); });
    do_all("shutdown", std::move(down));
    auto up = levels_;
    for (auto& level : up)
      std::erase_if(level, [this](auto x) { return x->active() && !is_down(*x); });
    std::reverse(up.begin(), up.end());
    do_all("start", std::move(up));
    auto returned = devices;
    std::erase_if(returned, [this](auto& x) { return !runs_again(x.domain); });
    auto given = give_back(s_, returned);
    auto code = close();
    return code == exit_code::done ? given : code;
  }

private:
  void do_all(std::string_view what, levels_of_domains levels) {
    std::erase_if(levels, [](auto& x) { return x.empty(); });
    if (levels.empty())
      return;
    auto part = action_run{s_, action_of(what), std::move(levels)};
    part.work();
    lost_a_line_ = lost_a_line_ || part.lost_a_line();
    for (auto& x : part.items()) {
      auto before = std::ranges::find(items_, x.who, &item::who);
      if (before == items_.end()) {
        items_.push_back(x);
        continue;
      }
      auto took = before->took + x.took;
      *before = x;
      before->took = took;
    }
  }

  bool is_down(const entry& x) const {
    auto found = std::ranges::find(items_, &x, &item::who);
    return found != items_.end() && found->at == item::stage::done;
  }

  bool runs_again(const std::string& name) const {
    return std::ranges::any_of(
        items_, [&](auto& x) { return x.who->name == name && x.at == item::stage::done; });
  }

  exit_code close() const {
    auto good = static_cast<std::size_t>(std::ranges::count(items_, item::stage::done, &item::at));
    auto result = summary_table();
    for (auto& x : items_)
      add_to_summary(result, x);
    if (s_.as != format::table)
      if (auto code = print(s_, result.render(s_.as, s_.out)); code != exit_code::done)
        return code;
    if (lost_a_line_)
      return report(s_, lost_output());
    if (good == items_.size())
      return exit_code::done;
    if (s_.as == format::table && items_.size() > 1)
      write_err(fmt::format("qvmctl: {} of {} restarted, {} not\n", good, items_.size(),
                            items_.size() - good));
    return good > 0 ? exit_code::partly : code_of(items_.front().why.kind);
  }

  session& s_;
  levels_of_domains levels_;
  std::vector<item> items_; ///< the last that was done to each
  bool lost_a_line_ = false;
};

} // namespace

exit_code run_restart(session& s) {
  auto all = domain_list::fetch(s.daemon);
  if (!all)
    return report(s, all.error());
  auto chosen = targets(s, *all, action_of("shutdown"));
  if (!chosen)
    return report(s, chosen.error());
  if (auto good = leave_out_disposables(s, *all, *chosen); !good)
    return report(s, good.error());
  if (chosen->empty() && s.as == format::table) {
    write_err("nothing to restart: no such domain is up\n");
    return exit_code::done;
  }
  auto what = restarting{s, all->clients_first(*chosen)};
  if (s.line.dry_run)
    return print_steps(s, action_of("shutdown"), what.plan(*all, *chosen));
  auto devices = held_by(s, *chosen);
  if (!devices)
    return report(s, devices.error());
  return what.run(*devices);
}

} // namespace qubes::ctl
