//! Every setting this server knows by name, and what it does about each (operations 1.4 to 1.10, 3.1, 4.1, 6).
//!
//! A key that is missing here is unknown: it is warned about with the nearest name that is here. A key that is here is
//! never silently ignored: it works, or the start says why it does not, or the start stops because going on without it
//! would cost data, security or the quorum.

use self::{Judgement::*, Kind::*};

/// Where a setting may be written (operations 1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `S`: in the file, read by name. A property of that name is not consulted.
    Dedicated,
    /// `P`: in the file, or as `-Dzookeeper.NAME=VALUE`; the file wins.
    Property,
    /// `P` that Java also reads without the `zookeeper.` in front.
    PropertyOrBare,
    /// `D`: only as `-DNAME=VALUE`; in the file it has no effect in Java.
    JvmOnly,
    /// `D` in Java, but harmless and useful when honoured from the file as well.
    JvmHonouredInFile,
    /// Ours: `ringkeeper.NAME` in the file, or `-Dringkeeper.NAME=VALUE`.
    Own,
    /// `Y`: membership.
    Dynamic,
}

/// What a value must look like. Ranges are inclusive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Int {
        min: i64,
        max: i64,
    },
    /// As `Int`, and also hexadecimal (`0x...`, `#...`) or octal (`0...`), as Java decodes some properties.
    Decoded {
        min: i64,
        max: i64,
    },
    Double,
    /// Read by the parser: `true` or `false` in any letter case, everything else is an error.
    StrictBool,
    /// Read as a property: `true` in any letter case, everything else is false.
    PropertyBool,
    /// Whether the value is exactly this word; everything else is the other choice.
    Word(&'static str),
    Path,
    Text,
    /// Hours, or a number with `ms`, `s`, `m`, `h` or `d` behind it.
    Interval,
    OneOf(&'static [&'static str]),
    /// `auto`, or a number in the range.
    AutoOrInt {
        min: i64,
        max: i64,
    },
}

/// What this server does about a key as of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Implemented,
    /// Matters in an ensemble only; a standalone server of any make leaves it alone without a word.
    Ensemble,
    /// The same, and what is missing there; a member says so.
    EnsembleNotYet(&'static str),
    /// Accepted, and will never do anything here; the text says why.
    NoEffect(&'static str),
    /// Accepted although the feature is not there yet; the text says what is missing.
    NotYet(&'static str),
    /// Going on without it would cost data, security or the quorum.
    Refused(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name that works in zoo.cfg.
    pub name: &'static str,
    /// Display names of the documentation, which do nothing in Java and work here with a warning.
    pub aliases: &'static [&'static str],
    pub place: Place,
    pub kind: Kind,
    /// As it would be written in zoo.cfg; empty when there is none.
    pub default: &'static str,
    pub judgement: Judgement,
    /// Values (any letter case) beside the default that ask for nothing we do not do anyway.
    pub harmless: &'static [&'static str],
}

impl Key {
    const fn new(place: Place, name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
        Key { name, aliases: &[], place, kind, default, judgement, harmless: &[] }
    }

    const fn alias(mut self, aliases: &'static [&'static str]) -> Key {
        self.aliases = aliases;
        self
    }

    const fn harmless(mut self, values: &'static [&'static str]) -> Key {
        self.harmless = values;
        self
    }

    /// Whether `value` asks only for what happens anyway.
    pub fn asks_for_nothing(&self, value: &str) -> bool {
        self.default.eq_ignore_ascii_case(value) || self.harmless.iter().any(|word| word.eq_ignore_ascii_case(value))
    }

    /// The name after `-D`.
    pub fn property(&self) -> String {
        match self.place {
            Place::Property | Place::PropertyOrBare => format!("zookeeper.{}", self.name),
            Place::JvmOnly | Place::JvmHonouredInFile | Place::Own | Place::Dedicated | Place::Dynamic => {
                self.name.to_owned()
            }
        }
    }
}

const fn s(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::Dedicated, name, kind, default, judgement)
}

const fn p(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::Property, name, kind, default, judgement)
}

const fn bare(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::PropertyOrBare, name, kind, default, judgement)
}

const fn d(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::JvmOnly, name, kind, default, judgement)
}

