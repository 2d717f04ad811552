#include "children.hpp"

#include "wire.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

namespace qubes::tools {

namespace fs = std::filesystem;

child::child(const std::vector<std::string>& command, const std::string& log) {
  std::vector<char*> words;
  words.reserve(command.size() + 1);
  for (const auto& word : command)
    words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const char* out = log.empty() ? "/dev/null" : log.c_str();
  pid_ = ::fork();
  if (pid_ < 0)
    throw std::system_error(errno, std::generic_category(), "fork");
  if (pid_ > 0)
    return;
  // No child process outlives this one, whatever ends it.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  int in = ::open("/dev/null", O_RDONLY);
  int to = ::open(out, O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(in, 0);
  ::dup2(to, 1);
  ::dup2(to, 2);
  ::execvp(words[0], words.data());
  ::dprintf(2, "cannot run %s: %s\n", words[0], std::strerror(errno));
  ::_exit(127);
}

child::child(child&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

child& child::operator=(child&& other) noexcept {
  if (this != &other) {
    stop();
    pid_ = std::exchange(other.pid_, -1);
  }
  return *this;
}

child::~child() {
  stop();
}

bool child::running() {
  if (pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == pid_)
    pid_ = -1;
  return pid_ > 0;
}

void child::kill() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void child::hang_up() const {
  if (pid_ > 0)
    ::kill(pid_, SIGHUP);
}

std::optional<int> child::stop(clock::duration limit) {
  if (pid_ <= 0)
    return {};
  ::kill(pid_, SIGTERM);
  int status = 0;
  for (auto deadline = clock::now() + limit; clock::now() < deadline;) {
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? std::optional{WEXITSTATUS(status)} : std::nullopt;
    }
    std::this_thread::sleep_for(2ms);
  }
  kill();
  return {};
}

int child::wait() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

usage usage_of(pid_t pid) {
  usage result;
  auto proc = fmt::format("/proc/{}/", pid);
  std::string word;
  for (std::ifstream status{proc + "status"}; status >> word;)
    if (word == "VmRSS:")
      status >> result.resident_kib;
  std::error_code ignored;
  for (fs::directory_iterator i{proc + "fd", ignored}, end; i != end; i.increment(ignored))
    ++result.descriptors;
  clockid_t theirs{};
  timespec given{};
  if (::clock_getcpuclockid(pid, &theirs) == 0 && ::clock_gettime(theirs, &given) == 0)
    result.cpu = std::chrono::seconds{given.tv_sec} + std::chrono::nanoseconds{given.tv_nsec};
  return result;
}

scratch::scratch(const std::string& purpose) {
  auto name = "qvmd-" + purpose + ".XXXXXX";
  auto pattern = (fs::temp_directory_path() / name).string();
  if (::mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error("cannot make " + pattern);
  path_ = pattern;
  pattern = "/dev/shm/" + name;
  if (::mkdtemp(pattern.data()) != nullptr) {
    in_memory_ = pattern;
    fs::create_directory_symlink(in_memory_, path_ / "run");
  }
}

scratch::~scratch() {
  std::error_code ignored;
  if (keep_)
    return;
  fs::remove_all(path_, ignored);
  if (!in_memory_.empty())
    fs::remove_all(in_memory_, ignored);
}

own_daemon::own_daemon(std::string program, fs::path directory,
                       std::vector<std::string> environment)
    : program_(std::move(program)), directory_(std::move(directory)),
      environment_(std::move(environment)) {}

double own_daemon::start(clock::duration limit) {
  auto begin = clock::now();
  std::vector<std::string> command{"env"};
  command.insert(command.end(), environment_.begin(), environment_.end());
  command.insert(command.end(), {program_, "--config", directory_ / "qvmd.toml"});
  process_ = child{command, log()};
  request question{"admin.vmclass.List", "", "dom0", ""};
  while (!call(socket(), question, 5s).ok()) {
    if (!process_.running())
      throw std::runtime_error(fmt::format("{} ended at once:\n{}", program_, end_of(log())));
    if (clock::now() - begin > limit)
      throw std::runtime_error(fmt::format("{} does not answer:\n{}", program_, end_of(log())));
    std::this_thread::sleep_for(500us);
  }
  return milliseconds(clock::now() - begin);
}

std::string end_of(const std::string& file, std::size_t bytes) {
  std::ifstream in{file, std::ios::binary};
  std::string all{std::istreambuf_iterator<char>{in}, {}};
  return all.size() > bytes ? all.substr(all.size() - bytes) : all;
}

std::string sibling(const std::string& name) {
  return fs::read_symlink("/proc/self/exe").parent_path() / name;
}

} // namespace qubes::tools
