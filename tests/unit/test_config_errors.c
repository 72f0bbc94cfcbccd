// What a bad configuration is told: what is wrong, where, what to do; and never a secret.
#include "config_text.h"

#include <sys/stat.h>
#include <unistd.h>

#define UP "upstreams = { a = { base_url = \"http://h/v1\"; }; };\n"
#define IN_UP(text) "upstreams = { a = { base_url = \"http://h/v1\"; " text " }; };"
#define URL(text) "upstreams = { a = { base_url = \"" text "\"; }; };"
#define ROUTE(text) UP "routes = ( { " text " } );"

typedef struct row {
    const char *text, *said; // said begins a line of the error
} row;

static const row rows[] = {
    // the text
    {"listen = ", "t.conf:1: a key without a value"},
    {UP "listen = ;\n", "t.conf:2: a key without a value"},
    {UP "labels\n\nforwarded = true;", "t.conf:2: a name without '=' and a value behind it"},
    {UP "labels = true 5;", "t.conf:2: syntax error"},
    {UP "a = \"never closed;\nb = 1;\n", "t.conf:2: the string that begins here is never closed"},
    {UP "/* never closed\n\n", "t.conf:2: the comment that begins in line 2 is never closed"},
    {UP "retry = {\n cap = \"8s\";\n", "t.conf:2: the '{' of this line is never closed"},
    {UP "}\n", "t.conf:2: '}' without a '{' before it"},
    {UP "listen = [ \"127.0.0.1:1\" );\n", "t.conf:2: ')' does not close the '[' of line 2"},
    {UP "listen = [ \"127.0.0.1:1\", ];", "t.conf:2: a comma right before ']'; remove it"},
    {UP "listen = [ \"127.0.0.1:1\", 4 ];", "t.conf:2: mismatched element type in array"},
    {UP "deadline = 5s;",
     "t.conf:2: a text that is not in quotes, or no number; a duration is written \"5s\""},
    {UP "deadline = fast;", "t.conf:2: a text that is not in quotes"},
    {UP "\"deadline\" = \"5s\";", "t.conf:2: a key is written without quotes"},
    {UP "retry.cap = \"5s\";", "t.conf:2: a dot cannot stand in a key; open a group"},
    {UP "= 4;", "t.conf:2: '=' without a key"},
    {UP "\x01", "t.conf:2: byte 0x01 cannot stand here"},
    {UP "$ = 4;", "t.conf:2: '$' cannot stand here"},
    {UP "((((((((((((((((((((((((((((((((((", "t.conf:2: more than 32 nested brackets"},
    {UP "deadline = \"1s\";\n# x\ndeadline = \"2s\";",
     "t.conf:4: key 'deadline' stands here a second time (first in line 2)"},
    {"upstreams = { a = { base_url = \"http://h\"; };\n a = { base_url = \"http://h\"; }; };",
     "t.conf:2: key 'a' stands here a second time (first in line 1)"},
    {UP "workers = 3000000000;", "t.conf:2: a whole number that does not fit in 32 bits; put an L behind it"},
    {UP "workers = 99999999999999999999L;", "t.conf:2: a whole number that does not fit in 64 bits"},
    {UP "workers = 0xfffffffff;", "t.conf:2: a whole number that does not fit in 32 bits"},
    {UP "@include \"x.conf\"\n", "t.conf:2: @include works in files only"},
    // keys
    {"", "t.conf: key 'upstreams': is missing in the top level"},
    {UP "wokers = 1;", "t.conf:2: key 'wokers': unknown key; did you mean 'workers'?"},
    {UP "retry = { max_atempts = 1; };",
     "t.conf:2: key 'retry.max_atempts': unknown key; did you mean 'max_attempts'?"},
    {UP "stream = \"live\";", "t.conf:2: key 'stream': unknown in the top level; it belongs in a route"},
    {IN_UP("deadlin = \"1s\";"), "t.conf:1: key 'upstreams.a.deadlin': unknown key; did you mean 'deadline', "
                                 "which belongs in the top level?"},
    {UP "zzzzzzzz = 1;",
     "t.conf:2: key 'zzzzzzzz': unknown key; `stormjib config` lists those that the top level has"},
    {ROUTE("chain = \"a\"; breaker = { window = \"1s\"; };"),
     "t.conf:2: key 'routes[0].breaker': cannot stand here: a breaker belongs to a target"},
    {ROUTE("chain = \"a\"; budget = { };"), "t.conf:2: key 'routes[0].budget': cannot stand here"},
    {ROUTE("chain = \"a\"; queue = { };"), "t.conf:2: key 'routes[0].queue': cannot stand here"},
    // types and ranges
    {UP "retry = { cap = 8; };", "t.conf:2: key 'retry.cap': 8 is not a duration; write \"8s\""},
    {UP "retry = { cap = \"8\"; };", "t.conf:2: key 'retry.cap': \"8\" is not a duration; write \"8s\""},
    {UP "retry = { cap = 1.5; };", "t.conf:2: key 'retry.cap': 1.5 is not a duration; write \"1.5s\""},
    {UP "retry = { cap = -8; };", "t.conf:2: key 'retry.cap': -8 is not a duration; write for example"},
    {UP "retry = { cap = \"8 sec\"; };",
     "t.conf:2: key 'retry.cap': \"8 sec\" is not a duration; write for example \"500ms\""},
    {UP "retry = { cap = \"0s\"; };", "t.conf:2: key 'retry.cap': \"0s\" is out of range: 1ms to 24h"},
    {UP "retry = 5;", "t.conf:2: key 'retry': is not a group; write { key = value; }"},
    {UP "retry = ( );", "t.conf:2: key 'retry': is not a group"},
    {UP "retry = { strategy = \"full\"; };",
     "t.conf:2: key 'retry.strategy': \"full\" is none of \"fixed\", \"linear\""},
    {UP "retry = { jitter = 1.1; };", "t.conf:2: key 'retry.jitter': 1.1 is out of range: 0 to 1"},
    {UP "retry = { jitter = 1e999; };",
     "t.conf:2: key 'retry.jitter': inf is not a number; write a finite one"},
    {UP "retry = { exponential_base = 0.5; };",
     "t.conf:2: key 'retry.exponential_base': 0.5 is out of range: 1 to 100"},
    {UP "retry = { max_attempts = 0; };", "t.conf:2: key 'retry.max_attempts': 0 is out of range: 1 to 100"},
    {UP "retry = { max_attempts = 2.0; };",
     "t.conf:2: key 'retry.max_attempts': 2 is not a whole number; write 5"},
    {UP "retry = { statuses = [ \"200\" ]; };",
     "t.conf:2: key 'retry.statuses[0]': \"200\" is no status from 400 to 599"},
    {UP "retry = { statuses = [ \"5xx\" ]; };", "t.conf:2: key 'retry.statuses[0]': \"5xx\" is no status"},
    {UP "retry = { statuses = [ \"504-502\" ]; };",
     "t.conf:2: key 'retry.statuses[0]': \"504-502\" is no status"},
    {UP "retry = { statuses = [ 5000000000L ]; };",
     "t.conf:2: key 'retry.statuses[0]': 5000000000 is no status"},
    {UP "retry = { error_codes = [ \"\" ]; };", "t.conf:2: key 'retry.error_codes[0]': \"\" is empty"},
    {UP "breaker = { success_threshold = 0; };",
     "t.conf:2: key 'breaker.success_threshold': 0 is out of range"},
    {UP "breaker = { half_open_max_calls = 0; };",
     "t.conf:2: key 'breaker.half_open_max_calls': 0 is out of range: 1 to 64"},
    {UP "breaker = { recovery_timeout = \"400s\"; };",
     "t.conf:2: key 'breaker.recovery_timeout': recovery_cap is shorter"},
    {IN_UP("breaker = { recovery_cap = \"9s\"; };"),
     "t.conf:1: key 'upstreams.a.breaker.recovery_cap': recovery_cap is shorter"},
    {UP "labels = 1;", "t.conf:2: key 'labels': 1 is not a boolean; write true or false"},
    {UP "labels = \"true\";", "t.conf:2: key 'labels': \"true\" is not a boolean"},
    {UP "max_body = 1048576;", "t.conf:2: key 'max_body': 1048576 is not a size; write \"1048576B\""},
    {UP "max_body = \"64m\";",
     "t.conf:2: key 'max_body': \"64m\" is not a size; write for example \"512KiB\""},
    {UP "max_body = \"99999999999GiB\";", "t.conf:2: key 'max_body': \"99999999999GiB\" is not a size"},
    {UP "max_body = \"1TiB\";", "t.conf:2: key 'max_body': \"1TiB\" is not a size"},
    {UP "max_body = \"1000GiB\";", "t.conf:2: key 'max_body': \"1000GiB\" is out of range: 1KiB to 64GiB"},
    {UP "workers = [ 1 ];", "t.conf:2: key 'workers': an array [ ... ] is not a whole number"},
    {UP "seed = -1;", "t.conf:2: key 'seed': -1 is out of range: at least 0"},
    {UP "client_keys = [ ];", "t.conf:2: key 'client_keys': is empty; give at least 1, or leave the key out"},
    {UP "client_keys = { };", "t.conf:2: key 'client_keys': a group { ... } is not an array"},
    {UP "prices = ( { model = \"x\"; } );", "t.conf:2: key 'prices[0].input': is missing in prices"},
    {UP "prices = ( { model = \"x\"; input = -1; output = 1; } );",
     "t.conf:2: key 'prices[0].input': -1 is out of range"},
    {UP "prices = [ ];", "t.conf:2: key 'prices': write ( { ... }, { ... } )"},
    {UP "deadline = \"1\\x01s\";", "t.conf:2: key 'deadline': \"1?s\" is not a duration"},
    // listeners
    {UP "listen = \":8080\";",
     "t.conf:2: key 'listen': the address names no address: write \"0.0.0.0:8080\""},
    {UP "listen = \"8080\";", "t.conf:2: key 'listen': the address lacks a port"},
    {UP "listen = 8080;", "t.conf:2: key 'listen': 8080 is not a text"},
    {UP "listen = \"127.0.0.1:65536\";", "t.conf:2: key 'listen': the address has a port that is no number"},
    {UP "listen = \"127.0.0.1:\";", "t.conf:2: key 'listen': the address has a port that is no number"},
    {UP "listen = \"::1:8080\";",
     "t.conf:2: key 'listen': the address writes an IPv6 address without brackets"},
    {UP "listen = \"http://127.0.0.1:8080\";", "t.conf:2: key 'listen': the address is no URL"},
    {UP "listen = \"example.com:80\";",
     "t.conf:2: key 'listen': the address does not begin with an address of this machine"},
    {UP "listen = \"256.0.0.1:80\";", "t.conf:2: key 'listen': the address does not begin with"},
    {UP "listen = \"unix:run\";", "t.conf:2: key 'listen': the address must name a whole path"},
    {UP "listen = [ \"127.0.0.1:1\", \"127.0.0.1:1\" ];",
     "t.conf:2: key 'listen': the address stands there twice"},
    {UP "admin = \"0.0.0.0:8081\";",
     "t.conf:2: key 'admin': is reachable from other machines; set admin_token"},
    {UP "admin = \"127.0.0.1:8080\";", "t.conf:2: key 'admin': is the same address as listen"},
    // upstreams
    {"upstreams = { };", "t.conf:1: key 'upstreams': 0 entries; 1 to 256"},
    {"upstreams = ( );", "t.conf:1: key 'upstreams': write { name = { ... }; }"},
    {"upstreams = { a = 1; };", "t.conf:1: key 'upstreams.a': is not a group"},
    {"upstreams = { a*b = { base_url = \"http://h\"; }; };",
     "t.conf:1: key 'upstreams.a*b': '*' cannot stand in an upstream's name"},
    {"upstreams = { a = { }; };", "t.conf:1: key 'upstreams.a.base_url': is missing in an upstream"},
    {URL(""), "t.conf:1: key 'upstreams.a.base_url': \"\" is empty"},
    {URL("ftp://h"), "t.conf:1: key 'upstreams.a.base_url': the URL must begin with http:// or https://"},
    {URL("h/v1"), "t.conf:1: key 'upstreams.a.base_url': the URL must begin with"},
    {URL("https://"), "t.conf:1: key 'upstreams.a.base_url': the URL names no host"},
    {URL("https:///v1"), "t.conf:1: key 'upstreams.a.base_url': the URL names no host"},
    {URL("https://h:0/"),
     "t.conf:1: key 'upstreams.a.base_url': the URL has a port that is no number from 1 to 65535"},
    {URL("https://h:99999"), "t.conf:1: key 'upstreams.a.base_url': the URL has a port"},
    {URL("https://h:x"), "t.conf:1: key 'upstreams.a.base_url': the URL has a port"},
    {URL("https://user:secret-pw@h/"),
     "t.conf:1: key 'upstreams.a.base_url': the URL holds a user name or password"},
    {URL("https://h/v1?key=secret-pw"),
     "t.conf:1: key 'upstreams.a.base_url': the URL has a query; that belongs in the upstream's `query`"},
    {URL("https://h/v1#secret-pw"), "t.conf:1: key 'upstreams.a.base_url': the URL has a fragment"},
    {URL("https://h/a b"), "t.conf:1: key 'upstreams.a.base_url': the URL has a character in its path"},
    {URL("https://h h/"), "t.conf:1: key 'upstreams.a.base_url': the URL has a host that is neither"},
    {URL("https://[::1/"), "t.conf:1: key 'upstreams.a.base_url': the URL lacks the ']'"},
    {URL("https://[zz]/"), "t.conf:1: key 'upstreams.a.base_url': the URL has a host that is neither"},
    {URL("https://::1/"),
     "t.conf:1: key 'upstreams.a.base_url': the URL writes an IPv6 address without brackets"},
    {URL("http://localhost:8080/v1"),
     "t.conf:1: key 'upstreams.a.base_url': points at this proxy's own listener"},
    {IN_UP("auth = \"key\";"), "t.conf:1: key 'upstreams.a.auth': \"key\" needs an api_key"},
    {IN_UP("auth = \"none\"; api_key = \"secret-pw\";"),
     "t.conf:1: key 'upstreams.a.auth': contradicts the api_key"},
    {IN_UP("api_key = \"secret-pw\"; api_keys = [ \"secret-pw\" ];"),
     "t.conf:1: key 'upstreams.a.api_keys': stands beside api_key"},
    {IN_UP("api_key = \"\";"), "t.conf:1: key 'upstreams.a.api_key': the value is empty"},
    {IN_UP("api_key = \"${secret-pw\";"),
     "t.conf:1: key 'upstreams.a.api_key': a variable stands for a whole value"},
    {IN_UP("api_key = \"Bearer ${T_KEY}\";"),
     "t.conf:1: key 'upstreams.a.api_key': a variable stands for a whole value"},
    {IN_UP("api_key = \"${T_UNSET}\";"),
     "t.conf:1: key 'upstreams.a.api_key': the environment variable T_UNSET is not set"},
    {IN_UP("api_key = \"${T_EMPTY}\";"),
     "t.conf:1: key 'upstreams.a.api_key': the environment variable T_EMPTY is empty"},
    {IN_UP("api_key = \"${T_LINES}\";"),
     "t.conf:1: key 'upstreams.a.api_key': the value of ${T_LINES} contains a line end"},
    {IN_UP("api_key = \"secret-pw\\n\";"),
     "t.conf:1: key 'upstreams.a.api_key': the value contains a line end"},
    {IN_UP("api_key = 12345678;"), "t.conf:1: key 'upstreams.a.api_key': the value is not a text"},
    {IN_UP("auth = \"sk-secret-pw\";"), "t.conf:1: key 'upstreams.a.auth': the value is none of \"key\""},
    {IN_UP("auth = \"${T_SECRET}\";"),
     "t.conf:1: key 'upstreams.a.auth': the value of ${T_SECRET} is none of"},
    {IN_UP("api_key = secret-pw;"), "t.conf:1: a text that is not in quotes"},
    {IN_UP("api_key = 12secret-pw;"), "t.conf:1: a text that is not in quotes"},
    {IN_UP("api_key_prefix = \"Bearer ${T_KEY}\";"),
     "t.conf:1: key 'upstreams.a.api_key_prefix': a variable stands for"},
    {"SOME_KEY=sk-secret-pw\n", "t.conf:1: a text that is not in quotes"},
    {"sk-secret-pw\n", "t.conf:1: a name without '='"},
    {IN_UP("api_key_header = \"a b\";"),
     "t.conf:1: key 'upstreams.a.api_key_header': is not a header's name"},
    {IN_UP("headers = { Host = \"x\"; };"),
     "t.conf:1: key 'upstreams.a.headers': 'Host' is a header that the proxy or the client sets"},
    {IN_UP("headers = { a = \"x\"; A = \"y\"; };"),
     "t.conf:1: key 'upstreams.a.headers': 'A' stands there twice"},
    {IN_UP("headers = { x = \"secret-pw\\r\\nb: c\"; };"),
     "t.conf:1: key 'upstreams.a.headers.x': the value contains a line end"},
    {IN_UP("headers = { x = 1; };"), "t.conf:1: key 'upstreams.a.headers.x': the value is not a text"},
    {IN_UP("headers = ( { name = \"a b\"; value = \"c\"; } );"),
     "t.conf:1: key 'upstreams.a.headers': 'a b' is not a header's name"},
    {IN_UP("headers = ( { name = \"a\"; valu = \"c\"; } );"),
     "t.conf:1: key 'upstreams.a.headers[0]': write { name"},
    {IN_UP("headers = [ \"a: b\" ];"),
     "t.conf:1: key 'upstreams.a.headers': is not a list of names with values"},
    {IN_UP("query = \"a=secret-pw\";"),
     "t.conf:1: key 'upstreams.a.query': is not a list of names with values"},
    {IN_UP("api_key = \"k\"; headers = { authorization = \"secret-pw\"; };"),
     "t.conf:1: key 'upstreams.a.headers': 'authorization' carries the api_key already"},
    {IN_UP("proxy = \"h:3128\";"), "t.conf:1: key 'upstreams.a.proxy': the proxy's URL must begin with"},
    {IN_UP("proxy = \"http://u:secret-pw@h:0\";"),
     "t.conf:1: key 'upstreams.a.proxy': the proxy's URL has a port"},
    {IN_UP("ca_file = \"/nonexistent/ca.pem\";"),
     "t.conf:1: key 'upstreams.a.ca_file': the file cannot be read"},
    {IN_UP("max_concurrent = 0;"),
     "t.conf:1: key 'upstreams.a.max_concurrent': 0 is out of range: 1 to 1000000"},
    {IN_UP("context = ( { model = \"x\"; } );"), "t.conf:1: key 'upstreams.a.context[0].tokens': is missing"},
    // routes
    {UP "routes = ( );", "t.conf:2: key 'routes': 0 entries; 1 to 1000"},
    {UP "routes = ( 4 );", "t.conf:2: key 'routes[0]': is not a group"},
    {ROUTE("model = \"x\";"), "t.conf:2: key 'routes[0].chain': is missing in a route"},
    {ROUTE("chain = [ ];"), "t.conf:2: key 'routes[0].chain': is empty; give at least 1"},
    {ROUTE("chain = [ \"b\" ];"), "t.conf:2: key 'routes[0].chain[0]': \"b\" names no upstream; write "
                                  "\"upstream/model\" or \"upstream\" with one of: a"},
    {ROUTE("chain = [\n\"a\",\n\"zz/m\"\n]\n;"),
     "t.conf:4: key 'routes[0].chain[1]': \"zz/m\" names no upstream"},
    {ROUTE("chain = \"${T_SECRET}\";"), "t.conf:2: key 'routes[0].chain': \"${T_SECRET}\" names no upstream"},
    {ROUTE("chain = [ \"a/\" ];"), "t.conf:2: key 'routes[0].chain[0]': \"a/\" names an empty model"},
    {ROUTE("chain = [ \"a/gpt*\" ];"), "t.conf:2: key 'routes[0].chain[0]': \"a/gpt*\" names a pattern"},
    {ROUTE("chain = [ \"a/m\", \"a\", \"a/m\" ];"),
     "t.conf:2: key 'routes[0].chain[2]': \"a/m\" stands there twice"},
    {ROUTE("chain = [ \"\" ];"), "t.conf:2: key 'routes[0].chain[0]': \"\" is empty"},
    {ROUTE("chain = \"a\"; path = \"v1\";"), "t.conf:2: key 'routes[0].path': matches no path"},
    {ROUTE("chain = \"a\"; keepalive = \"5ms\";"), "t.conf:2: key 'routes[0].keepalive': is shorter than 1s"},
    {"upstreams = { a = { base_url = \"http://h\"; }; b = { base_url = \"http://h\"; }; };",
     "t.conf: key 'routes': is missing; with several upstreams"},
};

