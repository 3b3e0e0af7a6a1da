//! Keywords of haproxy.cfg that carry nothing over, and why. Pure.

use super::super::findings::{Findings, Kind};
use super::section::Line;

struct Known {
    /// One keyword, or two.
    words: &'static str,
    kind: Kind,
    message: &'static str,
    remedy: &'static str,
}

const fn known(
    words: &'static str,
    kind: Kind,
    message: &'static str,
    remedy: &'static str,
) -> Known {
    Known { words, kind, message, remedy }
}

use Kind::{Changed, Needless, NotCarriedOver};

const NOTHING: &str = "nothing to do";
const HTTP: &str = "it is for HTTP, which Fairlead does not look into";
const NO_LOG: &str = "Fairlead logs no connections";
const COUNTERS: &str =
    "see `fairlead status --json` for counters, `fairlead events` for what happened";
/// Remedy for what HAProxy sends by mail.
pub(super) const MAIL: &str =
    "write `notify:` with a program or a webhook, for the events of kind `backend`";
const PROCESS: &str = "it is about HAProxy's own process";
const KERNEL: &str = "connections pass through the kernel; there is none of the balancer's own";
const RULES: &str = "Fairlead has no rules but source ranges and a rate for each client";
const USE_RULES: &str = "write `allow:` or `rate_limit:` in the service where it fits";
const STICKY: &str = "a connection stays on its backend; a client's next one may go elsewhere";
const PERSISTENCE: &str = "nothing to do for apiservers, which hold no sessions";
const FAIL: &str = "see `on_all_down` for what happens when no backend is up";

