#include "tests/fakes/fake_xenstore.hpp"

#include "drivers/guest/xenstore_rules.hpp"
#include "drivers/io/contain.hpp"

#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace qubes::drivers {

namespace {

std::string directory_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == 0 ? "/" : path.substr(0, slash);
}

bool is_below(const std::string& path, const std::string& top) {
  return top == "/" || path == top || (path.starts_with(top) && path[top.size()] == '/');
}

/// A change, as watches are told of it.
struct news {
  std::string path;
  bool gone_with_parent = false; ///< only a watch on this very path is told
};

/// All entries by path. Each knows when it last changed, also in which children it has, so that a
/// transaction can tell whether what it read is still so.
class tree {
public:
  tree() { entries_["/"].permissions = {{}}; }

  outcome<std::optional<std::string>> read(const std::string& path) const {
    if (auto x = check_xs_path(path); !x)
      return tl::unexpected{std::move(x.error())};
    auto found = entries_.find(path);
    return found == entries_.end() ? std::nullopt : std::optional{found->second.text};
  }

  outcome<void> write(const std::string& path, std::string_view text, std::vector<news>& told) {
    if (auto x = check_xs_entry(path, text); !x)
      return x;
    auto& entry = make(path);
    entry.text = text;
    entry.changed = ++clock_;
    told.push_back({path});
    return {};
  }

  outcome<void> remove(const std::string& path, std::vector<news>& told) {
    if (auto x = check_xs_path(path); !x)
      return x;
    if (path == "/")
      return tl::unexpected{xs_error("remove", path, "it is the root")};
    if (!entries_.contains(path))
      return {};
    entries_.at(directory_of(path)).changed = ++clock_;
    told.push_back({path});
    std::erase_if(entries_, [&](auto& x) {
      auto gone = is_below(x.first, path);
      if (gone && x.first != path)
        told.push_back({x.first, true});
      return gone;
    });
    return {};
  }

  outcome<std::vector<std::string>> list(const std::string& path) const {
    if (auto x = check_xs_path(path); !x)
      return tl::unexpected{std::move(x.error())};
    auto prefix = path == "/" ? path : path + "/";
    auto result = std::vector<std::string>{};
    for (auto x = entries_.upper_bound(prefix); x != entries_.end(); ++x) {
      if (!x->first.starts_with(prefix))
        break;
      if (auto name = x->first.substr(prefix.size()); name.find('/') == name.npos)
        result.push_back(std::move(name));
    }
    return result;
  }

  outcome<std::vector<xs_permission>> permissions(const std::string& path) const {
    if (auto x = check_xs_path(path); !x)
      return tl::unexpected{std::move(x.error())};
    if (auto found = entries_.find(path); found != entries_.end())
      return found->second.permissions;
    return tl::unexpected{xs_error("read the permissions of", path, "there is no such entry")};
  }

  outcome<void> set_permissions(const std::string& path, const std::vector<xs_permission>& x,
                                std::vector<news>& told) {
    if (auto y = check_xs_permissions(path, x); !y)
      return y;
    auto found = entries_.find(path);
    if (found == entries_.end())
      return tl::unexpected{xs_error("set the permissions of", path, "there is no such entry")};
    found->second.permissions = x;
    found->second.changed = ++clock_;
    told.push_back({path});
    return {};
  }

  /// When the entry last changed; 0 for a missing one.
  std::uint64_t changed(const std::string& path) const {
    auto found = entries_.find(path);
    return found == entries_.end() ? 0 : found->second.changed;
  }

private:
  struct entry {
    std::string text;
    std::vector<xs_permission> permissions;
    std::uint64_t changed = 0;
  };

  /// Makes an entry, and its missing parents; a new entry has its parent's permissions.
  entry& make(const std::string& path) {
    if (auto found = entries_.find(path); found != entries_.end())
      return found->second;
    auto& parent = make(directory_of(path));
    parent.changed = ++clock_;
    return entries_.emplace(path, entry{{}, parent.permissions, clock_}).first->second;
  }

  std::map<std::string, entry> entries_;
  std::uint64_t clock_ = 1;
};

/// Works on a copy; the changes are made again on the tree itself if nothing that the transaction
/// touched differs there.
class fake_transaction final : public xenstore {
public:
  fake_transaction(xenstore& outside, tree start)
      : outside_(outside), start_(start), now_(std::move(start)) {
    // nop
  }

  outcome<std::optional<std::string>> read(const std::string& path) override {
    touched_.insert(path);
    return now_.read(path);
  }
  outcome<std::vector<std::string>> list(const std::string& path) override {
    touched_.insert(path);
    return now_.list(path);
  }
  outcome<std::vector<xs_permission>> permissions(const std::string& path) override {
    touched_.insert(path);
    return now_.permissions(path);
  }
  outcome<void> write(const std::string& path, std::string_view text) override {
    return change(path, [path, text = std::string{text}](tree& x, std::vector<news>& told) {
      return x.write(path, text, told);
    });
  }
  outcome<void> remove(const std::string& path) override {
    return change(path, [path](tree& x, std::vector<news>& told) { return x.remove(path, told); });
  }
  outcome<void> set_permissions(const std::string& path,
                                const std::vector<xs_permission>& x) override {
    return change(path, [path, x](tree& y, std::vector<news>& told) {
      return y.set_permissions(path, x, told);
    });
  }