static bool begins_a_line(const char *text, const char *said) {
    for (const char *at = strstr(text, said); at; at = strstr(at + 1, said)) {
        if (at == text || at[-1] == '\n')
            return true;
    }
    return false;
}

static void test_rows(void **state) {
    (void)state;
    (void)setenv("T_KEY", "k", 1);
    (void)setenv("T_SECRET", "secret-pw", 1);
    (void)setenv("T_EMPTY", "", 1);
    (void)setenv("T_LINES", "secret-pw\r\n", 1);
    (void)unsetenv("T_UNSET");
    int wrong = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        sj_config *config = load_text(rows[i].text);
        bool as_said = !config && rows[i].said[0] && begins_a_line(said_error, rows[i].said);
        if (!as_said)
            print_error("%s\n-> %s\nwanted %s\n", rows[i].text, said_error, rows[i].said);
        wrong += !as_said;
        sj_config_unref(&config);
        assert_null(strstr(said_error, "secret-pw"));
        assert_null(strstr(said_warnings, "secret-pw"));
    }
    assert_int_equal(wrong, 0);
}

static void test_all_at_once_in_bounds(void **state) {
    (void)state;
    sj_config *config = load_text(
        UP "wokers = 1;\nretry = { cap = 8; };\nlisten = \":1\";\nroutes = ( { chain = \"b\"; } );");
    assert_null(config);
    assert_true(begins_a_line(said_error, "t.conf:2: ") && begins_a_line(said_error, "t.conf:3: ") &&
                begins_a_line(said_error, "t.conf:4: ") && begins_a_line(said_error, "t.conf:5: "));
    sj_buffer many = sj_buffer_with_max(1 << 20);
    assert_true(sj_buffer_text(&many, UP));
    for (int i = 0; i < 500; i++)
        assert_true(sj_buffer_printf(&many, "zzzzzzzz%d = 1;\n", i));
    assert_null(load_bytes(sj_buffer_slice(&many)));
    assert_non_null(strstr(said_error, "zzzzzzzz98"));
    assert_null(strstr(said_error, "zzzzzzzz100 "));
    assert_true(begins_a_line(said_error, "... and more"));
    // A buffer without room loses the text, not the verdict.
    sj_buffer nothing = sj_buffer_with_max(0), too = nothing;
    assert_false(sj_config_load_text(sj_buffer_slice(&many), "t.conf", NULL, &config, &nothing, &too));
    sj_buffer_clear(&many);
    for (int i = 0; i < SJ_CONFIG_MAX_SETTINGS + 1; i++)
        assert_true(sj_buffer_printf(&many, "a%d=1;", i));
    assert_null(load_bytes(sj_buffer_slice(&many)));
    assert_non_null(strstr(said_error, "more than 20000 settings"));
    sj_buffer_free(&many);
}