/// In `defaults`, `frontend`, `backend` and `listen` sections; two words go first.
const PROXY: &[Known] = &[
    known(
        "timeout connect",
        Changed,
        "a SYN that is not answered goes to another backend when the client repeats it",
        NOTHING,
    ),
    known("timeout queue", Needless, "Fairlead never queues", NOTHING),
    known("timeout http-request", Needless, HTTP, NOTHING),
    known("timeout http-keep-alive", Needless, HTTP, NOTHING),
    known("timeout tarpit", Needless, HTTP, NOTHING),
    known(
        "timeout client-fin",
        Changed,
        "`timeouts.half_closed` says when a half-closed connection is forgotten, 1h",
        NOTHING,
    ),
    known(
        "timeout server-fin",
        Changed,
        "`timeouts.half_closed` says when a half-closed connection is forgotten, 1h",
        NOTHING,
    ),
    known("timeout client-hs", Needless, "clients' TLS is not looked into", NOTHING),
    known("option tcplog", Needless, NO_LOG, COUNTERS),
    known("option httplog", Needless, NO_LOG, COUNTERS),
    known("option httpslog", Needless, NO_LOG, COUNTERS),
    known("option dontlognull", Needless, NO_LOG, COUNTERS),
    known("option dontlog-normal", Needless, NO_LOG, COUNTERS),
    known("option log-separate-errors", Needless, NO_LOG, COUNTERS),
    known("option logasap", Needless, NO_LOG, COUNTERS),
    known(
        "option log-health-checks",
        Changed,
        "state changes of backends are always logged",
        NOTHING,
    ),
    known(
        "option redispatch",
        Changed,
        "a SYN that is not answered goes to another backend",
        NOTHING,
    ),
    known("option tcpka", Needless, KERNEL, NOTHING),
    known("option clitcpka", Needless, KERNEL, NOTHING),
    known("option srvtcpka", Needless, KERNEL, NOTHING),
    known("option tcp-smart-accept", Needless, KERNEL, NOTHING),
    known("option tcp-smart-connect", Needless, KERNEL, NOTHING),
    known("option splice-auto", Needless, KERNEL, NOTHING),
    known("option splice-request", Needless, KERNEL, NOTHING),
    known("option splice-response", Needless, KERNEL, NOTHING),
    known("option nolinger", Needless, KERNEL, NOTHING),
    known("option abortonclose", Needless, KERNEL, NOTHING),
    known("option contstats", Needless, "Fairlead counts as packets pass", COUNTERS),
    known("option socket-stats", Needless, "Fairlead counts for each service", COUNTERS),
    known(
        "option independent-streams",
        Needless,
        "either direction keeps a connection known",
        NOTHING,
    ),
    known(
        "option transparent",
        NotCarriedOver,
        "it keeps the clients' addresses",
        "write `mode: dnat` or `mode: dsr` if the network is made for it",
    ),
    known("option persist", Needless, STICKY, PERSISTENCE),
    known("option prefer-last-server", Needless, STICKY, PERSISTENCE),
    known("option allbackups", Needless, "there are no backup servers", NOTHING),
    known("option forwardfor", Needless, HTTP, NOTHING),
    known("option http-server-close", Needless, HTTP, NOTHING),
    known("option http-keep-alive", Needless, HTTP, NOTHING),
    known("option httpclose", Needless, HTTP, NOTHING),
    known("option http-no-delay", Needless, HTTP, NOTHING),
    known("option http-ignore-probes", Needless, HTTP, NOTHING),
    known("option http-buffer-request", Needless, HTTP, NOTHING),
    known("option http-pretend-keepalive", Needless, HTTP, NOTHING),
    known("option http-use-htx", Needless, HTTP, NOTHING),
    known("option idle-close-on-response", Needless, HTTP, NOTHING),
    known("option originalto", Needless, HTTP, NOTHING),
    known("option accept-invalid-http-request", Needless, HTTP, NOTHING),
    known("option accept-invalid-http-response", Needless, HTTP, NOTHING),
    known("option checkcache", Needless, HTTP, NOTHING),
    known(
        "tcp-request inspect-delay",
        Needless,
        "Fairlead never waits for a connection's content",
        NOTHING,
    ),
    known("acl", NotCarriedOver, RULES, USE_RULES),
    known("tcp-request", NotCarriedOver, RULES, USE_RULES),
    known("tcp-response", NotCarriedOver, RULES, USE_RULES),
    known(
        "rate-limit",
        NotCarriedOver,
        "Fairlead limits each client, not all together",
        "write `rate_limit:` in the service",
    ),
    known("stick-table", NotCarriedOver, STICKY, PERSISTENCE),
    known("stick", NotCarriedOver, STICKY, PERSISTENCE),
    known("persist", NotCarriedOver, STICKY, PERSISTENCE),
    known("cookie", Needless, HTTP, NOTHING),
    known("hash-type", Changed, "new connections are spread by a Maglev table", NOTHING),
    known("hash-balance-factor", Changed, "new connections are spread by a Maglev table", NOTHING),
    known(
        "hash-preserve-affinity",
        Changed,
        "new connections are spread by a Maglev table",
        NOTHING,
    ),
    known(
        "maxconn",
        NotCarriedOver,
        "Fairlead has no limit for each service: `limits.flows` is for all",
        "write `rate_limit:` in the service to hold single clients back",
    ),
    known("fullconn", NotCarriedOver, "Fairlead never queues", NOTHING),
    known("backlog", Needless, KERNEL, NOTHING),
    known(
        "retries",
        Changed,
        "a SYN that is not answered goes to another backend when the client repeats it",
        NOTHING,
    ),
    known("retry-on", Needless, HTTP, NOTHING),
    known("log", Needless, NO_LOG, COUNTERS),
    known("log-format", Needless, NO_LOG, COUNTERS),
    known("log-format-sd", Needless, NO_LOG, COUNTERS),
    known("log-tag", Needless, NO_LOG, COUNTERS),
    known("error-log-format", Needless, NO_LOG, COUNTERS),
    known("capture", Needless, HTTP, NOTHING),
    known("declare", Needless, HTTP, NOTHING),
    known("http-request", Needless, HTTP, NOTHING),
    known("http-response", Needless, HTTP, NOTHING),
    known("http-after-response", Needless, HTTP, NOTHING),
    known("http-reuse", Needless, HTTP, NOTHING),
    known("http-error", Needless, HTTP, NOTHING),
    known("http-send-name-header", Needless, HTTP, NOTHING),
    known("compression", Needless, HTTP, NOTHING),
    known("redirect", Needless, HTTP, NOTHING),
    known("filter", Needless, HTTP, NOTHING),
    known("max-keep-alive-queue", Needless, HTTP, NOTHING),
    known("errorfile", Needless, HTTP, FAIL),
    known("errorfiles", Needless, HTTP, FAIL),
    known("errorloc", Needless, HTTP, FAIL),
    known("errorloc302", Needless, HTTP, FAIL),
    known("errorloc303", Needless, HTTP, FAIL),
    known(
        "monitor-uri",
        NotCarriedOver,
        "HAProxy answers it itself; Fairlead serves no pages",
        "ask `fairlead status` on the node",
    ),
    known(
        "monitor",
        NotCarriedOver,
        "HAProxy answers it itself; Fairlead serves no pages",
        "ask `fairlead status` on the node",
    ),
    known(
        "monitor-net",
        NotCarriedOver,
        "HAProxy answers it itself; Fairlead serves no pages",
        "ask `fairlead status` on the node",
    ),
    known("stats", NotCarriedOver, "Fairlead has no page of HAProxy's kind", COUNTERS),
    known("email-alert", NotCarriedOver, "Fairlead sends no mail", MAIL),
    known(
        "external-check",
        Changed,
        "Fairlead runs no programs as probes",
        "see the service's `health:`",
    ),
    known("description", Needless, "it is a description", NOTHING),
    known("enabled", Needless, "it is the default", NOTHING),
    known("id", Needless, "services have names only", NOTHING),
    known("guid", Needless, "services have names only", NOTHING),
    known("bind-process", Needless, PROCESS, NOTHING),
    known(
        "dispatch",
        NotCarriedOver,
        "HAProxy sends everything to one address, without a check",
        "write it as the only backend",
    ),
    known("server-state-file-name", Changed, "Fairlead adopts the states of its last run", NOTHING),
    known(
        "load-server-state-from-file",
        Changed,
        "Fairlead adopts the states of its last run",
        NOTHING,
    ),
    known("clitcpka-cnt", Needless, KERNEL, NOTHING),
    known("clitcpka-idle", Needless, KERNEL, NOTHING),
    known("clitcpka-intvl", Needless, KERNEL, NOTHING),
    known("srvtcpka-cnt", Needless, KERNEL, NOTHING),
    known("srvtcpka-idle", Needless, KERNEL, NOTHING),
    known("srvtcpka-intvl", Needless, KERNEL, NOTHING),
    known("unique-id-format", Needless, HTTP, NOTHING),
    known("unique-id-header", Needless, HTTP, NOTHING),
    known("use-fcgi-app", Needless, HTTP, NOTHING),
    known("use-server", NotCarriedOver, RULES, "every backend of a service takes every connection"),
    known("ignore-persist", Needless, STICKY, PERSISTENCE),
    known("force-persist", Needless, STICKY, PERSISTENCE),
];

