/* The few Linux system calls the server makes, without a C library: the image holds one small binary and a page.
 *
 * Numbers: the kernel's include/uapi/asm-generic/unistd.h (aarch64) and arch/x86/entry/syscalls/syscall_64.tbl. */

#ifndef SYSTEM_H
#define SYSTEM_H

typedef unsigned long size;
typedef long ssize;

#if defined(__x86_64__)
enum {
    CALL_READ = 0, CALL_WRITE = 1, CALL_CLOSE = 3, CALL_SIGNAL_MASK = 14, CALL_WRITEV = 20, CALL_SOCKET = 41,
    CALL_SHUTDOWN = 48, CALL_BIND = 49, CALL_LISTEN = 50, CALL_SETSOCKOPT = 54, CALL_CLOCK = 228, CALL_EXIT = 231,
    CALL_OPENAT = 257, CALL_POLL = 271, CALL_ACCEPT = 288, CALL_SIGNALFD = 289
};

static long call(long number, long a, long b, long c, long d, long e) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}

__asm__(".text\n.globl _start\n_start:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call start\n");

#elif defined(__aarch64__)
enum {
    CALL_OPENAT = 56, CALL_CLOSE = 57, CALL_READ = 63, CALL_WRITE = 64, CALL_WRITEV = 66, CALL_POLL = 73,
    CALL_SIGNALFD = 74, CALL_EXIT = 94, CALL_CLOCK = 113, CALL_SIGNAL_MASK = 135, CALL_SOCKET = 198, CALL_BIND = 200,
    CALL_LISTEN = 201, CALL_SETSOCKOPT = 208, CALL_SHUTDOWN = 210, CALL_ACCEPT = 242
};

static long call(long number, long a, long b, long c, long d, long e) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}

__asm__(".text\n.globl _start\n_start:\n mov x29, #0\n mov x30, #0\n mov x0, sp\n bl start\n");

#else
#error "The sample knows x86_64 and aarch64."
#endif

/* Structures as the kernel has them on both. */
struct address { unsigned short family, port; unsigned int host; char rest[8]; };
struct piece { const void *at; size length; };
struct polled { int fd; short wanted, found; };
struct moment { long seconds, nanoseconds; };

enum {
    AT_FDCWD_ = -100, INTERNET = 2, STREAM = 1, NONBLOCKING = 04000, LEVEL_SOCKET = 1, REUSE_ADDRESS = 2,
    LEVEL_TCP = 6, NO_DELAY = 1, READABLE = 1, WRITABLE = 4, FAILED = 8, HUNG_UP = 16, HALF = 1, BLOCK = 0,
    SIGNAL_INTERRUPT = 2, SIGNAL_PIPE = 13, SIGNAL_TERMINATE = 15, TRY_AGAIN = -11, INTERRUPTED = -4
};

/* The compiler may call these two for copies and clears of its own. */
void *memcpy(void *to, const void *from, size length) {
    char *t = to;
    for (const char *f = from; length; length--) *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size length) {
    for (char *t = to; length; length--) *t++ = (char)value;
    return to;
}

#endif
