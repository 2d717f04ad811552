/* Stands in for the hypervisor below a real xenstored, so that it runs on any machine and for any
   user: preload it (LD_PRELOAD) into `xenstored -N`. It answers the few calls xenstored makes to
   libxenevtchn, libxengnttab and libxenctrl, and the two files of /proc/xen it reads.

   A domain lives while a file named after its number is in the directory $FAKEXEN_DOMS; SIGUSR1
   tells xenstored that one ended (it then fires @releaseDomain). Domain 0 always lives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>

enum { page_size = 4096, first_reserved_domain = 0x7ff0 };

static char handle; /* what every "open" returns: an address and nothing more */

/* -- event channels: the only event is "a domain ended", carried by a pipe ----------------------
 */

static int ended[2] = {-1, -1};
static int ended_port;
static int last_port;

static void tell_ended(int signal_number) {
  (void)signal_number;
  ssize_t written = write(ended[1], "x", 1);
  (void)written; /* a full pipe tells it already */
}

xenevtchn_handle* xenevtchn_open(xentoollog_logger* logger, unsigned flags) {
  (void)logger;
  (void)flags;
  struct sigaction action = {.sa_flags = SA_RESTART};
  action.sa_handler = tell_ended;
  if (ended[0] < 0
      && (pipe2(ended, O_CLOEXEC | O_NONBLOCK) < 0 || sigaction(SIGUSR1, &action, NULL) < 0))
    return NULL;
  return (xenevtchn_handle*)&handle;
}

xenevtchn_handle* xenevtchn_fdopen(xentoollog_logger* logger, int fd, unsigned flags) {
  (void)fd;
  return xenevtchn_open(logger, flags);
}

int xenevtchn_fd(xenevtchn_handle* x) {
  (void)x;
  return ended[0];
}

xenevtchn_port_or_error_t xenevtchn_bind_virq(xenevtchn_handle* x, unsigned virq) {
  (void)x;
  (void)virq;
  return ended_port = ++last_port;
}

xenevtchn_port_or_error_t xenevtchn_bind_interdomain(xenevtchn_handle* x, uint32_t domid,
                                                     evtchn_port_t remote) {
  (void)x;
  (void)domid;
  (void)remote;
  return ++last_port;
}

xenevtchn_port_or_error_t xenevtchn_pending(xenevtchn_handle* x) {
  (void)x;
  char byte;
  return read(ended[0], &byte, 1) == 1 ? ended_port : -1;
}

int xenevtchn_close(xenevtchn_handle* x) {
  (void)x;
  return 0;
}

int xenevtchn_unbind(xenevtchn_handle* x, evtchn_port_t port) {
  (void)x;
  (void)port;
  return 0;
}

int xenevtchn_notify(xenevtchn_handle* x, evtchn_port_t port) {
  (void)x;
  (void)port;
  return 0;
}

int xenevtchn_unmask(xenevtchn_handle* x, evtchn_port_t port) {
  (void)x;
  (void)port;
  return 0;
}

/* -- grant tables: no page is really shared with a guest ------------------------------------------
 */

xengnttab_handle* xengnttab_open(xentoollog_logger* logger, unsigned flags) {
  (void)logger;
  (void)flags;
  return (xengnttab_handle*)&handle;
}

int xengnttab_close(xengnttab_handle* x) {
  (void)x;
  return 0;
}

int xengnttab_set_max_grants(xengnttab_handle* x, uint32_t count) {
  (void)x;
  (void)count;
  return 0;
}

void* xengnttab_map_grant_ref(xengnttab_handle* x, uint32_t domid, uint32_t ref, int prot) {
  (void)x;
  (void)domid;
  (void)ref;
  (void)prot;
  void* page = mmap(NULL, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return page == MAP_FAILED ? NULL : page;
}

int xengnttab_unmap(xengnttab_handle* x, void* start, uint32_t count) {
  (void)x;
  return munmap(start, (size_t)count * page_size);
}

/* -- domains ------------------------------------------------------------------------------------
 */

static int lives(uint32_t domid) {
  const char* directory = getenv("FAKEXEN_DOMS");
  char path[4096];
  snprintf(path, sizeof path, "%s/%u", directory ? directory : "/nonexistent", domid);
  return domid == 0 || access(path, F_OK) == 0;
}

xc_interface* xc_interface_open(xentoollog_logger* logger, xentoollog_logger* dombuild_logger,
                                unsigned flags) {
  (void)logger;
  (void)dombuild_logger;
  (void)flags;
  return (xc_interface*)&handle;
}

int xc_interface_close(xc_interface* x) {
  (void)x;
  return 0;
}

/* The first living domain from `first` on; another number than asked for means that `first` is
   gone. xenstored only ever asks for one. */
int xc_domain_getinfo(xc_interface* x, uint32_t first, unsigned count, xc_dominfo_t* info) {
  (void)x;
  if (count != 1)
    return -1;
  memset(info, 0, sizeof *info);
  info->running = 1;
  for (uint32_t i = first; i < first_reserved_domain; ++i)
    if (lives(i)) {
      info->domid = i;
      return 1;
    }
  info->domid = first + 1;
  return 1;
}

/* -- files of /proc/xen -------------------------------------------------------------------------
 */

static int file_of(const char* text, off_t size) {
  int fd = memfd_create("fakexen", MFD_CLOEXEC);
  size_t length = strlen(text);
  if (fd < 0 || ftruncate(fd, size) < 0 || pwrite(fd, text, length, 0) != (ssize_t)length)
    return -1;
  return fd;
}

int open(const char* path, int flags, ...) {
  if (strstr(path, "xsd_port"))
    return file_of("1\n", 2);
  if (strstr(path, "xsd_kva") || strstr(path, "xen/xenbus"))
    return file_of("", page_size);
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = va_arg(arguments, mode_t);
  va_end(arguments);
  return openat(AT_FDCWD, path, flags, mode);
}