static void test_warnings(void **state) {
    (void)state;
    static const row warned[] = {
        {IN_UP("api_key = \"secret-pw\";"),
         "warning: t.conf:1: key 'upstreams.a.api_key': the secret stands in the file"},
        {URL("http://h/v1/chat/completions"),
         "warning: t.conf:1: key 'upstreams.a.base_url': ends in an endpoint's own path"},
        {UP "retry = { base = \"9s\"; };", "warning: t.conf:2: key 'retry.cap': is shorter than base"},
        {UP "retry = { min = \"9s\"; };", "warning: t.conf:2: key 'retry.min': is longer than cap"},
        {UP "budget = { capacity = 3; };",
         "warning: t.conf:2: key 'budget.capacity': is less than one retry_cost"},
        {UP "routes = ( { chain = \"a\"; },\n { model = \"x\"; chain = \"a\"; } );",
         "warning: t.conf:3: key 'routes[1]': is never reached"},
        {UP "listen = \"0.0.0.0:8080\";",
         "warning: t.conf:2: key 'listen': is reachable from other machines"},
        // Accepted, and of no effect where they stand.
        {IN_UP("api_key_header = \"api-key\";"),
         "warning: t.conf:1: key 'upstreams.a.api_key_header': has no effect: there is no api_key"},
        {IN_UP("api_keys = [ \"k\", \"l\", \"k\" ];"),
         "warning: t.conf:1: key 'upstreams.a.api_keys': has the same key at places 1 and 3"},
        {"upstreams = { a = { base_url = \"http://h/v1\"; };\n b = { base_url = \"http://i/v1\"; }; "
         "};\nroutes = ( { chain = \"a\"; } );",
         "warning: t.conf:2: key 'upstreams.b': is in no route's chain"},
        {IN_UP("ca_file = \"/dev/null\";"),
         "warning: t.conf:1: key 'upstreams.a.ca_file': has no effect: base_url is not https"},
        {IN_UP("prefill = true;") "routes = ( { chain = \"a\"; rescue = \"off\"; } );",
         "warning: t.conf:1: key 'upstreams.a.prefill': has no effect"},
        {UP "routes = ( { chain = \"a\"; drain_for = \"5s\"; } );",
         "warning: t.conf:2: key 'routes[0].drain_for': has no effect: on_client_gone is not \"drain\""},
        {UP "routes = ( { chain = \"a\"; fallback_on_refusal = true; } );",
         "warning: t.conf:2: key 'routes[0].fallback_on_refusal': has no effect"},
        {UP "routes = ( { chain = \"a\"; retry = { max_attempts_before_fallback = 3; }; } );",
         "warning: t.conf:2: key 'routes[0].retry.max_attempts_before_fallback': has no effect: the chain "
         "has one target"},
        {UP "retry = { jitter = 0.5; };",
         "warning: t.conf:2: key 'retry.jitter': has no effect: it is of strategy \"jitter\""},
        {UP "retry = { strategy = \"fixed\"; exponential_base = 3.0; };",
         "warning: t.conf:2: key 'retry.exponential_base': has no effect"},
        {UP "breaker = { enabled = false; window = \"30s\"; };",
         "warning: t.conf:2: key 'breaker': has no effect: enabled is false"},
        {UP "fallback_gate = \"5s\";",
         "warning: t.conf:2: key 'fallback_gate': has no effect: no chain has a second target"},
        {UP "sticky = { failures = 2; };", "warning: t.conf:2: key 'sticky': has no effect"},
        {UP "store = { max = \"1MiB\"; };",
         "warning: t.conf:2: key 'store': has no effect: no route has stale_if_error"},
        {UP "compare_prices = ( { model = \"*\"; input = 1; output = 1; } );",
         "warning: t.conf:2: key 'compare_prices': has no effect"},
        {UP "admin = \"\"; admin_token = \"${T_KEY}\";",
         "warning: t.conf:2: key 'admin_token': has no effect: admin is off"},
    };
    for (size_t i = 0; i < sizeof warned / sizeof *warned; i++) {
        sj_config *config = load_text(warned[i].text);
        assert_string_equal(said_error, "");
        if (!begins_a_line(said_warnings, warned[i].said))
            print_error("%s\n-> %s\n", warned[i].text, said_warnings);
        assert_true(begins_a_line(said_warnings, warned[i].said));
        assert_null(strstr(said_warnings, "secret-pw"));
        sj_config_unref(&config);
    }
}

