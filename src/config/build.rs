//! From one setting per name to a [`Config`]: judging each, reading its value, checking them against each other.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::keys::{self, Judgement, Kind};
use super::members::{self, Member, Mode, Role};
use super::sources::{Setting, Settings};
use super::values::{self, Value};
use super::*;
use crate::core::zab::membership::{Membership, QuorumKind};

/// What lies in other files, if they are there.
pub(super) struct Texts {
    pub my_id: io::Result<Vec<u8>>,
    /// `zoo.cfg.dynamic.next`.
    pub next_members: io::Result<Vec<u8>>,
}

pub(super) fn build(
    source: String,
    settings: Settings,
    texts: Texts,
    notices: Vec<Notice>,
) -> Result<(Config, Vec<Notice>), ConfigError> {
    let mut builder = Builder { source, settings, notices, problems: Vec::new() };
    builder.judge();
    let config = builder.config(&texts);
    match config {
        Some(config) if builder.problems.is_empty() => Ok((config, builder.notices)),
        _ => {
            assert!(!builder.problems.is_empty(), "no configuration, and no reason given");
            Err(ConfigError { problems: builder.problems, exit_code: EXIT_BAD_CONFIG })
        }
    }
}

/// The warning Java gives for a path that depends on where the server was started. Java: `VerifyingFileFactory`.
pub(super) fn relative_path_warning(path: &Path) -> Option<String> {
    let relative = path.is_relative() && !path.starts_with(".");
    relative.then(|| format!("{} is relative. Prepend ./ to indicate that you're sure!", path.display()))
}

pub(super) fn my_id_path(settings: &Settings) -> Option<PathBuf> {
    settings.get("dataDir").map(|setting| Path::new(&setting.value).join("myid"))
}

struct Builder {
    source: String,
    settings: Settings,
    notices: Vec<Notice>,
    problems: Vec<String>,
}

impl Builder {
    /// One look at every setting that was written: is its value readable, and what does this server do about it?
    fn judge(&mut self) {
        let settings = std::mem::take(&mut self.settings);
        for setting in settings.values() {
            let Setting { key, name, value, origin } = setting;
            let place = format!("{origin}: {name}");
            match values::check(key.kind, value) {
                Ok(_)
                    if key.kind == Kind::PropertyBool
                        && !value.eq_ignore_ascii_case("false")
                        && !value.eq_ignore_ascii_case("true") =>
                {
                    let why = format!("{place}: {value:?} is read as false; write true or false");
                    self.notices.push(Notice::warn(Concern::Other, why));
                }
                Ok(_) => {
                    if let Kind::Word(word) = key.kind
                        && value != word
                        && !value.eq_ignore_ascii_case(key.default)
                    {
                        let why = format!("{place}: {value:?} is read as {0}; write {word} or {0}", key.default);
                        self.notices.push(Notice::warn(Concern::Other, why));
                    }
                }
                Err(_) if name == "preAllocSize" => {} // Java goes on with the default; said where it is read
                Err(_) if value.is_empty() && key.default.is_empty() && key.kind != Kind::Path => {}
                Err(why) => {
                    self.problems.push(format!("{place}: {why}"));
                    continue;
                }
            }
            let asks_for_nothing = key.asks_for_nothing(value);
            match key.judgement {
                Judgement::Implemented | Judgement::Ensemble | Judgement::EnsembleNotYet(_) => {}
                Judgement::NoEffect(why) | Judgement::NotYet(why) => {
                    let concern = match key.judgement {
                        Judgement::NotYet(_) => Concern::NotYet,
                        _ => Concern::Ineffective,
                    };
                    let quiet = asks_for_nothing || name.starts_with("log."); // zkServer.sh always gives log.dir and log.file
                    let level = if quiet { Level::Info } else { Level::Warn };
                    self.notices.push(Notice::new(level, concern, format!("{place}: has no effect: {why}")));
                }
                Judgement::Refused(_) if asks_for_nothing => {}
                Judgement::Refused(why) => {
                    let instead = if key.default.is_empty() {
                        "remove it".to_owned()
                    } else {
                        format!("write {name}={}, or remove it", key.default)
                    };
                    self.problems.push(format!("{place}: refused: {why}; {instead}"));
                }
            }
            if key.kind == Kind::Path {
                let quoted = value.starts_with('"').then(|| "quotes are part of the path; write it without".to_owned());
                if let Some(why) = quoted.or_else(|| relative_path_warning(Path::new(value))) {
                    self.notices.push(Notice::warn(Concern::Other, format!("{place}: {why}")));
                }
            }
        }
        self.settings = settings;
    }

