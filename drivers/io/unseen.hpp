// Code of a child that shares our memory until it is another program: it makes system calls only,
// past everything that would take them for ours.
#pragma once

#define QVMD_UNSEEN __attribute__((no_sanitize("address", "thread", "undefined")))