const fn both(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::JvmHonouredInFile, name, kind, default, judgement)
}

const fn own(name: &'static str, kind: Kind, default: &'static str, judgement: Judgement) -> Key {
    Key::new(Place::Own, name, kind, default, judgement)
}

const INT: Kind = Int { min: i32::MIN as i64, max: i32::MAX as i64 };
const LONG: Kind = Int { min: i64::MIN, max: i64::MAX };
const POSITIVE: Kind = Int { min: 1, max: i32::MAX as i64 };
const NOT_NEGATIVE: Kind = Int { min: 0, max: i32::MAX as i64 };
const PORT: Kind = Int { min: 0, max: 65535 };

const TLS: &str = "TLS is not served yet, and a port an operator believes encrypted must not be open in clear";
const SASL: &str = "SASL is not served yet, so nobody could satisfy it";
const JVM_THREADS: &str = "it shapes Java's threads and buffers; this server has one executor per core instead";
const QUORUM_SASL: &str = "quorum SASL is not served yet, and a peer link believed authenticated must not be open";
pub const ADMIN: &str = "the AdminServer is not there yet: no HTTP port is opened";
const METRICS_PAGE: &str = "the metrics page is not there yet: no HTTP port is opened; `mntr` has every value";
const WATCHES: &str = "it shapes Java's watch tables; watches here are kept in one compact form";
const SYNCED_AT_ONCE: &str = "a batch is written as soon as the device is free, so nothing waits to fill one";
const LOG_FILES: &str = "the log goes to standard error; collect it there";
const KERBEROS: &str = "Kerberos is not supported";
const TEST_HOOK: &str = "it is a test hook that breaks the order of transactions on purpose";

pub const DEFAULT_METRICS_PROVIDER: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";
pub const NULL_METRICS_PROVIDER: &str = "org.apache.zookeeper.metrics.impl.NullMetricsProvider";
pub const PROMETHEUS_METRICS_PROVIDER: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
/// Stock classes for `authProvider.N`, without their package.
pub const AUTH_PROVIDERS: [&str; 5] = [
    "SASLAuthenticationProvider",
    "X509AuthenticationProvider",
    "DigestAuthenticationProvider",
    "IPAuthenticationProvider",
    "EnsembleAuthenticationProvider",
];
pub const AUTH_PROVIDER_PACKAGE: &str = "org.apache.zookeeper.server.auth.";