    fn config(&mut self, texts: &Texts) -> Option<Config> {
        let my_id = self.my_id(texts.my_id.as_deref().ok());
        let directories = self.directories();
        let sessions = self.sessions();
        let upgrading = self.bool("localSessionsUpgradingEnabled");
        let local_sessions = self.bool("localSessionsEnabled").then_some(LocalSessions { upgrading });
        let membership = self.membership();
        let own_member =
            |(members, _): &(Vec<Member>, Mode)| members.iter().find(|member| Some(member.id) == my_id).cloned();
        let client = self.client(membership.as_ref().and_then(own_member));
        self.check_authentication_providers();
        let (members, mode) = membership?;
        let ensemble = match mode {
            Mode::Standalone { .. } => None,
            Mode::Ensemble { .. } => self.ensemble(my_id, texts, &client),
        };
        let auth = self.auth();
        let log = self.log();
        let snapshots = self.snapshots();
        let limits = self.limits();
        let tree = self.tree();
        let runtime = self.runtime();
        if self.int("electionAlg") != 3 {
            self.refuse("electionAlg", "invalid value, only 3 is supported; write electionAlg=3, or remove it");
        }
        let provider = self.text("metricsProvider.className").unwrap_or_default();
        if provider == keys::NULL_METRICS_PROVIDER {
            self.warn("metricsProvider.className", Concern::Ineffective, "metrics are kept all the same");
        }
        if !self.bool("admin.enableServer") {
            self.warn(
                "admin.enableServer",
                Concern::NotYet,
                &format!("{}; write false if nobody asks it", keys::ADMIN),
            );
        }
        Some(Config {
            source: self.source.clone(),
            mode,
            my_id,
            members,
            ensemble,
            directories: directories?,
            client,
            sessions: sessions?,
            local_sessions,
            log,
            snapshots,
            limits,
            auth,
            tree,
            runtime,
            whitelisted_words: list(&self.text("4lw.commands.whitelist").unwrap_or_default()),
            read_only_mode: self.bool("readonlymode.enabled"),
            reported_version: self.text("ringkeeper.reportedVersion"),
            settings: self.settings.clone(),
        })
    }

    /// Sessions carry their server's number where owners of nodes carry what kind of node it is.
    fn check_session_ids(&mut self, server: i64) {
        for (key, most, whose) in
            [("extendedTypesEnabled", 254, "TTL nodes"), ("emulate353TTLNodes", 127, "TTL nodes of 3.5.3")]
        {
            if self.bool("extendedTypesEnabled") && self.bool(key) && server & 0xff > most {
                let why = format!(
                    "ephemerals of server {server} would be taken for {whose}; give it a number of at most {most} in its server line and in myid"
                );
                self.refuse(key, &why);
            }
        }
    }

    fn my_id(&mut self, text: Option<&[u8]>) -> Option<i64> {
        let first_line = text?.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first_line = String::from_utf8_lossy(first_line).trim().to_owned();
        let id = first_line.parse().ok();
        if id.is_none() {
            let path = my_id_path(&self.settings).unwrap_or_default();
            self.problems.push(format!(
                "{}:1: serverid {first_line:?} is not a number; write the N of this server's server.N line",
                path.display()
            ));
        }
        id
    }

    fn directories(&mut self) -> Option<Directories> {
        let Some(data) = self.text("dataDir") else {
            if !self.settings.contains_key("dataDir") {
                self.problems.push(format!("{}: dataDir: is not set; write dataDir=/var/lib/zookeeper", self.source));
            }
            return None;
        };
        let log = self.text("dataLogDir").unwrap_or_else(|| data.clone());
        Some(Directories { data: data.into(), log: log.into(), autocreate: self.bool("datadir.autocreate") })
    }

