#include "drivers/host/host_facts.hpp"
#include "drivers/io/unique_fd.hpp"
#include "model/base/characters.hpp"
#include "model/base/literal.hpp"
#include "model/base/split.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

namespace qubes::drivers {

namespace {

namespace fs = std::filesystem;

/// Far more than any of these files holds.
constexpr std::size_t file_limit = 65536;

/// The beginning of a regular file. Whatever else stands there must not make us wait.
std::optional<std::string> read_beginning(const std::string& path, std::size_t most = file_limit) {
  auto file = unique_fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct ::stat facts {};
  if (!file || ::fstat(file.get(), &facts) != 0 || !S_ISREG(facts.st_mode))
    return std::nullopt;
  auto text = std::string(most, '\0');
  auto filled = std::size_t{0};
  while (filled < text.size()) {
    auto got = ::read(file.get(), text.data() + filled, text.size() - filled);
    if (got < 0)
      return std::nullopt;
    if (got == 0)
      break;
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

/// Options end up on a kernel's command line, so a file that could not have meant them is as good
/// as missing.
std::optional<std::string> read_options(const std::string& path) {
  auto text = read_beginning(path);
  if (!text || text->size() == file_limit || text->find('\0') != std::string::npos)
    return std::nullopt;
  return std::string{model::trimmed(*text)};
}

bool is_file(const fs::path& path) {
  auto ignored = std::error_code{};
  return fs::is_regular_file(path, ignored);
}

/// Letters, digits and `more`.
bool consists_of(std::string_view text, std::string_view more) {
  return std::ranges::all_of(text, [&](char x) {
    return model::is_alphanumeric(x) || more.find(x) != std::string_view::npos;
  });
}

/// Kernel names appear in listings and paths.
bool is_kernel_name(std::string_view name) {
  return !name.empty() && name.front() != '.' && consists_of(name, "._+-");
}

model::kernel read_kernel(const fs::path& directory) {
  auto options = [&](const char* file) { return read_options((directory / file).string()); };
  return {
      .name = directory.filename().string(),
      .vmlinuz = is_file(directory / "vmlinuz"),
      .initramfs = is_file(directory / "initramfs"),
      .modules = is_file(directory / "modules.img"),
      .memory_hotplug = is_file(directory / "memory-hotplug-supported"),
      .default_options = options("default-kernelopts-nopci.txt"),
      .default_options_pci = options("default-kernelopts-pci.txt"),
      .common_options = options("default-kernelopts-common.txt"),
  };
}

unsigned to_number(std::string_view text) {
  auto number = 0U;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

/// Zone names travel to every domain; nothing else may.
std::string checked_zone(std::string_view name) {
  return consists_of(name, "_+-/") ? std::string{name} : std::string{};
}

/// The smallest name of the file, apart from the copies below posix/ and right/.
std::string find_zone(const struct ::stat& wanted, const fs::path& zoneinfo) {
  auto best = std::string{};
  auto failed = std::error_code{};
  auto skip = fs::directory_options::skip_permission_denied;
  for (auto x = fs::recursive_directory_iterator{zoneinfo, skip, failed};
       !failed && x != fs::recursive_directory_iterator{}; x.increment(failed)) {
    auto name = x->path().lexically_relative(zoneinfo).string();
    if (name == "posix" || name == "right") {
      x.disable_recursion_pending();
      continue;
    }
    struct ::stat facts {};
    if (::lstat(x->path().c_str(), &facts) == 0 && facts.st_ino == wanted.st_ino
        && facts.st_dev == wanted.st_dev && (best.empty() || name < best))
      best = name;
  }
  return best;
}

} // namespace

cpu_identity parse_cpuinfo(std::string_view text) {
  auto found = cpu_identity{};
  while (!text.empty()) {
    auto line = model::take_until(text, '\n');
    if (model::trimmed(line).empty())
      break; // the next processor
    auto colon = line.find(':');
    if (colon == std::string_view::npos)
      continue;
    auto key = model::trimmed(line.substr(0, colon));
    auto value = model::trimmed(line.substr(colon + 1));
    if (key == "cpu family")
      found.family = to_number(value);
    else if (key == "model")
      found.model = to_number(value);
  }
  return found;
}

std::string read_timezone(const std::string& localtime, const std::string& zoneinfo) {
  struct ::stat facts {};
  if (::lstat(localtime.c_str(), &facts) != 0)
    return {};
  if (!S_ISLNK(facts.st_mode))
    return facts.st_nlink > 1 ? checked_zone(find_zone(facts, zoneinfo)) : std::string{};
  auto failed = std::error_code{};
  auto target = fs::read_symlink(localtime, failed).string();
  constexpr auto mark = std::string_view{"zoneinfo/"};
  auto at = target.rfind(mark);
  return at == std::string::npos ? std::string{}
                                 : checked_zone(std::string_view{target}.substr(at + mark.size()));
}

std::vector<model::kernel> scan_kernels(const std::string& state_directory) {
  auto kernels = std::vector<model::kernel>{};
  auto failed = std::error_code{};
  for (auto x = fs::directory_iterator{fs::path{state_directory} / "vm-kernels", failed};
       !failed && x != fs::directory_iterator{}; x.increment(failed)) {
    auto ignored = std::error_code{};
    if (is_kernel_name(x->path().filename().string()) && x->is_directory(ignored))
      kernels.push_back(read_kernel(x->path()));
  }
  std::ranges::sort(kernels, {}, &model::kernel::name);
  return kernels;
}

std::shared_ptr<const model::usb_names> read_usb_names(const std::string& path) {
  constexpr auto most = std::size_t{4} << 20;
  auto text = read_beginning(path, most);
  if (!text)
    return nullptr;
  text->shrink_to_fit();
  return std::make_shared<const model::usb_names>(std::move(*text));
}

std::set<model::package> find_packages(const std::string& python) {
  auto result = std::set<model::package>{};
  auto failed = std::error_code{};
  if (python.empty())
    return result;
  for (auto x = fs::directory_iterator{python, failed}; !failed && x != fs::directory_iterator{};
       x.increment(failed)) {
    if (!x->path().filename().string().starts_with("python3"))
      continue;
    for (auto packages : {"site-packages", "dist-packages"})
      for (auto& row : model::package_rows)
        if (is_file(x->path() / packages / row.module / "__init__.py"))
          result.insert(row.id);
  }
  return result;
}

model::host gather_host(const std::string& state_directory) {
  auto found = model::host{};
  auto cpu = parse_cpuinfo(read_beginning("/proc/cpuinfo").value_or(""));
  found.cpu_family = cpu.family;
  found.cpu_model = cpu.model;
  found.timezone = read_timezone("/etc/localtime", "/usr/share/zoneinfo");
  found.state_directory = state_directory;
  found.kernels = scan_kernels(state_directory);
  return found;
}

host_watch::host_watch(places where, sink to)
    : watch_({}, [where = std::move(where), to = std::move(to)](bool) {
        auto kernels = where.state_directory + "/vm-kernels";
        auto found = passing_facts{.kernels = scan_kernels(where.state_directory),
                                   .timezone = read_timezone(where.localtime, where.zoneinfo)};
        auto seen = std::set{kernels, fs::path{where.localtime}.parent_path().string()};
        for (auto& x : found.kernels) {
          auto home = fs::path{kernels} / x.name;
          auto unknown = std::error_code{};
          auto real = fs::canonical(home, unknown);
          seen.insert(unknown ? home.string() : real.string());
        }
        return directory_watch::finding{std::move(seen), [to, found] { to(found); }};
      }) {}

std::uint64_t random_number() {
  auto number = std::uint64_t{0};
  // So few bytes come whole and never fail once the machine has booted.
  while (::getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number)) {
  }
  return number;
}

std::string make_uuid() {
  auto bytes = std::array<unsigned char, 16>{};
  for (auto half : {bytes.begin(), bytes.begin() + 8}) {
    auto number = random_number();
    std::memcpy(&*half, &number, sizeof number);
  }
  bytes[6] = static_cast<unsigned char>((bytes[6] & 0x0FU) | 0x40U);
  bytes[8] = static_cast<unsigned char>((bytes[8] & 0x3FU) | 0x80U);
  auto text = std::string{};
  for (auto i = std::size_t{0}; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

} // namespace qubes::drivers