/// Keys with a fixed name, in the order of the specification.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    // 1.4 base
    s("dataDir", Path, "", Implemented),
    s("dataLogDir", Path, "", Implemented),
    s("clientPort", PORT, "", Implemented),
    s("clientPortAddress", Text, "", Implemented),
    s("secureClientPort", PORT, "", Refused(TLS)).harmless(&["0"]),
    s("secureClientPortAddress", Text, "", Refused(TLS)),
    s("clientPortListenBacklog", INT, "-1", Implemented),
    s("tickTime", INT, "3000", Implemented),
    s("minSessionTimeout", INT, "-1", Implemented),
    s("maxSessionTimeout", INT, "-1", Implemented),
    s("maxClientCnxns", INT, "60", Implemented),
    p("maxCnxns", INT, "0", Implemented),
    s("electionAlg", INT, "3", Implemented),
    s("initLimit", INT, "0", Ensemble),
    s("syncLimit", INT, "0", Ensemble),
    s("connectToLearnerMasterLimit", INT, "0", Ensemble),
    s("peerType", OneOf(&["participant", "observer"]), "participant", Ensemble),
    d("readonlymode.enabled", PropertyBool, "false", Implemented),
    s("observerMasterPort", PORT, "0", Ensemble),
    s("syncEnabled", StrictBool, "true", EnsembleNotYet("an observer always keeps a log, for which nobody waits: it restarts from its own disk")),
    p("observer.syncEnabled", PropertyBool, "true", EnsembleNotYet("an observer always keeps a log, for which nobody waits: it restarts from its own disk")),
    p("leaderServes", Word("no"), "yes", Ensemble),
    s("localSessionsEnabled", StrictBool, "false", Implemented),
    s("localSessionsUpgradingEnabled", StrictBool, "false", Implemented),
    s("quorumListenOnAllIPs", StrictBool, "false", Ensemble),
    s("standaloneEnabled", StrictBool, "true", Implemented),
    s("reconfigEnabled", StrictBool, "false", Ensemble),
    s("dynamicConfigFile", Path, "", Implemented),
    p("multiAddress.enabled", StrictBool, "false", Implemented), // Java's server lines read the property only, its parser the file only
    s("multiAddress.reachabilityCheckEnabled", StrictBool, "true", EnsembleNotYet("all addresses of a member are called at once, and the first that answers is taken")),
    s("multiAddress.reachabilityCheckTimeoutMs", INT, "1000", EnsembleNotYet("all addresses of a member are called at once, and the first that answers is taken")),
    p("ipReachableTimeout", Text, "", NoEffect("no release since 3.6 reads it; multiAddress.reachabilityCheckTimeoutMs took its place")),
    s("oraclePath", Path, "", Refused("a referee for two servers is not supported, and ignoring it would change who may lead")),
    p("cnxTimeout", INT, "5000", Ensemble),
    p("quorumCnxnTimeoutMs", INT, "-1", Ensemble),
    p("tcpKeepAlive", PropertyBool, "false", Ensemble),
    p("clientTcpKeepAlive", PropertyBool, "false", Implemented),
    p("electionPortBindRetry", INT, "3", Ensemble),
    p("fastleader.minNotificationInterval", INT, "200", Ensemble),
    p("fastleader.maxNotificationInterval", INT, "60000", Ensemble),
    p("leader.maxTimeToWaitForEpoch", INT, "-1", Ensemble).alias(&["maxTimeToWaitForEpoch"]),
    p("leaderConnectDelayDuringRetryMs", INT, "100", Ensemble),
    p("observer.reconnectDelayMs", INT, "0", Ensemble),
    p("observer.election.DelayMs", INT, "200", Ensemble),
    p("observerMaster.sizeLimit", INT, "33554432", Ensemble),
    d("leader.nodelay", PropertyBool, "true", NoEffect("TCP_NODELAY is always on")),
    d("follower.nodelay", PropertyBool, "true", NoEffect("TCP_NODELAY is always on")),
    bare("leader.closeSocketAsync", PropertyBool, "false", NoEffect("closing a socket never blocks here")),
    bare("learner.closeSocketAsync", PropertyBool, "false", NoEffect("closing a socket never blocks here")),
    bare("learner.asyncSending", PropertyBool, "false", NoEffect("sending never blocks here")),
    p("leader.maxConcurrentSnapSyncs", POSITIVE, "10", Ensemble).alias(&["maxConcurrentSnapSyncs"]),
    p("leader.maxConcurrentDiffSyncs", POSITIVE, "100", Ensemble).alias(&["maxConcurrentDiffSyncs"]),
    p("forceSnapshotSync", PropertyBool, "false", NoEffect("it is for testing; how a learner is synced is decided by what it lacks")),
    p("leader.ackLoggingFrequency", INT, "1000", NoEffect("every ack is measured")).alias(&["ackLoggingFrequency"]),
    s("quorum.cnxn.threads.size", INT, "20", NoEffect(JVM_THREADS)),
    p("follower.skipLearnerRequestToNextProcessor", PropertyBool, "false", NoEffect(JVM_THREADS)).alias(&["skipLearnerRequestToNextProcessor"]),
    p("forward_learner_requests_to_commit_processor_disabled", PropertyBool, "false", NoEffect(JVM_THREADS)),
    p("client.portUnification", PropertyBool, "false", Refused(TLS)),
    s("portUnification", StrictBool, "false", Refused(TLS)),
    p("serverCnxnFactory", Text, "org.apache.zookeeper.server.NIOServerCnxnFactory", NoEffect("there is one network layer, and it does what both of Java's do")),
    p("nio.numSelectorThreads", Text, "", NoEffect(JVM_THREADS)),
    p("nio.numWorkerThreads", Text, "", NoEffect(JVM_THREADS)),
    p("nio.sessionlessCnxnTimeout", INT, "10000", Implemented),
    p("nio.shutdownTimeout", Text, "5000", NoEffect(JVM_THREADS)),
    p("nio.directBufferBytes", Text, "65536", NoEffect(JVM_THREADS)),
    p("commitProcessor.numWorkerThreads", Text, "", NoEffect(JVM_THREADS)),
    p("commitProcessor.maxReadBatchSize", Text, "-1", NoEffect(JVM_THREADS)),
    p("commitProcessor.maxCommitBatchSize", Text, "1", NoEffect(JVM_THREADS)),
    p("commitProcessor.shutdownTimeout", Text, "5000", NoEffect(JVM_THREADS)),
    p("intBufferStartingSizeBytes", Text, "1024", NoEffect(JVM_THREADS)),
    s("jvm.pause.monitor", StrictBool, "false", NotYet("stalls of the event loop are not measured yet")),
    s("jvm.pause.info-threshold.ms", LONG, "1000", NotYet("stalls of the event loop are not measured yet")),
    s("jvm.pause.warn-threshold.ms", LONG, "10000", NotYet("stalls of the event loop are not measured yet")),
    s("jvm.pause.sleep.time.ms", LONG, "500", NotYet("stalls of the event loop are not measured yet")),

    // 1.7 directories
    p("datadir.autocreate", PropertyBool, "true", Implemented),
    p("db.autocreate", PropertyBool, "true", Ensemble),

    // 1.8 log, snapshots, purge
    p("preAllocSize", LONG, "65536", Implemented),
    p("snapCount", INT, "100000", Implemented),
    p("snapSizeLimitInKb", LONG, "4194304", Implemented),
    p("txnLogSizeLimitInKb", LONG, "-1", Implemented),
    p("commitLogCount", INT, "500", Ensemble),
    p("snapshotSizeFactor", Double, "0.33", Ensemble),
    p("snapshot.compression.method", OneOf(&["", "gz", "snappy"]), "", NoEffect("snapshots have their own format and are not compressed")),
    p("snapshot.trust.empty", PropertyBool, "false", NotYet("a Java log without a snapshot is not imported yet")),
    p("serializeLastProcessedZxid.enabled", PropertyBool, "true", NoEffect("a snapshot here always is exactly one zxid, and says which")),
    p("digest.enabled", PropertyBool, "true", Implemented),
    p("closeSessionTxn.enabled", PropertyBool, "true", Implemented),
    p("forceSync", Word("no"), "yes", Implemented),
    bare("fsync.warningthresholdms", LONG, "1000", Implemented),
    p("flushDelay", LONG, "0", NoEffect(SYNCED_AT_ONCE)),
    p("maxWriteQueuePollTime", LONG, "0", NoEffect(SYNCED_AT_ONCE)),
    p("maxBatchSize", INT, "1000", NoEffect("a batch is bounded by bytes, not by transactions")),
    s("autopurge.snapRetainCount", INT, "3", Implemented),
    s("autopurge.purgeInterval", Interval, "0", Implemented),

    // 1.9 throttling and limits
    p("globalOutstandingLimit", INT, "1000", Implemented),
    p("request_throttle_max_requests", INT, "0", Implemented).alias(&["requestThrottleLimit"]),
    p("request_throttle_stall_time", INT, "100", NoEffect("requests that wait go on as soon as there is room, and are not looked at in between")).alias(&["requestThrottleStallTime"]),
    p("request_throttle_drop_stale", PropertyBool, "true", Implemented).alias(&["requestThrottleDropStale"]),
    p("request_stale_latency_check", PropertyBool, "false", Implemented).alias(&["requestStaleLatencyCheck"]),
    p("request_stale_connection_check", PropertyBool, "true", NoEffect("what a closed connection had waiting goes with it")).alias(&["requestStaleConnectionCheck"]),
    p("request_throttler.shutdownTimeout", INT, "10000", NoEffect("a stop waits for what is under way, and for nothing that has not begun")),
    p("throttled_op_wait_time", INT, "0", Implemented).alias(&["throttledOpWaitTime"]),
    p("largeRequestThreshold", INT, "-1", Implemented),
    p("largeRequestMaxBytes", INT, "104857600", Implemented),
    p("connection_throttle_tokens", INT, "0", Implemented).alias(&["connectionMaxTokens"]),
    p("connection_throttle_fill_time", POSITIVE, "1", Implemented).alias(&["connectionTokenFillTime"]),
    p("connection_throttle_fill_count", POSITIVE, "1", Implemented).alias(&["connectionTokenFillCount"]),
    p("connection_throttle_freeze_time", INT, "-1", Implemented).alias(&["connectionFreezeTime"]),
    p("connection_throttle_drop_increase", Double, "0.02", Implemented).alias(&["connectionDropIncrease"]),
    p("connection_throttle_drop_decrease", Double, "0.002", Implemented).alias(&["connectionDropDecrease"]),
    p("connection_throttle_decrease_ratio", Double, "0", Implemented).alias(&["connectionDecreaseRatio"]),
    p("connection_throttle_weight_enabled", PropertyBool, "false", Implemented),
    p("connection_throttle_global_session_weight", INT, "3", Implemented),
    p("connection_throttle_renew_session_weight", INT, "2", Implemented),
    p("connection_throttle_local_session_weight", INT, "1", Implemented),
    p("netty.server.outstandingHandshake.limit", INT, "-1", NotYet("TLS is not served yet")).alias(&["outstandingHandshake.limit"]),
    p("netty.server.earlyDropSecureConnectionHandshakes", PropertyBool, "false", NotYet("TLS is not served yet")).alias(&["earlyDropSecureConnectionHandshakes"]),
    p("netty.advancedFlowControl.enabled", PropertyBool, "false", NoEffect("a client that does not read is not read from; there is no other flow control to switch")).alias(&["advancedFlowControlEnabled"]),
    d("jute.maxbuffer", Decoded { min: 1, max: i32::MAX as i64 }, "1048575", Implemented),
    p("jute.maxbuffer.extrasize", INT, "", Implemented),
    p("maxResponseCacheSize", INT, "400", NoEffect("replies are encoded straight from memory, so there is no cache of them")),
    p("maxGetChildrenResponseCacheSize", INT, "400", NoEffect("replies are encoded straight from memory, so there is no cache of them")),
    p("enforceQuota", PropertyBool, "false", Implemented),
    p("enableEagerACLCheck", PropertyBool, "false", Ensemble),
    p("extendedTypesEnabled", PropertyBool, "false", Implemented),
    p("emulate353TTLNodes", PropertyBool, "false", Implemented),
    p("watchManagerName", Text, "", NoEffect(WATCHES)),
    p("watcherCleanThreadsNum", INT, "2", NoEffect(WATCHES)),
    p("watcherCleanThreshold", INT, "1000", NoEffect(WATCHES)),
    p("watcherCleanIntervalInSeconds", INT, "600", NoEffect(WATCHES)),
    p("maxInProcessingDeadWatchers", INT, "-1", NoEffect(WATCHES)),
    p("bitHashCacheSize", INT, "10", NoEffect(WATCHES)),
    both("znode.container.checkIntervalMs", POSITIVE, "60000", Implemented),
    both("znode.container.maxPerMinute", POSITIVE, "10000", Implemented),
    both("znode.container.maxNeverUsedIntervalMs", NOT_NEGATIVE, "0", Implemented),
    p("messageTracker.Enabled", PropertyBool, "false", Ensemble),
    p("messageTracker.BufferSize", INT, "10", Ensemble),
    p("skipACL", Word("yes"), "no", Implemented),
    p("test.allowDiscontinuousProposals", PropertyBool, "false", Refused(TEST_HOOK)),
    p("testingonly.initialZxid", Text, "", Refused(TEST_HOOK)),

    // 2 four-letter words
    p("4lw.commands.whitelist", Text, "", Implemented),

    // 3.1 AdminServer
    p("admin.enableServer", Word("false"), "true", Implemented),
    p("admin.serverAddress", Text, "0.0.0.0", NotYet(ADMIN)),
    p("admin.serverPort", PORT, "8080", NotYet(ADMIN)),
    p("admin.idleTimeout", INT, "30000", NotYet(ADMIN)),
    p("admin.commandURL", Text, "/commands", NotYet(ADMIN)),
    p("admin.httpVersion", INT, "11", NoEffect(ADMIN)),
    p("admin.portUnification", PropertyBool, "false", NotYet(ADMIN)),
    p("admin.forceHttps", PropertyBool, "false", NotYet(ADMIN)),
    p("admin.needClientAuth", PropertyBool, "false", NotYet(ADMIN)),
    p("admin.rateLimiterIntervalInMS", LONG, "300000", NotYet(ADMIN)),
    p("admin.snapshot.enabled", PropertyBool, "true", NotYet(ADMIN)),
    p("admin.restore.enabled", PropertyBool, "true", NotYet(ADMIN)),

    // 4.1 metrics
    s("metricsProvider.className", OneOf(&[DEFAULT_METRICS_PROVIDER, NULL_METRICS_PROVIDER, PROMETHEUS_METRICS_PROVIDER]), DEFAULT_METRICS_PROVIDER, NotYet(METRICS_PAGE)),
    s("metricsProvider.httpHost", Text, "0.0.0.0", NotYet(METRICS_PAGE)),
    s("metricsProvider.httpPort", INT, "7000", NotYet(METRICS_PAGE)),
    s("metricsProvider.exportJvmInfo", Text, "true", NotYet(METRICS_PAGE)),
    s("metricsProvider.numWorkerThreads", Text, "1", NoEffect(JVM_THREADS)),
    s("metricsProvider.maxQueueSize", Text, "1000000", NoEffect(JVM_THREADS)),
    s("metricsProvider.workerShutdownTimeoutMs", Text, "1000", NoEffect(JVM_THREADS)),

    // 6 security
    p("DigestAuthenticationProvider.enabled", PropertyBool, "true", Implemented),
    p("DigestAuthenticationProvider.digestAlg", Text, "SHA1", Implemented),
    p("DigestAuthenticationProvider.superDigest", Text, "", Implemented),
    p("IPAuthenticationProvider.usexforwardedfor", PropertyBool, "false", NotYet(ADMIN)),
    p("X509AuthenticationProvider.superUser", Text, "", NotYet("TLS is not served yet, so no certificate can name a superuser")),
    p("superUser", Text, "", NotYet("SASL is not served yet, so no SASL user can be the superuser")),
    p("SASLAuthenticationProvider.superPassword", Text, "", NotYet("SASL is not served yet, so no SASL user can be the superuser")),
    p("ensembleAuthName", Text, "", Implemented),
    d("java.security.auth.login.config", Path, "", NotYet("SASL is not served yet: clients cannot log in with it, and ACLs of scheme sasl admit nobody")),
    p("sasl.serverconfig", Text, "Server", NotYet("SASL is not served yet")),
    p("sessionRequireClientSASLAuth", PropertyBool, "false", Refused(SASL)),
    p("enforce.auth.enabled", PropertyBool, "false", Implemented),
    p("enforce.auth.schemes", Text, "", Implemented),
    p("allowSaslFailedClients", PropertyBool, "false", NotYet("SASL is not served yet")),
    p("letAnySaslUserDoX", Text, "", Refused("it opens ACLs to every SASL user; set proper ACLs instead")),
    p("requireKerberosConfig", PropertyBool, "false", NoEffect(KERBEROS)),
    p("server.realm", Text, "", NoEffect(KERBEROS)),
    p("server.principal", Text, "", NoEffect(KERBEROS)),
    d("zookeeper.kinit", Text, "", NoEffect(KERBEROS)),
    p("security.auth_to_local", Text, "", NoEffect(KERBEROS)),
    p("client.certReload", PropertyBool, "false", NotYet("TLS is not served yet")),
    p("fips-mode", PropertyBool, "true", NoEffect("no FIPS claim is made either way")),
    s("sslQuorum", StrictBool, "false", Refused(TLS)),
    s("sslQuorumReloadCertFiles", StrictBool, "false", NotYet("TLS is not served yet")),
    s("quorum.auth.enableSasl", StrictBool, "false", Refused(QUORUM_SASL)),
    s("quorum.auth.learnerRequireSasl", StrictBool, "false", Refused(QUORUM_SASL)),
    s("quorum.auth.serverRequireSasl", StrictBool, "false", Refused(QUORUM_SASL)),
    s("quorum.auth.server.saslLoginContext", Text, "QuorumServer", EnsembleNotYet(QUORUM_SASL)),
    s("quorum.auth.learner.saslLoginContext", Text, "QuorumLearner", EnsembleNotYet(QUORUM_SASL)),
    s("quorum.auth.kerberos.servicePrincipal", Text, "zkquorum/localhost", NoEffect(KERBEROS)),
    p("audit.enable", PropertyBool, "false", Refused("the audit log is not written yet, and it must never be silently missing")),
    p("audit.impl.class", Text, "org.apache.zookeeper.audit.Slf4jAuditLogger", Refused("audit classes cannot be loaded here; remove it to use the built-in one")).harmless(&["org.apache.zookeeper.audit.Log4jAuditLogger"]),

    // 8.5 logging: properties of the stock logback.xml, put on every command line by zkServer.sh
    p("log.dir", Text, "", NoEffect(LOG_FILES)),
    p("log.file", Text, "", NoEffect(LOG_FILES)),
    p("log.threshold", Text, "", NoEffect(LOG_FILES)),
    p("log.maxfilesize", Text, "", NoEffect(LOG_FILES)),
    p("log.maxbackupindex", Text, "", NoEffect(LOG_FILES)),
    p("auditlog.file", Text, "", NoEffect(LOG_FILES)),
    p("auditlog.threshold", Text, "", NoEffect(LOG_FILES)),
    p("console.threshold", Text, "", Implemented),
    p("root.logger", Text, "", Implemented),

    // Ours
    own("ringkeeper.cores", Text, "", Implemented),
    own("ringkeeper.pin", OneOf(&["auto", "on", "off"]), "auto", Implemented),
    own("ringkeeper.spinMicros", AutoOrInt { min: 0, max: 1_000_000 }, "auto", Implemented),
    own("ringkeeper.logThread", OneOf(&["auto", "inline", "dedicated"]), "auto", Implemented),
    own("ringkeeper.log.strategy", OneOf(&["dsync", "linked", "o_dsync", "two_step", "buffered", "none"]), "dsync", Implemented),
    own("ringkeeper.log.backend", OneOf(&["uring", "syscalls"]), "uring", Implemented),
    own("ringkeeper.log.batchesInFlight", Int { min: 1, max: 8 }, "1", Implemented),
    own("ringkeeper.minFreeMB", NOT_NEGATIVE, "0", NotYet("writes are refused when the next log segment cannot be made")),
    own("ringkeeper.reportedVersion", Text, "", Implemented),
    own("ringkeeper.logFormat", OneOf(&["java", "json"]), "java", NotYet("the log has one format yet")),
    own("ringkeeper.snapshotMaxMBps", NOT_NEGATIVE, "0", Implemented),
    own("ringkeeper.dynamicConfigDir", Path, "", Ensemble),
    own("ringkeeper.quorumPeerMustMatchServerList", PropertyBool, "false", Refused(TLS)),
    own("ringkeeper.metricsPort", PORT, "", NotYet(METRICS_PAGE)),
    own("ringkeeper.metricsNaming", OneOf(&["3.9", "3.10"]), "3.9", NotYet(METRICS_PAGE)),
    own("ringkeeper.metricsJmxAliases", PropertyBool, "false", NotYet(METRICS_PAGE)),
    own("ringkeeper.adminOptional", PropertyBool, "false", NotYet(ADMIN)),
    own("ringkeeper.slowOpMs", NOT_NEGATIVE, "0", NotYet("slow operations are not logged yet")),
    own("ringkeeper.dualFormat", PropertyBool, "false", NotYet("data is written in one format only")),
    own("ringkeeper.myid", Text, "", NotYet("the id is read from the file myid only")),
    own("ringkeeper.mntrPrometheusForm", PropertyBool, "false", NotYet("`mntr` has its default form only")),
    own("ringkeeper.jaasConfig", Path, "", NotYet("SASL is not served yet: clients cannot log in with it, and ACLs of scheme sasl admit nobody")),
    own("ringkeeper.digestMd5", PropertyBool, "true", NotYet("SASL is not served yet")).harmless(&["false"]),
    own("ringkeeper.ssl.crlFile", Path, "", Refused(TLS)),
    own("ringkeeper.auditFile", Path, "", Refused("the audit log is not written yet, and it must never be silently missing")),
];