    /// `own_member`: this server's own line, whose client part takes part in the decision even when it runs standalone.
    fn client(&mut self, own_member: Option<Member>) -> ClientListener {
        let mut port =
            self.optional_int("clientPort").and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        let mut address = self.text("clientPortAddress");
        if address.is_some() && port.is_none() {
            match self.settings.contains_key("clientPort") {
                true => self.refuse("clientPort", "is no port to listen on at clientPortAddress; write one like 2181"),
                false => self.refuse("clientPortAddress", "is set but clientPort is not; write clientPort=2181 too"),
            }
        }
        if let Some((member_host, member_port)) = own_member.as_ref().and_then(|member| member.client.as_ref()) {
            let member_address = Some(member_host.clone()).filter(|host| !is_every_address(host));
            let same_address = address.as_ref().is_none_or(|host| is_every_address(host)) || address == member_address;
            if let Some(static_port) = port.filter(|port| port != member_port || !same_address) {
                let static_address = address.as_deref().unwrap_or("0.0.0.0");
                let why = format!(
                    "the client address here is {static_address}:{static_port} and in this server's own line \
                     {member_host}:{member_port}; write it in one of the two places only"
                );
                self.refuse("clientPort", &why);
            }
            (port, address) = (Some(*member_port), member_address);
        }
        if port.is_none() {
            let text = format!("{}: clientPort is not set: no client can connect", self.source);
            self.notices.push(Notice::new(Level::Info, Concern::Other, text));
        }
        ClientListener {
            port,
            address,
            backlog: i32::try_from(self.int("clientPortListenBacklog")).unwrap_or(-1),
            per_address_max: self.count("maxClientCnxns"),
            total_max: self.count("maxCnxns"),
            tcp_keep_alive: self.bool("clientTcpKeepAlive"),
            sessionless_timeout_ms: self.u32("nio.sessionlessCnxnTimeout"),
            throttle: self.connect_throttle(),
        }
    }

    fn connect_throttle(&mut self) -> ConnectThrottle {
        let is_weighed = self.bool("connection_throttle_weight_enabled");
        let weight = |name: &str| if is_weighed { self.u32(name) } else { 1 };
        let new_weight = weight("connection_throttle_global_session_weight");
        let resumed_weight = weight("connection_throttle_renew_session_weight");
        let local_weight = weight("connection_throttle_local_session_weight");
        ConnectThrottle {
            tokens: self.count("connection_throttle_tokens").unwrap_or(0),
            fill_ms: self.u32("connection_throttle_fill_time"),
            fill_count: self.u32("connection_throttle_fill_count"),
            freeze_ms: u32::try_from(self.int("connection_throttle_freeze_time")).ok(),
            drop_increase: self.double("connection_throttle_drop_increase"),
            drop_decrease: self.double("connection_throttle_drop_decrease"),
            decrease_ratio: self.double("connection_throttle_decrease_ratio"),
            new_weight,
            resumed_weight,
            local_weight,
        }
    }

    fn sessions(&mut self) -> Option<SessionTimeouts> {
        let tick = self.int("tickTime");
        if tick <= 0 {
            self.refuse("tickTime", "is not set to a time; write milliseconds, like tickTime=2000");
            return None;
        }
        // -1 is Java's word for "not set". The products stay below 2^36, and Java's int is the ceiling.
        let or_ticks = |timeout: i64, ticks: i64| {
            if timeout == -1 { (tick * ticks).min(i64::from(i32::MAX)) } else { timeout }
        };
        let min = or_ticks(self.int("minSessionTimeout"), 2);
        let max = or_ticks(self.int("maxSessionTimeout"), 20);
        if min > max {
            let key =
                if self.settings.contains_key("minSessionTimeout") { "minSessionTimeout" } else { "maxSessionTimeout" };
            self.refuse(key, &format!("minSessionTimeout ({min}) must not be larger than maxSessionTimeout ({max}); write a smaller minimum or a larger maximum"));
            return None;
        }
        let milliseconds = |number: i64| u32::try_from(number.max(0)).unwrap_or(u32::MAX);
        Some(SessionTimeouts { tick_time_ms: milliseconds(tick), min_ms: milliseconds(min), max_ms: milliseconds(max) })
    }

    fn log(&mut self) -> LogSettings {
        const BLOCK_BYTES: u64 = 64 * 1024;
        if let Some(setting) =
            self.settings.get("preAllocSize").filter(|setting| values::check(setting.key.kind, &setting.value).is_err())
        {
            let why = format!("{:?} is not a number of kilobytes; {} is used", setting.value, setting.key.default);
            self.warn("preAllocSize", Concern::Other, &why);
        }
        let strategy = self.log_strategy();
        let thread = match self.text("ringkeeper.logThread").as_deref() {
            Some("inline") => LogThread::Inline,
            Some("dedicated") => LogThread::Dedicated,
            _ => LogThread::Auto,
        };
        let backend = match self.text("ringkeeper.log.backend").as_deref() {
            Some("syscalls") => LogBackend::Syscalls,
            _ => LogBackend::Uring,
        };
        if (backend, thread) == (LogBackend::Syscalls, LogThread::Inline) {
            let why = "inline would stop the server while a system call waits for the disk; with ringkeeper.log.backend=syscalls write auto or dedicated";
            self.refuse("ringkeeper.logThread", why);
        }
        // A segment rolls when it is full, so a limit on its size is its length.
        let limit = Some(unsigned(self.int("txnLogSizeLimitInKb"))).filter(|kilobytes| *kilobytes > 0);
        let kilobytes = unsigned(self.int("preAllocSize")).min(limit.unwrap_or(u64::MAX));
        LogSettings {
            segment_bytes: kilobytes.saturating_mul(1024).max(BLOCK_BYTES),
            strategy,
            thread,
            backend,
            batches_in_flight: self.u32("ringkeeper.log.batchesInFlight"),
            flush_warning_ms: unsigned(self.int("fsync.warningthresholdms")),
            free_min_bytes: unsigned(self.int("ringkeeper.minFreeMB")) << 20,
        }
    }

