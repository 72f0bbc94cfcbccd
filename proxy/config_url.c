// Addresses: base URLs, proxies, listeners. Errors are static texts without the value: a URL may hold a password.
#include "config_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

bool sj_is_token(const char *text) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    if (!*text)
        return false;
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x80 || (!isalnum(c) && !strchr(others, c)))
            return false;
    }
    return true;
}

// 1..65535, or from 0 where allowed.
static bool parse_port(sj_slice text, int least, int *port) {
    if (text.n < 1 || text.n > 5)
        return false;
    int value = 0;
    for (size_t i = 0; i < text.n; i++) {
        if (!isdigit((unsigned char)text.p[i]))
            return false;
        value = value * 10 + (text.p[i] - '0');
    }
    *port = value;
    return value >= least && value <= 65535;
}

static bool is_ip(int family, const char *text) {
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(family, text, address) == 1;
}

static bool is_host_name(const char *host) {
    if (!*host || strlen(host) > 253)
        return false;
    for (const char *p = host; *p; p++) {
        unsigned char c = (unsigned char)*p;
        if (c >= 0x80 || (!isalnum(c) && c != '-' && c != '.' && c != '_'))
            return false;
    }
    return true;
}

// "host", "host:8080", "[::1]:8080": host without brackets; port stays as it is when none is written.
static const char *split_authority(sj_loader *loader, sj_slice text, char **host, int *port) {
    bool bracketed = text.n && text.p[0] == '[';
    const char *close = bracketed ? memchr(text.p, ']', text.n) : NULL;
    if (bracketed && !close)
        return "lacks the ']' of its IPv6 address";
    const char *from = bracketed ? text.p + 1 : text.p;
    const char *end = text.p + text.n;
    const char *after = bracketed ? close + 1 : memchr(text.p, ':', text.n);
    if (!after)
        after = end;
    if (after < end && *after != ':')
        return "has something between ']' and the port";
    if (!bracketed && after < end && memchr(after + 1, ':', (size_t)(end - after - 1)))
        return "writes an IPv6 address without brackets; write \"[::1]:8080\"";
    if (after < end && !parse_port((sj_slice){after + 1, (size_t)(end - after - 1)}, 1, port))
        return "has a port that is no number from 1 to 65535";
    *host = sj_config_copy(loader, (sj_slice){from, (size_t)((bracketed ? close : after) - from)});
    if (!*host)
        return "does not fit in memory";
    for (char *p = *host; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    if (**host == '\0')
        return "names no host";
    if (bracketed ? !is_ip(AF_INET6, *host) : !is_host_name(*host))
        return "has a host that is neither a name nor an address";
    return NULL;
}

static const char *check_path(const char *path) {
    for (; *path; path++) {
        unsigned char c = (unsigned char)*path;
        if (c == '?')
            return "has a query; that belongs in the upstream's `query`";
        if (c == '#')
            return "has a fragment ('#'); remove it";
        if (c <= ' ' || c >= 0x7f || strchr("\"<>\\^`{|}", c))
            return "has a character in its path that must be percent-encoded";
    }
    return NULL;
}

const char *sj_url_parse(sj_loader *loader, const char *text, sj_url *url) {
    bool tls = strncasecmp(text, "https://", 8) == 0;
    if (!tls && strncasecmp(text, "http://", 7) != 0)
        return "must begin with http:// or https://";
    const char *authority = text + (tls ? 8 : 7);
    size_t n = strcspn(authority, "/?#");
    // A password may itself hold a slash, so any '@' before the query is suspect.
    if (memchr(authority, '@', n))
        return "holds a user name or password; put the credential in api_key";
    int usual = tls ? 443 : 80;
    url->port = usual;
    const char *problem = split_authority(loader, (sj_slice){authority, n}, &url->host, &url->port);
    if (!problem)
        problem = check_path(authority + n);
    if (problem)
        return problem;
    const char *path = authority + n;
    size_t path_n = strlen(path);
    while (path_n && path[path_n - 1] == '/')
        path_n--;
    bool v6 = strchr(url->host, ':') != NULL;
    char origin[512], port[16] = "";
    if (url->port != usual)
        (void)snprintf(port, sizeof port, ":%d", url->port);
    (void)snprintf(origin, sizeof origin, "%s://%s%s%s%s", tls ? "https" : "http", v6 ? "[" : "", url->host,
                   v6 ? "]" : "", port);
    url->origin = sj_config_copy(loader, sj_slice_of(origin));
    url->path = sj_config_copy(loader, (sj_slice){path, path_n});
    return url->origin && url->path ? NULL : "does not fit in memory";
}

const char *sj_proxy_check(sj_loader *loader, const char *text) {
    static const char *const schemes[] = {"http://",    "https://",  "socks4://",
                                          "socks4a://", "socks5://", "socks5h://"};
    const char *rest = NULL;
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0)
            rest = text + strlen(schemes[i]);
    }
    if (!rest)
        return "must begin with http://, https://, socks4://, socks4a://, socks5:// or socks5h://";
    const char *at = strrchr(rest, '@');
    if (at)
        rest = at + 1;
    size_t n = strcspn(rest, "/?#");
    if (rest[n] != '\0' && strcmp(rest + n, "/") != 0)
        return "has a path; only scheme, host and port count";
    char *host;
    int port = 0;
    return split_authority(loader, (sj_slice){rest, n}, &host, &port);
}