// What is the default, or of use somewhere, is let pass.
static void test_no_warnings(void **state) {
    (void)state;
    static const char *const silent[] = {
        UP "retry = { jitter = 0.3; random_max = \"2s\"; };",
        UP "retry = { jitter = 0.5; };\nroutes = ( { chain = \"a\"; retry = { strategy = \"jitter\"; }; } );",
        UP "breaker = { enabled = false; };",
        UP "race = { after = \"5s\"; };",
        "upstreams = { a = { base_url = \"http://h/v1\"; }; };\nroutes = ( { chain = [ \"a\", \"a/m\" ]; "
        "race = { after = \"5s\"; }; } ); sticky = { failures = 2; };",
        UP "routes = ( { chain = \"a\"; stale_if_error = \"1h\"; on_client_gone = \"drain\"; drain_for = "
           "\"5s\"; } ); store = { max = \"1MiB\"; };",
    };
    for (size_t i = 0; i < sizeof silent / sizeof *silent; i++) {
        sj_config *config = load_text(silent[i]);
        assert_string_equal(said_error, "");
        assert_string_equal(said_warnings, "");
        sj_config_unref(&config);
    }
}

// ---- files ------------------------------------------------------------------------------------------------------------------

static char folder[] = "/tmp/sj-config-XXXXXX";

