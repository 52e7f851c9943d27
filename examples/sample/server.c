/* A whole web server for a container that holds nothing else: one page, its version, a health answer.
 *
 * One process and one poll loop. SIGTERM and SIGINT arrive through a file descriptor, so that this also works as
 * process 1: requests that have begun are answered, idle connections are closed, and the exit code is 0. */

#include "system.h"

enum {
    MOST_CONNECTIONS = 1000,
    LONGEST_REQUEST = 8192,
    LONGEST_PAGE = 64 * 1024,
    LONGEST_VERSION = 200,
    SILENCE_MS = 60 * 1000,  /* then a kept-alive connection is closed */
    GOODBYE_MS = 2 * 1000,   /* how long we listen on after a refusal, so that the client can read it */
    LAST_WORDS_MS = 8 * 1000 /* after SIGTERM; container engines kill after 10 s */
};

struct text { const char *at; size length; };
#define TEXT(literal) ((struct text){literal, sizeof(literal) - 1})

/* A connection reads a request, writes an answer, and again; or says goodbye after a refusal. */
enum stage { FREE, READING, WRITING, LEAVING };

struct connection {
    enum stage stage;
    int fd, last;
    long active_ms;
    size have;
    struct piece answer[2]; /* head and body, what is left to write */
    char head[320];
    char request[LONGEST_REQUEST];
};

static struct connection connections[MOST_CONNECTIONS];
static struct polled polled[MOST_CONNECTIONS + 2];
static struct connection *owners[MOST_CONNECTIONS + 2];
static char source[LONGEST_PAGE], page[LONGEST_PAGE], version_line[LONGEST_VERSION + 2];
static struct text index_page, version;
static int stopping, places; /* places: how many of the connections have ever been used */

static size length_of(const char *s) {
    size n = 0;
    while (s[n]) n++;
    return n;
}

static int same(const char *a, const char *b, size length) {
    for (; length; length--, a++, b++)
        if (*a != *b) return 0;
    return 1;
}

static int is(struct text t, const char *s) { return t.length == length_of(s) && same(t.at, s, t.length); }

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

static void say(const char *s) { call(CALL_WRITE, 2, (long)s, (long)length_of(s), 0, 0); }

static __attribute__((noreturn)) void leave(int code) {
    for (;;) call(CALL_EXIT, code, 0, 0, 0, 0);
}

static __attribute__((noreturn)) void fail(const char *why, const char *what) {
    say("server: "), say(why), say(what), say("\n");
    leave(1);
}

static long now_ms(void) {
    struct moment t;
    call(CALL_CLOCK, 1, (long)&t, 0, 0, 0);
    return t.seconds * 1000 + t.nanoseconds / 1000000;
}

static char *append(char *to, struct text t) { return (char *)memcpy(to, t.at, t.length) + t.length; }

static char *append_number(char *to, size n) {
    char digits[20], *d = digits + sizeof digits;
    do *--d = (char)('0' + n % 10); while (n /= 10);
    return append(to, (struct text){d, (size)(digits + sizeof digits - d)});
}

/* What to serve. */

static size read_file(const char *folder, const char *name, char *into, size room) {
    char path[512];
    if (length_of(folder) + length_of(name) >= sizeof path) fail("path too long: ", folder);
    char *end = append(append(path, (struct text){folder, length_of(folder)}), (struct text){name, length_of(name)});
    *end = 0;
    long fd = call(CALL_OPENAT, AT_FDCWD_, (long)path, 0, 0, 0);
    if (fd < 0) fail("cannot open ", path);
    size have = 0;
    for (;;) {
        long got = call(CALL_READ, fd, (long)(into + have), (long)(room - have), 0, 0);
        if (got == INTERRUPTED) continue;
        if (got < 0) fail("cannot read ", path);
        if (got == 0) break;
        have += (size)got;
        if (have == room) fail("too large: ", path);
    }
    call(CALL_CLOSE, fd, 0, 0, 0, 0);
    return have;
}