    fn log_strategy(&mut self) -> LogStrategy {
        const KEY: &str = "ringkeeper.log.strategy";
        let named = self.text(KEY).and_then(|name| LogStrategy::parse(&name)).unwrap_or_default();
        let said = |key| self.settings.contains_key(key);
        let strategy = match (self.bool("forceSync"), said(KEY), said("forceSync")) {
            (true, true, _) if named.is_durable() => {
                self.refuse(
                    KEY,
                    &format!(
                        "{} flushes every write, and forceSync=no says that nothing is flushed; remove one of them",
                        named.name()
                    ),
                );
                named
            }
            (true, _, _) => LogStrategy::None,
            (false, _, true) if !named.is_durable() => {
                self.refuse(
                    KEY,
                    "none flushes nothing, and forceSync says that every write is flushed; remove one of them",
                );
                named
            }
            (false, _, _) => named,
        };
        if !strategy.is_durable() {
            let key = if self.bool("forceSync") { "forceSync" } else { KEY };
            let text = format!(
                "{}: THE TRANSACTION LOG IS NOT FLUSHED: a power cut loses writes that were acknowledged",
                self.place(key)
            );
            self.notices.push(Notice::new(Level::Error, Concern::Other, text));
        }
        strategy
    }

    fn snapshots(&mut self) -> SnapshotSettings {
        let transactions = self.int("snapCount");
        if transactions < 2 {
            self.warn("snapCount", Concern::Other, "must be at least 2; 2 is used");
        }
        let retain = self.int("autopurge.snapRetainCount");
        if retain < 3 {
            self.warn("autopurge.snapRetainCount", Concern::Other, "must be at least 3; 3 is used");
        }
        let kilobytes = unsigned(self.int("snapSizeLimitInKb"));
        let purge_interval_ms = match self.value("autopurge.purgeInterval") {
            Some(Value::Millis(interval)) if interval > 0 => Some(interval),
            _ => None,
        };
        SnapshotSettings {
            transactions_max: u32::try_from(transactions.max(2)).unwrap_or(u32::MAX),
            log_bytes_max: (kilobytes > 0).then(|| kilobytes.saturating_mul(1024)),
            retain_count: u32::try_from(retain.max(3)).unwrap_or(u32::MAX),
            purge_interval_ms,
            bytes_per_second: Some(unsigned(self.int("ringkeeper.snapshotMaxMBps")) << 20).filter(|rate| *rate > 0),
        }
    }

    fn limits(&mut self) -> RequestLimits {
        let frame_bytes_max =
            usize::try_from(self.int("jute.maxbuffer")).unwrap_or(crate::limits::JUTE_MAX_BUFFER_DEFAULT_BYTES);
        let extra = self
            .optional_int("jute.maxbuffer.extrasize")
            .map(|extra| usize::try_from(extra.max(1024)).unwrap_or(usize::MAX));
        RequestLimits {
            frame_bytes_max,
            record_extra_bytes: extra.unwrap_or(frame_bytes_max.max(1024)),
            outstanding_max: self.count("globalOutstandingLimit").unwrap_or(1),
            request_throttle: RequestThrottle {
                max_requests: self.u32("request_throttle_max_requests") as usize,
                stale_latency_check: self.bool("request_stale_latency_check"),
                drop_stale: self.bool("request_throttle_drop_stale"),
                op_wait_ms: self.u32("throttled_op_wait_time"),
            },
            large_request_bytes: self.count("largeRequestThreshold"),
            large_requests_bytes_max: self.count("largeRequestMaxBytes").unwrap_or(u32::MAX),
        }
    }