  /// Inside a transaction there is no other one.
  outcome<void> transact(const std::function<outcome<void>(xenstore&)>& body) override {
    return body(*this);
  }
  outcome<void> watch(const std::string& path, const std::string& token,
                      std::function<void(const std::string&)> heard) override {
    return outside_.watch(path, token, std::move(heard));
  }
  outcome<void> unwatch(const std::string& path, const std::string& token) override {
    return outside_.unwatch(path, token);
  }

  /// False, and nothing done, when another client has changed what the transaction touched.
  bool commit(tree& present, std::vector<news>& told) const {
    if (std::ranges::any_of(touched_, [&](const std::string& path) {
          return present.changed(path) != start_.changed(path);
        }))
      return false;
    for (auto& x : steps_)
      (void)x(present, told); // each step succeeded on the copy
    return true;
  }

private:
  using step = std::function<outcome<void>(tree&, std::vector<news>&)>;

  outcome<void> change(const std::string& path, step x) {
    touched_.insert(path);
    auto unheard = std::vector<news>{};
    auto done = x(now_, unheard);
    if (done)
      steps_.push_back(std::move(x));
    return done;
  }

  xenstore& outside_;
  tree start_, now_;
  std::set<std::string> touched_;
  std::vector<step> steps_;
};

/// Listeners are called in the thread that makes the change, after it.
class memory_xenstore final : public fake_xenstore {
public:
  outcome<std::optional<std::string>> read(const std::string& path) override {
    auto held = lock{mutex_};
    return tree_.read(path);
  }
  outcome<std::vector<std::string>> list(const std::string& path) override {
    auto held = lock{mutex_};
    return tree_.list(path);
  }
  outcome<std::vector<xs_permission>> permissions(const std::string& path) override {
    auto held = lock{mutex_};
    return tree_.permissions(path);
  }
  outcome<void> write(const std::string& path, std::string_view text) override {
    auto told = std::vector<news>{};
    auto held = lock{mutex_};
    auto done = tree_.write(path, text, told);
    tell(std::move(held), told);
    return done;
  }
  outcome<void> remove(const std::string& path) override {
    auto told = std::vector<news>{};
    auto held = lock{mutex_};
    auto done = tree_.remove(path, told);
    tell(std::move(held), told);
    return done;
  }
  outcome<void> set_permissions(const std::string& path,
                                const std::vector<xs_permission>& x) override {
    auto told = std::vector<news>{};
    auto held = lock{mutex_};
    auto done = tree_.set_permissions(path, x, told);
    tell(std::move(held), told);
    return done;
  }

  outcome<void> transact(const std::function<outcome<void>(xenstore&)>& body) override {
    for (auto i = 0; i < xs_most_attempts; ++i) {
      auto held = lock{mutex_};
      auto inside = fake_transaction{*this, tree_};
      held.unlock();
      if (auto done = body(inside); !done)
        return done;
      auto told = std::vector<news>{};
      held.lock();
      if (inside.commit(tree_, told)) {
        tell(std::move(held), told);
        return {};
      }
    }
    return tl::unexpected{xs_too_busy()};
  }

  outcome<void> watch(const std::string& path, const std::string& token,
                      std::function<void(const std::string&)> heard) override {
    if (auto x = check_xs_watch(path); !x)
      return x;
    auto shared = std::make_shared<listener>(std::move(heard));
    {
      auto held = lock{mutex_};
      if (!watches_.try_emplace({path, token}, shared).second)
        return tl::unexpected{xs_error("watch", path, "there is such a watch already")};
    }
    contain("news of XenStore", [&] { (*shared)(path); });
    return {};
  }

  outcome<void> unwatch(const std::string& path, const std::string& token) override {
    auto held = lock{mutex_};
    if (watches_.erase({path, token}) == 0)
      return tl::unexpected{xs_error("unwatch", path, "there is no such watch")};
    return {};
  }

  void announce(const std::string& event) override { tell(lock{mutex_}, {{event}}); }

  void forget_watches() override {
    auto held = lock{mutex_};
    watches_.clear();
  }

private:
  using lock = std::unique_lock<std::mutex>;
  using listener = std::function<void(const std::string&)>;

  void tell(lock held, const std::vector<news>& told) {
    auto calls = std::vector<std::pair<std::shared_ptr<listener>, std::string>>{};
    for (auto& x : told)
      for (auto& [where, heard] : watches_)
        if (x.gone_with_parent ? x.path == where.first : is_below(x.path, where.first))
          calls.emplace_back(heard, x.path);
    held.unlock();
    for (auto& [heard, path] : calls)
      contain("news of XenStore", [&] { (*heard)(path); });
  }

  std::mutex mutex_;
  tree tree_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<listener>> watches_;
};

} // namespace

std::unique_ptr<fake_xenstore> make_fake_xenstore() {
  return std::make_unique<memory_xenstore>();
}

} // namespace qubes::drivers
