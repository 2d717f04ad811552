// What pools of image files have in common: a directory, and files named after the volume's id
// (spec/storage.md §4, §5).
#pragma once

#include "drivers/io/files.hpp"
#include "drivers/storage/pool.hpp"

#include <unistd.h>

#include <map>
#include <memory>
#include <mutex>

namespace qubes::drivers::storage {

/// The names of a volume's files.
class image {
public:
  explicit image(std::string base) : base_(std::move(base)) {}

  const std::string& base() const { return base_; }
  std::string clean() const { return base_ + ".img"; }
  std::string dirty() const { return base_ + "-dirty.img"; }
  std::string precache() const { return base_ + "-precache.img"; }
  std::string import() const { return base_ + "-import.img"; }
  std::string cow() const { return base_ + "-cow.img"; }
  std::string old_cow() const { return base_ + "-cow.img.old"; }

  std::string directory() const { return base_.substr(0, base_.rfind('/')); }

  /// File names in the volume's directory that are its own, whatever made them.
  outcome<std::vector<std::string>> all() const;

  /// Removes half-written files that a crash left.
  outcome<void> tidy() const;

private:
  std::string base_; ///< without suffix
};

class image_pool : public pool {
public:
  outcome<model::pool_facts> facts() override;
  outcome<void> remove(const volume& x) override;
  outcome<void> end_import(const volume& x, bool keep) override;

protected:
  image_pool(model::pool config, const environment& with);

  const model::pool& config() const { return config_; }
  const std::string& root() const { return root_; }
  command_runner& commands() const { return *commands_; }

  /// The pool's directory and those of the classes.
  outcome<void> make_directories() const;

  /// Refuses ids that would lead out of the pool.
  outcome<image> image_of(const model::volume& x) const;

  outcome<image> origin_of(const volume& x) const;

  outcome<void> make_parents(const model::volume& x) const;

  /// Zeros for another program to write to.
  outcome<std::string> make_import(const image& files, std::uint64_t bytes, lasting x);

  /// What was imported, and is complete, becomes the committed state.
  virtual outcome<void> commit_import(const volume& x, const image& files) = 0;

  template <class Work>
  outcome<void> with_image(const volume& x, Work work) const {
    auto files = image_of(x.it);
    if (!files)
      return tl::unexpected{std::move(files.error())};
    return work(*files);
  }

  /// Work in the volume's directory, which is made for it, and gone again when the work fails.
  template <class Work>
  outcome<void> with_new_image(const volume& x, Work work) const {
    return with_image(x, [&](const image& files) {
      auto done = make_parents(x.it).and_then([&] { return work(files); });
      if (!done)
        ::rmdir(files.directory().c_str()); // stays while another volume is in it
      return done;
    });
  }

private:
  outcome<void> drop_import(const image& files);

  /// Whether all that was announced came, and no more.
  outcome<void> check_import(const volume& x, const image& files);

  model::pool config_;
  std::string root_; ///< without a slash at the end
  std::shared_ptr<command_runner> commands_;
  std::mutex announcing_;
  std::map<std::string, std::uint64_t> announced_; ///< by the path of the import
};

/// The refusal while what the guest of `x` wrote is not committed.
tl::unexpected<model::error> still_dirty(const volume& x);

/// The directory a pool is in, without a slash at the end; refuses what is no absolute path.
outcome<std::string> directory_of(const model::pool& x);

/// Loop devices over this file see its new size (LOOP_SET_CAPACITY).
outcome<void> grow_loops_over(const std::string& path);

} // namespace qubes::drivers::storage