    fn auth(&mut self) -> AuthSettings {
        let skip_acl = self.bool("skipACL");
        if skip_acl {
            self.warn(
                "skipACL",
                Concern::Other,
                "ACCESS CONTROL IS OFF: everybody may read, change and delete every node",
            );
        }
        let algorithm = self.text("DigestAuthenticationProvider.digestAlg").unwrap_or_default();
        let password_hash = PasswordHash::named(&algorithm).unwrap_or_else(|| {
            self.refuse(
                "DigestAuthenticationProvider.digestAlg",
                &format!("{algorithm:?} is no algorithm known here; write the one that the other servers have, such as SHA1 or SHA-256"),
            );
            PasswordHash::default()
        });
        let super_digest = self.text("DigestAuthenticationProvider.superDigest");
        if super_digest.as_ref().is_some_and(|digest| !digest.starts_with("super:")) {
            self.warn(
                "DigestAuthenticationProvider.superDigest",
                Concern::Other,
                "names a user other than super, so nobody becomes superuser; write super:DIGEST",
            );
        }
        let schemes = list(&self.text("enforce.auth.schemes").unwrap_or_default());
        let enforced = self.bool("enforce.auth.enabled");
        if enforced && schemes.is_empty() {
            self.refuse(
                "enforce.auth.enabled",
                "is true but enforce.auth.schemes names no scheme; write enforce.auth.schemes=digest",
            );
        }
        if let Some(unknown) = schemes.iter().find(|scheme| enforced && !matches!(scheme.as_str(), "digest" | "ip")) {
            self.refuse(
                "enforce.auth.schemes",
                &format!("{unknown} is not served, so nobody could satisfy it; write digest, ip or both"),
            );
        }
        let digest_enabled = self.bool("DigestAuthenticationProvider.enabled");
        if enforced && !digest_enabled && schemes.iter().all(|scheme| scheme == "digest") {
            self.refuse(
                "enforce.auth.schemes",
                "asks for digest, which DigestAuthenticationProvider.enabled=false turns off; write one or the other",
            );
        }
        AuthSettings {
            skip_acl,
            eager_acl_check: self.bool("enableEagerACLCheck"),
            ensemble_names: self.ensemble_names(),
            digest_enabled,
            password_hash,
            super_digest,
            enforced_schemes: enforced.then_some(schemes),
        }
    }

    /// Java: `EnsembleAuthenticationProvider`, which is there only if it is named.
    fn ensemble_names(&mut self) -> Option<Vec<String>> {
        let class = format!("{}EnsembleAuthenticationProvider", keys::AUTH_PROVIDER_PACKAGE);
        let is_loaded =
            self.settings.values().any(|setting| setting.key.name == "authProvider." && setting.value == class);
        is_loaded.then(|| list(&self.text("ensembleAuthName").unwrap_or_default()))
    }

    /// `authProvider.N` may name what is built in, and nothing else: ACLs of a scheme nobody checks protect nothing.
    fn check_authentication_providers(&mut self) {
        let providers: Vec<Setting> =
            self.settings.values().filter(|setting| setting.key.name == "authProvider.").cloned().collect();
        for Setting { name, value, .. } in providers {
            let class = value.strip_prefix(keys::AUTH_PROVIDER_PACKAGE);
            match class.filter(|class| keys::AUTH_PROVIDERS.contains(class)) {
                Some(
                    "DigestAuthenticationProvider" | "IPAuthenticationProvider" | "EnsembleAuthenticationProvider",
                ) => {}
                Some(_) => self.warn(&name, Concern::NotYet, "has no effect: nobody can log in with this scheme yet, so its ACLs admit nobody"),
                None => self.refuse(&name, &format!("{value:?} is not built in, and without it ACLs of its scheme would protect nothing; remove it, or name one of {}", keys::AUTH_PROVIDERS.join(", "))),
            }
        }
    }

    fn tree(&mut self) -> TreeSettings {
        TreeSettings {
            digest_enabled: self.bool("digest.enabled"),
            close_session_txn_enabled: self.bool("closeSessionTxn.enabled"),
            extended_types_enabled: self.bool("extendedTypesEnabled"),
            emulate_353_ttl: self.bool("emulate353TTLNodes"),
            enforce_quota: self.bool("enforceQuota"),
            container_check_interval_ms: self.u32("znode.container.checkIntervalMs"),
            container_deletions_per_minute: self.u32("znode.container.maxPerMinute"),
            container_never_used_max_ms: self.count("znode.container.maxNeverUsedIntervalMs"),
        }
    }