/// In `global`; a name that ends with a dot or hyphen stands for all that begin so.
const GLOBAL: &[Known] = &[
    known(
        "stats",
        NotCarriedOver,
        "Fairlead has a socket of its own: `admin.socket`",
        "use `fairlead status` and the other commands",
    ),
    known("log", Needless, "Fairlead logs to the journal", NOTHING),
    known("log-send-hostname", Needless, "Fairlead logs to the journal", NOTHING),
    known("log-tag", Needless, "Fairlead logs to the journal", NOTHING),
    known(
        "maxconnrate",
        NotCarriedOver,
        "Fairlead limits each client, not all together",
        "write `rate_limit:` in the service",
    ),
    known(
        "maxsessrate",
        NotCarriedOver,
        "Fairlead limits each client, not all together",
        "write `rate_limit:` in the service",
    ),
    known("spread-checks", Changed, "probes are spread by 10 % always", NOTHING),
    known("server-state-file", Changed, "Fairlead adopts the states of its last run", NOTHING),
    known("server-state-base", Changed, "Fairlead adopts the states of its last run", NOTHING),
    known(
        "external-check",
        Changed,
        "Fairlead runs no programs as probes",
        "see the services' `health:`",
    ),
    known("insecure-fork-wanted", Needless, PROCESS, NOTHING),
    known("insecure-setuid-wanted", Needless, PROCESS, NOTHING),
    known("hard-stop-after", Needless, "connections outlive a restart of Fairlead", NOTHING),
    known("grace", Needless, "connections outlive a restart of Fairlead", NOTHING),
];

