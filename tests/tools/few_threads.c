/* A host that lets a process have $FEW_THREADS threads at a time besides its first, as a limit on
   processes does: preload it (LD_PRELOAD). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

typedef int (*creator)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);

struct body {
  void* (*run)(void*);
  void* argument;
};

static atomic_long alive;

static void count_down(void* unused) {
  (void)unused;
  atomic_fetch_sub(&alive, 1);
}

static void* run(void* given) {
  struct body mine = *(struct body*)given;
  void* result = NULL;
  free(given);
  pthread_cleanup_push(count_down, NULL);
  result = mine.run(mine.argument);
  pthread_cleanup_pop(1);
  return result;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*entry)(void*),
                   void* argument) {
  creator real = (creator)dlsym(RTLD_NEXT, "pthread_create");
  const char* limit = getenv("FEW_THREADS");
  struct body* mine = malloc(sizeof *mine);
  long others = atomic_fetch_add(&alive, 1);
  if (!mine || (limit && others >= atol(limit))) {
    atomic_fetch_sub(&alive, 1);
    free(mine);
    return EAGAIN;
  }
  *mine = (struct body){entry, argument};
  int problem = real(thread, attributes, run, mine);
  if (problem) {
    atomic_fetch_sub(&alive, 1);
    free(mine);
  }
  return problem;
}
