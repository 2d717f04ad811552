/* A guest that never answers: preload it (LD_PRELOAD) into qvmd. A request to shut down the domain
   named $FROZEN_GUEST waits for ever, as libvirt's does when a guest hangs; everything else, a
   destroy of the same domain included, is passed on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <libvirt/libvirt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int virDomainShutdown(virDomainPtr domain) {
  const char* frozen = getenv("FROZEN_GUEST");
  if (frozen && strcmp(virDomainGetName(domain), frozen) == 0)
    for (;;)
      pause();
  int (*real)(virDomainPtr);
  *(void**)&real = dlsym(RTLD_NEXT, "virDomainShutdown");
  return real(domain);
}