static void load(const char *folder) {
    size length = read_file(folder, "/version.txt", version_line, LONGEST_VERSION);
    while (length && (unsigned char)version_line[length - 1] <= ' ') length--;
    version = (struct text){version_line, length};

    struct text place = TEXT("{{version}}");
    length = read_file(folder, "/index.html", source, sizeof source);
    char *to = page;
    for (size i = 0; i < length;) {
        int here = length - i >= place.length && same(source + i, place.at, place.length);
        struct text part = here ? version : (struct text){source + i, 1};
        if ((size)(page + sizeof page - to) < part.length) fail("too large with its version: ", folder);
        to = append(to, part);
        i += here ? place.length : 1;
    }
    index_page = (struct text){page, (size)(to - page)};
}

/* One request. */

static void drop(struct connection *c) {
    call(CALL_CLOSE, c->fd, 0, 0, 0, 0);
    c->stage = FREE;
}

static void answer(struct connection *c, const char *status, const char *type, struct text body, int with_body) {
    char *to = append(c->head, TEXT("HTTP/1.1 "));
    to = append(to, (struct text){status, length_of(status)});
    to = append(to, TEXT("\r\nContent-Type: "));
    to = append(to, (struct text){type, length_of(type)});
    to = append(to, TEXT("\r\nCache-Control: no-store\r\nContent-Length: "));
    to = append_number(to, body.length);
    to = append(to, c->last ? TEXT("\r\nConnection: close\r\n\r\n") : TEXT("\r\nConnection: keep-alive\r\n\r\n"));
    c->answer[0] = (struct piece){c->head, (size)(to - c->head)};
    c->answer[1] = (struct piece){body.at, with_body ? body.length : 0};
    c->stage = WRITING;
}

static void refuse(struct connection *c, const char *status) {
    c->last = 1;
    answer(c, status, "text/plain; charset=utf-8", TEXT("The sample cannot answer this request.\n"), 1);
}

/* The next word of a line, up to a space or the line's end. */
static struct text word(const char **at, const char *end) {
    const char *from = *at;
    while (*at < end && **at != ' ') ++*at;
    struct text found = {from, (size)(*at - from)};
    if (*at < end) ++*at;
    return found;
}

/* Whether a header line has this name, in any case; its value begins at *value. */
static int named(struct text line, const char *name, struct text *value) {
    size n = length_of(name);
    if (line.length <= n || line.at[n] != ':') return 0;
    for (size i = 0; i < n; i++)
        if (lower(line.at[i]) != name[i]) return 0;
    for (n++; n < line.length && (line.at[n] == ' ' || line.at[n] == '\t');) n++;
    *value = (struct text){line.at + n, line.length - n};
    return 1;
}

static int mentions(struct text value, const char *token) {
    size n = length_of(token);
    for (size i = 0; i + n <= value.length; i++) {
        size j = 0;
        while (j < n && lower(value.at[i + j]) == token[j]) j++;
        if (j == n) return 1;
    }
    return 0;
}

/* What the headers say about the connection. A request with a body is its last: we do not read bodies. */
static void heed_headers(struct connection *c, const char *at, const char *end, int old_protocol) {
    int close = 0, keep = !old_protocol;
    while (at < end) {
        const char *line_end = at;
        while (line_end < end && *line_end != '\r') line_end++;
        struct text line = {at, (size)(line_end - at)}, value;
        if (named(line, "connection", &value)) {
            close |= mentions(value, "close");
            keep |= mentions(value, "keep-alive");
        }
        if (named(line, "content-length", &value)) close |= !is(value, "0");
        if (named(line, "transfer-encoding", &value)) close = 1;
        at = line_end + 2;
    }
    c->last = close || !keep || stopping;
}

static void route(struct connection *c, struct text path, int with_body) {
    for (size i = 0; i < path.length; i++)
        if (path.at[i] == '?') path.length = i;
    const char *plain = "text/plain; charset=utf-8";
    if (is(path, "/") || is(path, "/index.html"))
        answer(c, "200 OK", "text/html; charset=utf-8", index_page, with_body);
    else if (is(path, "/health"))
        answer(c, "200 OK", plain, TEXT("ok"), with_body);
    else if (is(path, "/version"))
        answer(c, "200 OK", plain, version, with_body);
    else
        answer(c, "404 Not Found", plain, TEXT("There is nothing here.\n"), with_body);
}