    fn runtime(&mut self) -> RuntimeSettings {
        let cpus = self.text("ringkeeper.cores").and_then(|text| {
            let cpus = cpu_list(&text);
            if cpus.is_none() {
                self.refuse("ringkeeper.cores", &format!("{text:?} is no list of CPUs; write one like 0-3,8"));
            }
            cpus
        });
        let pin = match self.text("ringkeeper.pin").as_deref() {
            Some("on") => Pin::On,
            Some("off") => Pin::Off,
            _ => Pin::Auto,
        };
        let spin_us = match self.value("ringkeeper.spinMicros") {
            Some(Value::Int(micros)) => u32::try_from(micros).ok(),
            _ => None,
        };
        RuntimeSettings { cpus, pin, spin_us, log_level: self.log_level() }
    }

    fn log_level(&mut self) -> Option<LogLevel> {
        // `root.logger` is a level followed by appenders: INFO,CONSOLE.
        let text = self.text("console.threshold").or_else(|| self.text("root.logger"))?;
        let word = text.split(',').next().unwrap_or_default().trim().to_ascii_uppercase();
        match word.as_str() {
            "OFF" => Some(LogLevel::Off),
            "FATAL" | "ERROR" => Some(LogLevel::Error),
            "WARN" => Some(LogLevel::Warn),
            "INFO" => Some(LogLevel::Info),
            "DEBUG" => Some(LogLevel::Debug),
            "TRACE" | "ALL" => Some(LogLevel::Trace),
            _ => {
                let key =
                    if self.settings.contains_key("console.threshold") { "console.threshold" } else { "root.logger" };
                self.warn(
                    key,
                    Concern::Other,
                    &format!("{word:?} is no log level; write ERROR, WARN, INFO, DEBUG or TRACE"),
                );
                None
            }
        }
    }

    fn membership(&mut self) -> Option<(Vec<Member>, Mode)> {
        let multi_address = self.bool("multiAddress.enabled");
        let lines: Vec<Setting> =
            self.settings.values().filter(|setting| setting.key.name == "server.").cloned().collect();
        let mut members = Vec::new();
        for Setting { name, value, origin, .. } in &lines {
            match members::parse_member(name, value, multi_address) {
                Ok(member) => members.push(member),
                Err(why) => self.problems.push(format!("{origin}: {name}: {why}")),
            }
        }
        if members.len() < lines.len() {
            return None;
        }
        let place = match lines.first() {
            Some(line) => format!("{}: {}", line.origin, line.name),
            None => match self.settings.get("standaloneEnabled") {
                Some(setting) => format!("{}: standaloneEnabled", setting.origin),
                None => self.source.clone(),
            },
        };
        match members::decide_mode(&members, self.bool("standaloneEnabled")) {
            Ok(mode @ Mode::Standalone { single_line_ignored }) => {
                if single_line_ignored {
                    let text = format!("{place}: only one server specified (ignoring): this server runs standalone");
                    self.notices.push(Notice::new(Level::Error, Concern::Ineffective, text));
                }
                Some((members, mode))
            }
            Ok(mode @ Mode::Ensemble { .. }) => Some((members, mode)),
            Err(why) => {
                self.problems.push(format!("{place}: {why}"));
                None
            }
        }
    }

    /// Two who listen at one place: nobody can talk to both.
    fn check_ports(&mut self, membership: &Membership, own: &Member, client: &ClientListener) {
        let mut taken: BTreeMap<(&str, u16), String> = BTreeMap::new();
        for member in membership.members.values() {
            let name = format!("server.{}", member.id);
            for address in &member.addresses {
                for (port, what) in [(address.quorum_port, "quorum"), (address.election_port, "election")] {
                    let here = format!("the {what} port of {name}");
                    let Some(other) = taken.insert((&address.host, port), here.clone()) else { continue };
                    let place = format!("{}:{port}", address.host);
                    let why = format!("{place} is {other} and {here}; give each server ports or a host of its own");
                    self.warn(&name, Concern::Other, &why);
                }
            }
        }
        for address in &own.addresses {
            let same_host = client.address.as_ref().is_none_or(|host| is_every_address(host) || *host == address.host);
            for (port, what) in [(address.quorum_port, "quorum"), (address.election_port, "election")] {
                if same_host && client.port == Some(port) {
                    let why =
                        format!("{port} is this server's {what} port in server.{}, too; write another one", own.id);
                    self.refuse("clientPort", &why);
                }
            }
        }
    }