// ---- listeners --------------------------------------------------------------------------------------------------------------

static const char *parse_unix(sj_loader *loader, const char *path, sj_listen *listen) {
    if (*path != '/')
        return "must name a whole path: \"unix:/run/stormjib.sock\"";
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return "has a path of more than 107 bytes, which no unix socket can have";
    listen->unix_path = sj_config_copy(loader, sj_slice_of(path));
    return listen->unix_path ? NULL : "does not fit in memory";
}

const char *sj_listen_parse(sj_loader *loader, const char *text, sj_listen *listen) {
    *listen = (sj_listen){0};
    if (strncmp(text, "unix:", 5) == 0)
        return parse_unix(loader, text + 5, listen);
    if (strstr(text, "://"))
        return "is no URL: write \"127.0.0.1:8080\"";
    const char *colon = strrchr(text, ':');
    if (!colon)
        return "lacks a port: write \"127.0.0.1:8080\"";
    if (colon == text)
        return "names no address: write \"0.0.0.0:8080\" for all of them, \"127.0.0.1:8080\" for this "
               "machine only";
    if (!parse_port(sj_slice_of(colon + 1), 0, &listen->port))
        return "has a port that is no number from 0 to 65535";
    sj_slice host = {text, (size_t)(colon - text)};
    bool bracketed = host.n > 2 && host.p[0] == '[' && host.p[host.n - 1] == ']';
    if (bracketed)
        host = (sj_slice){host.p + 1, host.n - 2};
    else if (memchr(host.p, ':', host.n))
        return "writes an IPv6 address without brackets: write \"[::1]:8080\"";
    if (!bracketed && sj_slice_equal_nocase(host, SJ_SLICE("localhost")))
        host = SJ_SLICE("127.0.0.1");
    listen->host = sj_config_copy(loader, host);
    if (!listen->host)
        return "does not fit in memory";
    if (!is_ip(bracketed ? AF_INET6 : AF_INET, listen->host))
        return "does not begin with an address of this machine: write it in numbers, as \"127.0.0.1:8080\", "
               "\"0.0.0.0:8080\" or \"[::1]:8080\"";
    return NULL;
}

bool sj_host_is_loopback(const char *host) {
    return strcmp(host, "localhost") == 0 || strcmp(host, "::1") == 0 ||
           (strncmp(host, "127.", 4) == 0 && is_ip(AF_INET, host));
}

bool sj_listen_is_loopback(const sj_listen *listen) {
    return listen->unix_path || sj_host_is_loopback(listen->host);
}