/* Answer the request at the beginning of the buffer when all of its head is there. */
static void respond(struct connection *c) {
    size end = 0;
    while (end + 4 <= c->have && !same(c->request + end, "\r\n\r\n", 4)) end++;
    if (end + 4 > c->have) {
        if (c->have == sizeof c->request) refuse(c, "431 Request Header Fields Too Large");
        return;
    }
    const char *at = c->request, *line_end = at;
    while (*line_end != '\r') line_end++;
    struct text method = word(&at, line_end), path = word(&at, line_end), protocol = word(&at, line_end);
    int old_protocol = is(protocol, "HTTP/1.0");
    if (!method.length || !path.length || path.at[0] != '/' || at != line_end ||
        (!old_protocol && !is(protocol, "HTTP/1.1"))) {
        refuse(c, "400 Bad Request");
        return;
    }
    int head = is(method, "HEAD");
    heed_headers(c, line_end + 2, c->request + end + 2, old_protocol);
    if (!head && !is(method, "GET")) {
        refuse(c, "405 Method Not Allowed");
        return;
    }
    route(c, path, !head);
    size used = end + 4;
    c->have -= used;
    for (size i = 0; i < c->have; i++) c->request[i] = c->request[used + i];
}

/* Write what is left of the answer. Afterwards read the next request, or go. */
static void write_answer(struct connection *c) {
    while (c->answer[0].length + c->answer[1].length) {
        long wrote = call(CALL_WRITEV, c->fd, (long)c->answer, 2, 0, 0);
        if (wrote == INTERRUPTED) continue;
        if (wrote == TRY_AGAIN) return;
        if (wrote <= 0) {
            drop(c);
            return;
        }
        for (int i = 0; i < 2; i++) {
            size part = (size)wrote < c->answer[i].length ? (size)wrote : c->answer[i].length;
            c->answer[i].at = (const char *)c->answer[i].at + part;
            c->answer[i].length -= part;
            wrote -= (long)part;
        }
    }
    if (!c->last) {
        c->stage = READING;
        return;
    }
    /* Closing at once, with something unread, would take the answer back (RST). */
    call(CALL_SHUTDOWN, c->fd, HALF, 0, 0, 0);
    c->stage = LEAVING;
}

/* Requests that wait in the buffer, one after the other, as long as their answers can be written at once. */
static void serve(struct connection *c) {
    for (;;) {
        if (c->stage == READING) respond(c);
        if (c->stage != WRITING) return;
        write_answer(c);
        if (c->stage != READING) return;
    }
}

static void hear(struct connection *c) {
    char *into = c->stage == LEAVING ? c->request : c->request + c->have;
    long got = call(CALL_READ, c->fd, (long)into, (long)(c->request + sizeof c->request - into), 0, 0);
    if (got == INTERRUPTED || got == TRY_AGAIN) return;
    if (got <= 0) {
        drop(c);
        return;
    }
    if (c->stage != READING) return;
    c->active_ms = now_ms();
    c->have += (size)got;
    serve(c);
}

/* The whole server. */

static struct connection *free_place(void) {
    for (int i = 0; i < places; i++)
        if (connections[i].stage == FREE) return &connections[i];
    return places < MOST_CONNECTIONS ? &connections[places++] : 0;
}

static void accept_all(int listener) {
    struct connection *c;
    while ((c = free_place())) {
        long fd = call(CALL_ACCEPT, listener, 0, 0, NONBLOCKING, 0);
        if (fd < 0) return;
        int on = 1;
        call(CALL_SETSOCKOPT, fd, LEVEL_TCP, NO_DELAY, (long)&on, sizeof on);
        c->stage = READING;
        c->fd = (int)fd;
        c->have = 0;
        c->last = 0;
        c->active_ms = now_ms();
        hear(c);
    }
}

static long patience_ms(const struct connection *c) { return c->stage == LEAVING ? GOODBYE_MS : SILENCE_MS; }