    /// Java: `QuorumPeerConfig.parseDynamicConfig`, which warns of the same.
    fn check_number_of_voters(&mut self, membership: &Membership) {
        let voters = membership.voters().count();
        if membership.kind == QuorumKind::Majority && voters.is_multiple_of(2) {
            let why = match voters {
                2 => "two voting servers: neither may fail; write three".to_owned(),
                _ => format!("{voters} voting servers: no more may fail than of {}; write an odd number", voters - 1),
            };
            self.notices.push(Notice::warn(Concern::Other, format!("{}: {why}", self.source)));
        }
    }

    fn ensemble(&mut self, my_id: Option<i64>, texts: &Texts, client: &ClientListener) -> Option<EnsembleConfig> {
        for key in ["initLimit", "syncLimit"] {
            let ticks = self.int(key);
            let what = if self.settings.contains_key(key) { format!("is {ticks}") } else { "is not set".to_owned() };
            if ticks <= 0 {
                self.refuse(key, &format!("{what}; write a number of ticks, like {key}=10"));
            }
        }
        let multi_address = self.bool("multiAddress.enabled");
        let settings = std::mem::take(&mut self.settings);
        for Setting { key, name, value, origin } in settings.values() {
            if let Judgement::EnsembleNotYet(why) = key.judgement
                && !key.asks_for_nothing(value)
            {
                let text = format!("{origin}: {name}: has no effect: {why}");
                self.notices.push(Notice::warn(Concern::NotYet, text));
            }
        }
        let lines = settings.values().filter(|setting| ["server.", "group", "weight"].contains(&setting.key.name));
        let lines = lines.map(|setting| (&*setting.name, &*setting.value));
        let membership = Membership::from_lines(lines, multi_address);
        let membership = match membership {
            Ok(membership) => Some(membership),
            Err(error) => {
                let place = settings.get(&error.key).map_or(self.source.clone(), |setting| setting.origin.to_string());
                self.problems.push(format!("{place}: {error}"));
                None
            }
        };
        self.settings = settings;
        let mut membership = membership?;
        let in_force = self.text("dynamicConfigFile");
        membership.version = in_force.as_deref().map_or(0, dynamic_files::version_in_name);
        let path = my_id_path(&self.settings).unwrap_or_default();
        let Some(server) = my_id.map(ServerId) else {
            if let Err(error) = &texts.my_id {
                let what = match error.kind() {
                    io::ErrorKind::NotFound => "is missing".to_owned(),
                    _ => format!("cannot be read: {error}"),
                };
                let why = format!("{what}; write the N of this server's server.N line into it");
                self.problems.push(format!("{}: {why}", path.display()));
            }
            return None;
        };
        let Some(own) = membership.members.get(&server) else {
            let why = "is not in the peer list; add its server line, or correct this file";
            self.problems.push(format!("{}:1: My id {} {why}", path.display(), server.0));
            return None;
        };
        let is_observer = own.role == Role::Observer;
        self.check_session_ids(server.0);
        self.check_ports(&membership, own, client);
        self.check_number_of_voters(&membership);
        if (self.text("peerType").as_deref() == Some("observer")) != is_observer
            && self.settings.contains_key("peerType")
        {
            let role = if is_observer { "observer" } else { "participant" };
            let why = format!("the server line says {role}, and that counts; write peerType={role}, or remove it");
            self.warn("peerType", Concern::Other, &why);
        }
        let sync_limit = self.u32("syncLimit");
        let dynamic_files =
            self.bool("reconfigEnabled").then(|| DynamicFiles::new(Path::new(&self.source), &self.settings));
        let mut configs = Configurations::settled(membership);
        if let Some(files) = &dynamic_files {
            let next = match &texts.next_members {
                Ok(text) => Membership::parse(text).map(Some).map_err(|error| format!("{error}; correct it")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(format!("cannot be read: {error}; make it readable")),
            };
            match next {
                Ok(Some(next)) => drop(configs.see(&next)),
                Ok(None) => {}
                Err(why) => self.problems.push(format!("{}: {why}, or remove it", files.next().display())),
            }
        }
        let introduction_ms = self.int("quorumCnxnTimeoutMs");
        Some(EnsembleConfig {
            server,
            configs,
            dynamic_files,
            empty_disk_is_new: self.bool("db.autocreate"),
            standalone_enabled: self.bool("standaloneEnabled"),
            init_limit: self.u32("initLimit"),
            sync_limit,
            connect_limit: self.u32("connectToLearnerMasterLimit"),
            epoch_wait_ms: u32::try_from(self.int("leader.maxTimeToWaitForEpoch")).ok(),
            notification_min_ms: self.u32("fastleader.minNotificationInterval"),
            notification_max_ms: self.u32("fastleader.maxNotificationInterval"),
            observer_delay_ms: self.u32("observer.election.DelayMs"),
            observer_master_port: u16::try_from(self.int("observerMasterPort")).ok().filter(|port| *port != 0),
            observer_reconnect_ms: self.u32("observer.reconnectDelayMs"),
            observer_queue_max_bytes: self.u32("observerMaster.sizeLimit"),
            snap_syncs_max: self.u32("leader.maxConcurrentSnapSyncs"),
            diff_syncs_max: self.u32("leader.maxConcurrentDiffSyncs"),
            commit_log_count: self.commit_log_count(),
            snapshot_size_factor: self.snapshot_size_factor(),
            connect_timeout_ms: self.u32("cnxTimeout").max(1),
            introduction_timeout_ms: match u32::try_from(introduction_ms) {
                Ok(ms) if ms > 0 => ms,
                _ => self.u32("tickTime").saturating_mul(sync_limit).max(1),
            },
            connect_retry_ms: self.u32("leaderConnectDelayDuringRetryMs"),
            leader_serves: !self.bool("leaderServes"),
            bind_retries: self.u32("electionPortBindRetry"),
            listen_everywhere: self.bool("quorumListenOnAllIPs"),
            multi_address,
            tcp_keep_alive: self.bool("tcpKeepAlive"),
        })
    }

    /// Java: `ZKDatabase`, which keeps no fewer than its default.
    fn commit_log_count(&mut self) -> u32 {
        const LEAST: u32 = 500;
        let count = self.u32("commitLogCount");
        if count < LEAST {
            self.warn(
                "commitLogCount",
                Concern::Other,
                &format!("{count} is too few for learners to catch up; {LEAST} are kept"),
            );
        }
        count.max(LEAST)
    }

    fn snapshot_size_factor(&mut self) -> Option<f64> {
        const DEFAULT: f64 = 0.33;
        let Some(Value::Double(factor)) = self.value("snapshotSizeFactor") else { return Some(DEFAULT) };
        if factor > 1.0 {
            let why = format!("{factor} is more than a whole snapshot; {DEFAULT} counts instead");
            self.warn("snapshotSizeFactor", Concern::Other, &why);
            return Some(DEFAULT);
        }
        (factor >= 0.0).then_some(factor)
    }

    // Reading values. A value that cannot be read has been refused by `judge`; the default stands in for it.

    fn value(&self, name: &str) -> Option<Value> {
        let key = keys::find(name).map(|found| found.key)?;
        let read = |text: &str| values::check(key.kind, text).ok();
        let written = self.settings.get(name).and_then(|setting| read(&setting.value));
        written.or_else(|| if key.default.is_empty() { None } else { read(key.default) })
    }

    fn optional_int(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Int(number) => Some(number),
            other => panic!("{name} is read as an integer and is {other:?}"),
        }
    }

