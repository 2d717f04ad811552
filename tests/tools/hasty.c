/* Prints what this process begins with, before its parent could change that: its place among those
   that are killed for memory, and how many descriptors it may have. Linked statically: no loader
   takes its time first. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

int main(void) {
  char text[128] = {0};
  struct rlimit most = {0, 0};
  int file = open("/proc/self/oom_score_adj", O_RDONLY);
  ssize_t size = file < 0 ? 0 : read(file, text, 64);
  if (size < 0 || getrlimit(RLIMIT_NOFILE, &most) != 0)
    return 1;
  size += snprintf(text + size, 32, "%lu\n", (unsigned long)most.rlim_cur);
  return write(STDOUT_FILENO, text, (size_t)size) == size ? 0 : 1;
}
