/* A MODEL of a 32-bit Linux without the calls whose times have 32 bits. */
#include <sys/syscall.h>
#undef SYS_futex
#undef SYS_clock_gettime