/* Fill `polled` and `owners` behind the two that are always there. Says how many there are. */
static int gather(long now) {
    int count = 2;
    for (int i = 0; i < places; i++) {
        struct connection *c = &connections[i];
        if (c->stage == FREE) continue;
        int idle = c->stage == READING && c->have == 0;
        if (now - c->active_ms > patience_ms(c) || (stopping && (idle || c->stage == LEAVING))) {
            drop(c);
            continue;
        }
        polled[count] = (struct polled){c->fd, c->stage == WRITING ? WRITABLE : READABLE, 0};
        owners[count++] = c;
    }
    return count;
}

static int listen_on(unsigned port) {
    long fd = call(CALL_SOCKET, INTERNET, STREAM | NONBLOCKING, 0, 0, 0);
    int on = 1;
    call(CALL_SETSOCKOPT, fd, LEVEL_SOCKET, REUSE_ADDRESS, (long)&on, sizeof on);
    struct address any = {.family = INTERNET, .port = (unsigned short)(port >> 8 | (port & 255) << 8)};
    if (fd < 0 || call(CALL_BIND, fd, (long)&any, sizeof any, 0, 0) < 0 || call(CALL_LISTEN, fd, 1024, 0, 0, 0) < 0)
        fail("cannot listen on $PORT", "");
    return (int)fd;
}

static int signals(void) {
    unsigned long end = 1UL << (SIGNAL_TERMINATE - 1) | 1UL << (SIGNAL_INTERRUPT - 1);
    unsigned long held = end | 1UL << (SIGNAL_PIPE - 1); /* a client that went away is an error of write instead */
    call(CALL_SIGNAL_MASK, BLOCK, (long)&held, 0, sizeof held, 0);
    return (int)call(CALL_SIGNALFD, -1, (long)&end, sizeof end, NONBLOCKING, 0);
}

static void run(int listener, int signal_fd) {
    long deadline = 0;
    for (;;) {
        long now = now_ms();
        int count = gather(now);
        if (stopping && (count == 2 || now > deadline)) return;
        polled[0] = (struct polled){signal_fd, stopping ? 0 : READABLE, 0};
        polled[1] = (struct polled){!stopping && free_place() ? listener : -1, READABLE, 0};
        struct moment second = {1, 0};
        long found = call(CALL_POLL, (long)polled, count, (long)(count > 2 ? &second : 0), 0, 8);
        if (found <= 0) continue;
        for (int i = 2; i < count; i++) {
            if (!polled[i].found) continue;
            if (owners[i]->stage == WRITING) {
                if (polled[i].found & (FAILED | HUNG_UP)) drop(owners[i]);
                else write_answer(owners[i]), serve(owners[i]);
            } else {
                hear(owners[i]);
            }
        }
        if (polled[1].found) accept_all(listener);
        if (polled[0].found) {
            accept_all(listener); /* those that the kernel has already shaken hands with */
            call(CALL_CLOSE, listener, 0, 0, 0, 0);
            stopping = 1;
            deadline = now_ms() + LAST_WORDS_MS;
        }
    }
}

static unsigned port_from(char **environment) {
    unsigned port = 8080;
    for (; *environment; environment++) {
        if (!same(*environment, "PORT=", 5)) continue;
        const char *digit = *environment + 5;
        if (!*digit) continue;
        for (port = 0; *digit >= '0' && *digit <= '9' && port < 65536; digit++) port = port * 10 + (unsigned)(*digit - '0');
        if (*digit || !port || port > 65535) fail("not a port number: ", *environment);
    }
    return port;
}

/* The kernel leaves argc, argv and the environment on the stack. The folder to serve may be given as an argument. */
__attribute__((noreturn, used)) void start(long *stack) {
    char **arguments = (char **)(stack + 1);
    char **environment = arguments + stack[0] + 1;
    load(stack[0] > 1 ? arguments[1] : "/site");
    int signal_fd = signals();
    int listener = listen_on(port_from(environment));
    version_line[version.length] = 0;
    say("server: listening, version "), say(version_line), say("\n");
    run(listener, signal_fd);
    say("server: stopped\n");
    leave(0);
}