/// The same for the process itself.
const PROCESS_WORDS: [&str; 58] = [
    "51degrees-",
    "anonkey",
    "ca-base",
    "chroot",
    "close-spread-time",
    "cluster-secret",
    "cpu-map",
    "cpu-policy",
    "cpu-set",
    "crt-base",
    "daemon",
    "debug",
    "default-path",
    "description",
    "deviceatlas-",
    "expose-",
    "fd-hard-limit",
    "force-",
    "gid",
    "group",
    "h1-",
    "h2-",
    "harden.",
    "http-err-codes",
    "http-fail-codes",
    "httpclient.",
    "issuers-chain-path",
    "key-base",
    "limited-quic",
    "localpeer",
    "lua-",
    "master-worker",
    "max-spread-checks",
    "maxcompcpuusage",
    "maxcomprate",
    "maxpipes",
    "maxsslconn",
    "maxsslrate",
    "maxzlibmem",
    "mworker-",
    "nbproc",
    "nbthread",
    "no",
    "node",
    "numa-cpu-mapping",
    "pidfile",
    "pp2-",
    "presetenv",
    "profiling.",
    "quiet",
    "resetenv",
    "setcap",
    "setenv",
    "ssl-",
    "thread-",
    "tune.",
    "uid",
    "user",
];

/// A finding about a line of a proxy or of `defaults`; whether the keyword is known.
pub(crate) fn proxy(line: &Line, findings: &mut Findings) -> bool {
    let two = format!("{} {}", line.text(0), line.text(1));
    let one = line.text(0);
    let entry = PROXY.iter().find(|it| it.words == two).or_else(|| {
        let is_group = matches!(one, "option" | "timeout");
        PROXY.iter().find(|it| it.words == one).filter(|_| !is_group)
    });
    let Some(entry) = entry else { return false };
    findings.add(entry.kind, &line.keyword().at, subject(line, entry), entry.message, entry.remedy);
    true
}

/// The same about a line of `global`.
pub(crate) fn global(line: &Line, findings: &mut Findings) -> bool {
    let keyword = line.keyword();
    let text = keyword.text.as_str();
    if let Some(entry) = GLOBAL.iter().find(|it| it.words == text) {
        findings.add(entry.kind, &keyword.at, text, entry.message, entry.remedy);
        return true;
    }
    let is_process = PROCESS_WORDS.iter().any(|word| {
        let is_group = word.ends_with(['.', '-']);
        if is_group { text.starts_with(word) } else { text == *word }
    }) || matches!(
        text,
        "ulimit-n"
            | "unix-bind"
            | "unsetenv"
            | "zero-warning"
            | "busy-polling"
            | "strict-limits"
            | "wurfl-data-file"
            | "noepoll"
            | "nopoll"
            | "nosplice"
            | "noreuseport"
            | "nogetaddrinfo"
            | "shm-stats-file"
            | "stress-level"
            | "prealloc-fd"
    );
    if is_process {
        findings.add(Needless, &keyword.at, text, PROCESS, NOTHING);
    }
    is_process
}

/// What is shown of a line: its keyword, never what may be a secret.
fn subject<'a>(line: &'a Line, entry: &'a Known) -> &'a str {
    if entry.words.contains(' ') { entry.words } else { line.text(0) }
}