static const char *file(const char *name) {
    static char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text, size_t n) {
    FILE *out = fopen(file(name), "w");
    assert_non_null(out);
    assert_int_equal(fwrite(text, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

static void write_text(const char *name, const char *text) {
    write_file(name, text, strlen(text));
}

static void assert_file_says(const char *name, const char *said) {
    sj_config *config = load_file(file(name));
    assert_null(config);
    char wanted[512];
    (void)snprintf(wanted, sizeof wanted, "%s%s", folder, said);
    if (!begins_a_line(said_error, wanted))
        print_error("%s\n-> %s\nwanted %s\n", name, said_error, wanted);
    assert_true(begins_a_line(said_error, wanted));
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    static const char *const names[] = {"big",       "zero", "a.conf", "inc.conf",
                                        "loop.conf", "pipe", "deep",   "ca.pem"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        (void)unlink(file(names[i]));
    return rmdir(folder);
}

static void test_unreadable_files(void **state) {
    (void)state;
    assert_file_says("missing", "/missing: cannot be opened: No such file or directory");
    assert_file_says(".", "/.: is a directory");
    assert_int_equal(mkfifo(file("pipe"), 0600), 0);
    assert_file_says("pipe", "/pipe: is not a regular file");
    write_file("zero", UP "a\0b", strlen(UP) + 3);
    assert_file_says("zero", "/zero:2: a NUL byte: this is not a text file");
    write_text("big", UP);
    assert_int_equal(truncate(file("big"), 100 << 20), 0);
    assert_file_says("big", "/big: is larger than 4 MiB");
}

static void test_includes(void **state) {
    (void)state;
    write_text("a.conf", "\n@include \"inc.conf\"\ndeadline = \"1s\";\n");
    write_text("inc.conf", "# first\n" UP);
    sj_config *config = load_file(file("a.conf"));
    assert_string_equal(said_error, "");
    assert_int_equal(config->deadline_ms, 1000);
    sj_config_unref(&config);
    write_text("inc.conf", "# first\n" UP "labels = 3;\n");
    assert_file_says("a.conf", "/inc.conf:3: key 'labels': 3 is not a boolean");
    write_text("inc.conf", UP "deadline = \"2s\";\n");
    assert_file_says("a.conf", "/a.conf:3: key 'deadline' stands here a second time (first in ");
    write_text("inc.conf", UP "\nx = [ 1,\n ];\n");
    assert_file_says("a.conf", "/inc.conf:4: a comma right before ']'");
    write_text("a.conf", UP "@include \"nope.conf\"\n");
    assert_file_says("a.conf", "/nope.conf: cannot be opened");
    assert_true(strstr(said_error, "a.conf:2: it is included here") != NULL);
    write_text("a.conf", UP "@include \"pipe\"\n");
    assert_file_says("a.conf", "/pipe: is not a regular file");
    write_text("loop.conf", "@include \"loop.conf\"\n");
    assert_file_says("loop.conf", "/loop.conf:1: @include is nested more than 8 deep");
    write_text("a.conf", UP "@include inc.conf\n");
    assert_file_says("a.conf", "/a.conf:2: write @include \"file\"");
}

static void test_ca_file_beside_the_configuration(void **state) {
    (void)state;
    write_text("ca.pem", "x");
    write_text("a.conf", IN_UP("ca_file = \"ca.pem\";"));
    sj_config *config = load_file(file("a.conf"));
    assert_string_equal(said_error, "");
    assert_string_equal(config->upstreams[0].ca_file, file("ca.pem"));
    sj_config_unref(&config);
}

// A valid text with any prefix cut off must end in a verdict; so must one with any byte replaced.
static void test_cut_and_damaged(void **state) {
    (void)state;
    static const char text[] =
        "listen = [ \"127.0.0.1:1\" ];\n" UP
        "routes = ( { chain = [ \"a/m\" ]; retry = { cap = \"2s\"; statuses = [ 503 ]; }; } );\n"
        "prices = ( { model = \"m\"; input = 1.5; output = 2; } ); # end\n/* over */ seed = 12L;";
    size_t n = strlen(text);
    char damaged[sizeof text];
    for (size_t cut = 0; cut <= n; cut++) {
        sj_config *config = load_bytes((sj_slice){text, cut});
        sj_config_unref(&config);
    }
    static const char bytes[] = "\"{}[]();=,#/\\@\n0aL.\x80";
    for (size_t i = 0; i < n; i++) {
        memcpy(damaged, text, sizeof text);
        damaged[i] = bytes[i % (sizeof bytes - 1)];
        sj_config *config = load_bytes((sj_slice){damaged, n});
        sj_config_unref(&config);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_all_at_once_in_bounds),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_no_warnings),
        cmocka_unit_test(test_unreadable_files),
        cmocka_unit_test(test_includes),
        cmocka_unit_test(test_ca_file_beside_the_configuration),
        cmocka_unit_test(test_cut_and_damaged),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