    /// Of a key with a default.
    fn int(&self, name: &str) -> i64 {
        self.optional_int(name).unwrap_or_else(|| panic!("{name} has no default"))
    }

    fn u32(&self, name: &str) -> u32 {
        u32::try_from(self.int(name).max(0)).unwrap_or(u32::MAX)
    }

    /// A bound: 0 and less mean that there is none.
    fn count(&self, name: &str) -> Option<u32> {
        Some(self.u32(name)).filter(|count| *count > 0)
    }

    fn double(&self, name: &str) -> f64 {
        match self.value(name) {
            Some(Value::Double(value)) => value,
            _ => panic!("{name} has no default"),
        }
    }

    fn bool(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Bool(true)))
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    fn place(&self, name: &str) -> String {
        match self.settings.get(name) {
            Some(setting) => format!("{}: {name}", setting.origin),
            None => format!("{}: {name}", self.source),
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        let place = self.place(name);
        self.problems.push(format!("{place}: {why}"));
    }

    fn warn(&mut self, name: &str, concern: Concern, why: &str) {
        let text = format!("{}: {why}", self.place(name));
        self.notices.push(Notice::warn(concern, text));
    }
}

fn is_every_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_unspecified())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A comma list, trimmed, without empty ones.
fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `0-3,8`, in order and without duplicates. No machine has more than a few thousand.
fn cpu_list(text: &str) -> Option<Vec<usize>> {
    const CPU_MAX: usize = 8191;
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        let (first, last) = (first.trim().parse::<usize>().ok()?, last.trim().parse::<usize>().ok()?);
        if first > last || last > CPU_MAX {
            return None;
        }
        cpus.extend(first..=last);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Some(cpus)
}
