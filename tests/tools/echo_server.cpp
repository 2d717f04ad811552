// qvmd-echo: the cheapest server that speaks our framing, to measure the daemon against: one
// thread, epoll, reads to the half-close, answers 40 bytes, closes.
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace {

constexpr std::string_view answer{"0\0default=False type=label blue_________", 40};

int listen_on(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path)
    return -1;
  std::memcpy(address.sun_path, path, std::strlen(path) + 1);
  ::unlink(path);
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0
      || ::listen(fd, 4096) != 0)
    return -1;
  return fd;
}

void watch(int poller, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  ::epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

void serve(int fd) {
  std::array<char, 4096> request;
  ssize_t got = 0;
  while ((got = ::recv(fd, request.data(), request.size(), MSG_DONTWAIT)) > 0) {
  }
  if (got < 0)
    return; // the rest is under way
  ::send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
  ::close(fd);
}

} // namespace

int main(int argc, char** argv) {
  int listener = argc == 2 ? listen_on(argv[1]) : -1;
  if (listener < 0) {
    std::fprintf(stderr, "usage: qvmd-echo SOCKET\n");
    return 1;
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  int signals = ::signalfd(-1, &ends, SFD_CLOEXEC);
  int poller = ::epoll_create1(EPOLL_CLOEXEC);
  watch(poller, listener);
  watch(poller, signals);
  std::array<epoll_event, 64> events;
  for (;;) {
    int count = ::epoll_wait(poller, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < count; ++i) {
      int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == signals) {
        ::unlink(argv[1]);
        return 0;
      }
      if (fd != listener) {
        serve(fd);
        continue;
      }
      int fresh = -1;
      while ((fresh = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
        watch(poller, fresh);
    }
  }
}