/// Keys whose tail is free; the longest name that fits decides.
#[rustfmt::skip]
pub const FAMILIES: &[Key] = &[
    Key::new(Place::Dynamic, "server.", Text, "", Implemented),
    Key::new(Place::Dynamic, "group", Text, "", Implemented),
    Key::new(Place::Dynamic, "weight", Text, "", Implemented),
    p("authProvider.", Text, "", Implemented),
    p("superUser.", Text, "", NotYet("SASL is not served yet, so no SASL user can be the superuser")),
    p("ssl.", Text, "", Refused(TLS)),
    p("netty.", Text, "", NoEffect(JVM_THREADS)),
    p("nio.", Text, "", NoEffect(JVM_THREADS)),
    p("commitProcessor.", Text, "", NoEffect(JVM_THREADS)),
    p("pathStats.", Text, "", NoEffect("paths are not sampled")),
    p("kerberos.", Text, "", NoEffect(KERBEROS)),
    s("metricsProvider.", Text, "", NotYet(METRICS_PAGE)),
];

/// Whether the value of a setting must not be shown anywhere.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "superdigest", "secret"].iter().any(|word| name.contains(word)) && !name.contains("passwordpath")
}

/// How a name was found.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    pub key: &'static Key,
    /// Written under a display name that does nothing in Java.
    pub by_alias: bool,
    /// One of a family: the setting's own name is the one that was written.
    pub in_family: bool,
}

