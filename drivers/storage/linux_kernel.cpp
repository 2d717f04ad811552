// Kernels as directories with vmlinuz, initramfs and modules.img; never changed from here
// (spec/storage.md §8).
#include "drivers/io/files.hpp"
#include "drivers/storage/drivers.hpp"
#include "drivers/storage/image_pool.hpp"

#include <fmt/format.h>

#include <filesystem>

namespace qubes::drivers::storage {

namespace {

using model::errc;
using model::fail;

class linux_kernel_pool final : public pool {
public:
  explicit linux_kernel_pool(std::string root) : root_(std::move(root)) {}

  outcome<void> set_up() override { return make_directory(root_); }

  outcome<model::pool_facts> facts() override { return model::pool_facts{}; }

  outcome<std::vector<std::string>> list() override {
    return names_in(root_).map([&](auto names) {
      auto failure = std::error_code{};
      std::erase_if(names, [&](auto& name) {
        return !std::filesystem::is_directory(root_ + '/' + name, failure);
      });
      return names;
    });
  }

  outcome<void> create(const volume&) override { return {}; }
  outcome<void> remove(const volume&) override { return {}; }
  outcome<void> start(const volume&) override { return {}; }
  outcome<void> stop(const volume&) override { return {}; }
  bool is_dirty(const volume&) override { return false; }

  outcome<void> verify(const volume& x) override {
    if (x.it.vid.empty())
      return {};
    auto path = fmt::format("{}/{}/vmlinuz", root_, x.it.vid);
    auto failure = std::error_code{};
    if (x.it.vid.find('/') != x.it.vid.npos || x.it.vid == ".."
        || !std::filesystem::exists(path, failure))
      return fail(errc::storage, fmt::format("the kernel '{}' is missing", path),
                  "set the domain's kernel to one that is there");
    return {};
  }

  outcome<model::volume_facts> look(const volume& x) override {
    return model::volume_facts{
        .size = 0, .usage = 0, .path = device(x), .outdated = false, .revisions = {}};
  }

  std::string device(const volume& x) override {
    return x.it.vid.empty() ? std::string{} : fmt::format("{}/{}/modules.img", root_, x.it.vid);
  }

  outcome<std::string> begin_export(const volume& x) override { return device(x); }
  outcome<std::string> begin_import(const volume& x, std::uint64_t) override {
    return not_implemented(x, "take data: kernels are read-only");
  }
  outcome<void> end_import(const volume& x, bool) override {
    return not_implemented(x, "take data: kernels are read-only");
  }
  outcome<void> resize(const volume& x, std::uint64_t) override {
    return not_implemented(x, "be resized: kernels are read-only");
  }
  outcome<void> revert(const volume& x, const std::string&) override {
    return not_implemented(x, "be reverted: kernels are read-only");
  }

private:
  std::string root_;
};

} // namespace

outcome<std::shared_ptr<pool>> open_linux_kernel_pool(const model::pool& config,
                                                      const environment&) {
  auto root = directory_of(config);
  if (!root)
    return tl::unexpected{std::move(root.error())};
  return std::make_shared<linux_kernel_pool>(std::move(*root));
}

} // namespace qubes::drivers::storage