/// Finds a key by the name it has in zoo.cfg.
pub fn find(name: &str) -> Option<Found> {
    let whole = |by_alias| move |key| Found { key, by_alias, in_family: false };
    KEYS.iter()
        .find(|key| key.name == name)
        .map(whole(false))
        .or_else(|| KEYS.iter().find(|key| key.aliases.contains(&name)).map(whole(true)))
        .or_else(|| {
            let fits = |key: &&Key| name.len() > key.name.len() && name.starts_with(key.name);
            let key = FAMILIES.iter().filter(fits).max_by_key(|key| key.name.len())?;
            Some(Found { key, by_alias: false, in_family: true })
        })
}

/// The known name that differs least from `name`, if any is near enough to be what was meant.
pub fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 128 {
        return None; // nobody meant a key by that
    }
    let lower = name.to_ascii_lowercase();
    let names = KEYS.iter().flat_map(|key| key.aliases.iter().copied().chain([key.name]));
    let (distance, nearest) = names.map(|known| (edit_distance(&lower, &known.to_ascii_lowercase()), known)).min()?;
    (distance <= (name.chars().count() / 3).max(1)).then_some(nearest)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn one name into the other.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_defaults_fit_their_kinds() {
        let mut names: Vec<_> = KEYS.iter().flat_map(|key| key.aliases.iter().chain([&key.name])).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice");
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            let written = super::super::values::check(key.kind, key.default);
            assert!(written.is_ok(), "{}: default {} {written:?}", key.name, key.default);
        }
    }

    #[test]
    fn misspellings_find_what_was_meant() {
        for (written, meant) in [
            ("maxClientCnxn", "maxClientCnxns"),
            ("maxclientcnxns", "maxClientCnxns"),
            ("autopurge.purgeinterval", "autopurge.purgeInterval"),
            ("4lw.command.whitelist", "4lw.commands.whitelist"),
            ("tikcTime", "tickTime"),
            ("dataLogdir", "dataLogDir"),
        ] {
            assert_eq!(nearest(written), Some(meant));
        }
        assert_eq!(nearest("completely.unrelated.thing"), None);
        assert_eq!(nearest("x"), None);
    }

    #[test]
    fn families_yield_to_their_named_members() {
        assert_eq!(find("nio.sessionlessCnxnTimeout").unwrap().key.judgement, Implemented);
        assert!(find("nio.other").unwrap().in_family);
        assert!(find("connectionMaxTokens").unwrap().by_alias);
        assert!(find("server.").is_none());
        assert!(matches!(find("ssl.quorum.keyStore.location").unwrap().key.judgement, Refused(_)));
    }

    #[test]
    fn edit_distances() {
        for (a, b, distance) in [("", "", 0), ("abc", "", 3), ("abc", "acb", 1), ("kitten", "sitting", 3)] {
            assert_eq!(edit_distance(a, b), distance);
        }
    }
}
