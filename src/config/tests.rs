//! Whole configurations, as an operator would write them. The refusals are those of a Java 3.9 server.

use super::*;

type Loaded = Result<(Config, Vec<Notice>), ConfigError>;

fn nothing(_: &str) -> Option<String> {
    None
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A directory with `zoo.cfg` in it; `DIR` in the text stands for the directory.
struct Home {
    directory: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let text = text.replace("DIR", &self.directory.path().display().to_string());
        std::fs::write(self.path(name), text).unwrap();
    }

    fn load_with(&self, text: &str, environment: &[(&str, &str)], command_line: &[&str]) -> Loaded {
        self.write("zoo.cfg", text);
        let lookup = |name: &str| {
            environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        };
        Config::load(&Source::File(self.path("zoo.cfg")), &lookup, &strings(command_line))
    }
}

fn load(text: &str) -> Loaded {
    Home::new().load_with(text, &[], &[])
}

fn load_with(text: &str, environment: &[(&str, &str)], command_line: &[&str]) -> Loaded {
    Home::new().load_with(text, environment, command_line)
}

fn good(text: &str) -> Config {
    load(&format!("dataDir=/d\nadmin.enableServer=false\n{text}")).unwrap().0
}

fn warnings(text: &str) -> Vec<String> {
    let (_, notices) = load(&format!("dataDir=/d\nadmin.enableServer=false\n{text}")).unwrap();
    notices.into_iter().filter(|notice| notice.level == Level::Warn).map(|notice| after_file(&notice.text)).collect()
}

/// Without the path of the temporary directory: from `zoo.cfg` on.
fn after_file(text: &str) -> String {
    text.find("zoo.cfg").map_or(text, |at| &text[at..]).to_owned()
}

fn refusals(text: &str) -> Vec<String> {
    let error = load(text).unwrap_err();
    assert_eq!(error.exit_code, EXIT_BAD_CONFIG);
    error.problems.iter().map(|problem| after_file(problem)).collect()
}

#[test]
fn without_a_configuration_the_server_is_the_one_in_the_shipped_file() {
    let (config, notices) = Config::load(&Source::BuiltIn, &nothing, &[]).unwrap();
    assert_eq!(notices, []);
    assert_eq!(config.mode, Mode::Standalone { single_line_ignored: false });
    assert_eq!(config.client.port, Some(2181));
    assert_eq!(config.directories.data, Path::new("./data"));
    assert_eq!(config.directories.log, Path::new("./data"));
    assert_eq!(config.sessions, SessionTimeouts { tick_time_ms: 2000, min_ms: 4000, max_ms: 40_000 });
    assert_eq!(config.client.per_address_max, Some(60));
    assert_eq!(config.log.segment_bytes, 64 << 20);
    assert_eq!(config.limits.frame_bytes_max, 1_048_575);
    assert_eq!(config.limits.record_extra_bytes, 1_048_575);
    assert_eq!(config.snapshots.log_bytes_max, Some(4 << 30));
    assert_eq!((config.snapshots.purge_interval_ms, config.snapshots.bytes_per_second), (None, None));
    assert!(config.tree.digest_enabled && !config.auth.skip_acl && config.auth.digest_enabled);
}

#[test]
fn every_commented_key_of_the_shipped_file_is_known() {
    let commented =
        STANDALONE_CFG.lines().filter_map(|line| line.strip_prefix('#')).filter(|line| !line.starts_with(' '));
    let keys: Vec<_> = commented.filter_map(|line| line.split_once('=')).collect();
    assert!(keys.len() > 10);
    for (key, value) in keys {
        let found = keys::find(key).unwrap_or_else(|| panic!("{key}"));
        assert!(values::check(found.key.kind, value).is_ok(), "{key}={value}");
    }
}

#[test]
fn bad_configurations_are_refused_with_file_line_and_key() {
    let members = "initLimit=5\nsyncLimit=2\nserver.1=127.0.0.1:1:2\nserver.2=127.0.0.1:3:4\nserver.3=127.0.0.1:5:6\n";
    for (text, expected) in [
        ("clientPort=1\ntickTime=2000", "zoo.cfg: dataDir: is not set;"),
        ("dataDir=/d\nclientPort=abc", "zoo.cfg:2: clientPort: \"abc\" is not an integer;"),
        ("dataDir=/d\nclientPort=65536", "zoo.cfg:2: clientPort: 65536 is out of range;"),
        (
            "dataDir=/d\nclientPort=1\nreconfigEnabled=yes",
            "zoo.cfg:3: reconfigEnabled: invalid option \"yes\"; write true or false",
        ),
        ("dataDir=/d\nclientPort=1\nserver.1=a:1:2:observer", "zoo.cfg:3: server.1: observers without participants"),
        ("dataDir=/d\nserver.1=127.0.0.1:1", "zoo.cfg:2: server.1: 127.0.0.1:1 does not have the form server_config"),
        ("dataDir=/d\nelectionAlg=1", "zoo.cfg:2: electionAlg: invalid value, only 3 is supported;"),
        (
            "dataDir=/d\nminSessionTimeout=70000",
            "zoo.cfg:2: minSessionTimeout: minSessionTimeout (70000) must not be larger than maxSessionTimeout (60000);",
        ),
        ("dataDir=/d\ntickTime=0", "zoo.cfg:2: tickTime: is not set"),
        (
            "dataDir=/d\nmetricsProvider.className=org.example.Mine",
            "zoo.cfg:2: metricsProvider.className: \"org.example.Mine\" is not known;",
        ),
        ("dataDir=/d\nsecureClientPort=2281", "zoo.cfg:2: secureClientPort: refused: TLS is not served yet"),
        ("dataDir=/d\nclientPortAddress=::1", "zoo.cfg:2: clientPortAddress: is set but clientPort is not;"),
        ("dataDir=/d\nssl.keyStore.password=x", "zoo.cfg:2: ssl.keyStore.password: refused:"),
        ("dataDir=/d\noraclePath=/o", "zoo.cfg:2: oraclePath: refused:"),
        (
            "dataDir=/d\nauthProvider.1=org.example.Auth",
            "zoo.cfg:2: authProvider.1: \"org.example.Auth\" is not built in",
        ),
        ("dataDir=/d\nsessionRequireClientSASLAuth=true", "zoo.cfg:2: sessionRequireClientSASLAuth: refused:"),
        (
            "dataDir=/d\nenforce.auth.enabled=true",
            "zoo.cfg:2: enforce.auth.enabled: is true but enforce.auth.schemes names no scheme;",
        ),
        (
            "dataDir=/d\nenforce.auth.enabled=true\nenforce.auth.schemes=digest,sasl",
            "zoo.cfg:3: enforce.auth.schemes: sasl is not served",
        ),
        (
            "dataDir=/d\nDigestAuthenticationProvider.digestAlg=MD2",
            "zoo.cfg:2: DigestAuthenticationProvider.digestAlg: \"MD2\" is no algorithm known here;",
        ),
        ("dataDir=/d\naudit.enable=true", "zoo.cfg:2: audit.enable: refused:"),
        ("dataDir=/d\nautopurge.purgeInterval=1w", "zoo.cfg:2: autopurge.purgeInterval: \"1w\" is not an interval;"),
        ("dataDir=/d\nringkeeper.cores=4-2", "zoo.cfg:2: ringkeeper.cores: \"4-2\" is no list of CPUs;"),
        ("dataDir=/d\nringkeeper.log.strategy=fsync", "zoo.cfg:2: ringkeeper.log.strategy: \"fsync\""),
        (
            "dataDir=/d\nforceSync=no\nringkeeper.log.strategy=dsync",
            "zoo.cfg:3: ringkeeper.log.strategy: dsync flushes every write, and forceSync=no says that nothing is flushed;",
        ),
        (
            "dataDir=/d\nforceSync=yes\nringkeeper.log.strategy=none",
            "zoo.cfg:3: ringkeeper.log.strategy: none flushes nothing, and forceSync says that every write is flushed;",
        ),
        (
            "dataDir=/d\nringkeeper.log.backend=syscalls\nringkeeper.logThread=inline",
            "zoo.cfg:3: ringkeeper.logThread: inline would stop the server while a system call waits for the disk;",
        ),
        ("dataDir=/d\nringkeeper.log.batchesInFlight=9", "zoo.cfg:2: ringkeeper.log.batchesInFlight: "),
        ("dataDir=\\u12", "zoo.cfg:1: malformed \\uXXXX;"),
        ("dataDir=", "zoo.cfg:1: dataDir: is empty;"),
        (&format!("dataDir=/d\n{members}"), "/d/myid: is missing; write the N of this server's server.N line into it"),
        (
            "dataDir=/d\nstandaloneEnabled=false",
            "zoo.cfg:2: standaloneEnabled: no participant while standaloneEnabled=false;",
        ),
    ] {
        let problems = refusals(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        assert!(problems[0].starts_with(expected), "{text}:\n{}\n{expected}", problems[0]);
        assert!(problems[0].contains("; "), "says what is wrong but not what to write: {}", problems[0]);
    }
}

#[test]
fn all_problems_are_reported_at_once_and_an_ensemble_says_what_it_lacks() {
    let problems = refusals("clientPort=x\ntickTime=0\nserver.1=a:1:2\nserver.2=b:1:2");
    assert_eq!(problems.len(), 6, "{problems:?}"); // no dataDir, port, tick, both limits, myid
    let error = ConfigError { problems, exit_code: 2 };
    assert!(error.to_string().lines().all(|line| line.starts_with("ringkeeper: ")));
    assert_eq!(error.to_string().lines().count(), 6);
}

#[test]
fn a_member_knows_its_ensemble() {
    let home = Home::new();
    home.write("myid", "3\n");
    let text = "dataDir=DIR\ntickTime=500\ninitLimit=10\nsyncLimit=4\nserver.1=a:1:2\nserver.2=b:1:2:participant;2181\n\
                server.3=c:1:2:observer\nadmin.enableServer=false\n";
    let (config, notices) = home.load_with(text, &[], &[]).unwrap();
    let ensemble = config.ensemble.unwrap();
    assert_eq!((ensemble.server, ensemble.configs.committed.members.len()), (ServerId(3), 3));
    assert_eq!((ensemble.init_limit, ensemble.sync_limit, ensemble.introduction_timeout_ms), (10, 4, 2000));
    let warned: Vec<_> = notices.iter().filter(|notice| notice.level != Level::Info).collect();
    assert!(warned.len() == 1 && warned[0].text.ends_with("two voting servers: neither may fail; write three"));

    let said = |more: &str| {
        let (_, notices) = home.load_with(&format!("{text}{more}"), &[], &[]).unwrap();
        let other = |notice: &Notice| notice.level == Level::Warn && notice.text != warned[0].text;
        notices.into_iter().filter(other).map(|notice| notice.text).collect::<String>()
    };
    assert!(said("peerType=participant\n").contains("the server line says observer"));
    assert!(said("syncEnabled=false\n").contains("syncEnabled: has no effect: an observer always keeps a log"));
    assert_eq!(said("leaderServes=no\npeerType=observer\n"), "");
    let serves =
        |more: &str| home.load_with(&format!("{text}{more}"), &[], &[]).unwrap().0.ensemble.unwrap().leader_serves;
    let is_new =
        |more: &str| home.load_with(&format!("{text}{more}"), &[], &[]).unwrap().0.ensemble.unwrap().empty_disk_is_new;
    assert!(is_new("") && !is_new("db.autocreate=false\n"));
    assert_eq!(said("db.autocreate=false\n"), "");
    // Java compares with this word alone.
    let written = ["", "leaderServes=no\n", "leaderServes=yes\n", "leaderServes=No\n"];
    assert_eq!(written.map(serves), [true, false, true, true]);

    let synchronising = |more: &str| {
        let ensemble = home.load_with(&format!("{text}{more}"), &[], &[]).unwrap().0.ensemble.unwrap();
        (ensemble.snap_syncs_max, ensemble.diff_syncs_max, ensemble.commit_log_count, ensemble.snapshot_size_factor)
    };
    assert_eq!(synchronising(""), (10, 100, 500, Some(0.33)));
    let more = "leader.maxConcurrentSnapSyncs=2\nmaxConcurrentDiffSyncs=3\ncommitLogCount=900\nsnapshotSizeFactor=-1\n";
    assert_eq!(synchronising(more), (2, 3, 900, None));
    assert_eq!(synchronising("commitLogCount=10\nsnapshotSizeFactor=2\n"), (10, 100, 500, Some(0.33)));
    assert!(
        said("commitLogCount=10\n").contains("commitLogCount: 10 is too few for learners to catch up; 500 are kept")
    );
    assert!(said("snapshotSizeFactor=2\n").contains("2 is more than a whole snapshot; 0.33 counts instead"));
    let error = home.load_with(&format!("{text}leader.maxConcurrentSnapSyncs=0\n"), &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("leader.maxConcurrentSnapSyncs"), "{error}");

    home.write("myid", "4\n");
    let error = home.load_with(text, &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("myid:1: My id 4 is not in the peer list;"), "{error}");
    home.write("myid", "1\n");
    let error = home.load_with(&format!("{text}group.1=1\n"), &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("group.1") || error.problems[0].contains("group"), "{error}");
}

#[test]
fn a_missing_file_and_too_many_arguments_are_refused() {
    let error = Config::load(&Source::File("/no/such/zoo.cfg".into()), &nothing, &[]).unwrap_err();
    assert!(error.to_string().starts_with("ringkeeper: /no/such/zoo.cfg: cannot read"), "{error}");
    assert!(Source::from_arguments(&strings(&["1", "2", "3", "4", "5"])).is_err());
}

#[test]
fn sessions_may_be_local() {
    let local = |text: &str| good(text).local_sessions;
    assert_eq!(local(""), None);
    assert_eq!(local("localSessionsUpgradingEnabled=true\n"), None);
    assert_eq!(local("localSessionsEnabled=true\n"), Some(LocalSessions { upgrading: false }));
    let both = "localSessionsEnabled=true\nlocalSessionsUpgradingEnabled=true\n";
    assert_eq!(local(both), Some(LocalSessions { upgrading: true }));
}

#[test]
fn the_short_form() {
    let source = Source::from_arguments(&strings(&["2182", "/d", "1000"])).unwrap();
    let (config, _) = Config::load(&source, &nothing, &[]).unwrap();
    assert_eq!(config.client.port, Some(2182));
    assert_eq!(config.directories.data, Path::new("/d"));
    assert_eq!(config.sessions, SessionTimeouts { tick_time_ms: 1000, min_ms: 2000, max_ms: 20_000 });
    let source = Source::from_arguments(&strings(&["x", "/d"])).unwrap();
    let error = Config::load(&source, &nothing, &[]).unwrap_err();
    assert!(error.problems[0].starts_with("arguments: clientPort: \"x\""), "{error}");
    assert_eq!(Source::from_arguments(&[]), Ok(Source::BuiltIn));
}

#[test]
fn myid_is_read_trimmed_and_must_be_a_number() {
    let home = Home::new();
    home.write("myid", " 7 \n");
    assert_eq!(home.load_with("dataDir=DIR", &[], &[]).unwrap().0.my_id, Some(7));
    home.write("myid", "x\n");
    let error = home.load_with("dataDir=DIR", &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("myid:1: serverid \"x\" is not a number;"), "{error}");
    assert_eq!(good("").my_id, None);
}

#[test]
fn a_single_server_line_runs_standalone_and_says_so() {
    let (config, notices) = load("dataDir=/d\nclientPort=2181\nserver.1=localhost:2888:3888").unwrap();
    assert_eq!(config.mode, Mode::Standalone { single_line_ignored: true });
    assert!(
        notices
            .iter()
            .any(|notice| notice.level == Level::Error && notice.text.contains("only one server specified (ignoring)"))
    );
}

#[test]
fn the_own_server_line_brings_the_client_port_as_in_the_container_image() {
    let home = Home::new();
    home.write("myid", "1");
    let image = "dataDir=DIR\nstandaloneEnabled=true\nadmin.enableServer=true\nserver.1=localhost:2888:3888;2181\n";
    let (config, _) = home.load_with(image, &[], &[]).unwrap();
    assert_eq!((config.client.port, config.client.address), (Some(2181), None));
    let (config, _) = home.load_with(&image.replace(";2181", ";10.0.0.1:2182"), &[], &[]).unwrap();
    assert_eq!((config.client.port, config.client.address.as_deref()), (Some(2182), Some("10.0.0.1")));
    // The same in both places is fine, a difference is not.
    assert!(home.load_with(&format!("{image}clientPort=2181"), &[], &[]).is_ok());
    let error = home.load_with(&format!("{image}clientPort=2182"), &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("clientPort: the client address here is 0.0.0.0:2182"), "{error}");
    // Without a myid the line belongs to nobody.
    std::fs::remove_file(home.path("myid")).unwrap();
    assert_eq!(home.load_with(image, &[], &[]).unwrap().0.client.port, None);
}

#[test]
fn servers_that_listen_at_one_place_are_told_of() {
    let home = Home::new();
    home.write("myid", "1\n");
    let text = "dataDir=DIR\ninitLimit=10\nsyncLimit=4\nadmin.enableServer=false\nserver.2=b:3:4\nserver.3=c:5:6\n";
    let notices = home.load_with(&format!("{text}server.1=b:4:5"), &[], &[]).unwrap().1;
    let warned: Vec<_> = notices.iter().filter(|notice| notice.level == Level::Warn).collect();
    let expected =
        "server.2: b:4 is the quorum port of server.1 and the election port of server.2; give each server ports";
    assert!(warned.len() == 1 && warned[0].text.contains(expected), "{warned:?}");
    let with_client = |address: &str| {
        let text = format!("{text}server.1=a:2181:2182\nclientPort=2182\n{address}");
        home.load_with(&text, &[], &[]).map(drop)
    };
    let error = with_client("").unwrap_err();
    assert!(error.problems[0].contains("clientPort: 2182 is this server's election port in server.1, too"), "{error}");
    assert!(with_client("clientPortAddress=b").is_ok());
}

#[test]
fn what_myid_lacks_is_said_once() {
    let home = Home::new();
    let text = "dataDir=DIR\ninitLimit=10\nsyncLimit=4\nserver.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2";
    home.write("myid", "one\n");
    let problems = home.load_with(text, &[], &[]).unwrap_err().problems;
    assert!(problems.len() == 1 && problems[0].contains("serverid \"one\" is not a number"), "{problems:?}");
    std::fs::remove_file(home.path("myid")).unwrap();
    std::fs::create_dir(home.path("myid")).unwrap();
    let problems = home.load_with(text, &[], &[]).unwrap_err().problems;
    assert!(problems.len() == 1 && problems[0].contains("myid: cannot be read: Is a directory"), "{problems:?}");
}

#[test]
fn a_dynamic_file_is_read_and_guarded() {
    let home = Home::new();
    home.write("members", "server.1=a:1:2\nserver.2=b:1:2");
    let static_part = "dataDir=/d\ninitLimit=5\nsyncLimit=2\ndynamicConfigFile=DIR/members\n";
    let error = home.load_with(static_part, &[], &[]).unwrap_err();
    assert!(error.problems[0].starts_with("/d/myid: is missing"), "{error}");
    let error = home.load_with(&format!("{static_part}server.3=c:1:2"), &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("although dynamicConfigFile is set"), "{error}");
    home.write("members", "tickTime=1");
    let error = home.load_with(static_part, &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("members:1: tickTime: does not belong into a dynamic file;"), "{error}");
}

#[test]
fn a_segment_is_as_long_as_the_smaller_of_the_two_limits() {
    let length = |text: &str| good(text).log.segment_bytes;
    assert_eq!(length("preAllocSize=8192"), 8 << 20);
    assert_eq!(length("preAllocSize=8192\ntxnLogSizeLimitInKb=5000"), 5000 << 10);
    assert_eq!(length("preAllocSize=8192\ntxnLogSizeLimitInKb=50000"), 8 << 20);
    assert_eq!(length("txnLogSizeLimitInKb=-1"), 64 << 20);
}

#[test]
fn the_file_wins_over_the_command_line_which_wins_over_the_environment() {
    let text = "dataDir=/d\nsnapCount=50\n";
    let environment = [
        ("SERVER_JVMFLAGS", "-Xmx1g -Dzookeeper.maxCnxns=1 -Dzookeeper.globalOutstandingLimit=11 -Djute.maxbuffer=111"),
        (
            "JVMFLAGS",
            "-Dzookeeper.maxCnxns=2 -Dzookeeper.snapCount=20 -Djute.maxbuffer=222 -Dzookeeper.preAllocSize=128",
        ),
    ];
    let (config, notices) = load_with(text, &environment, &["-Dzookeeper.snapCount=30", "jute.maxbuffer=333"]).unwrap();
    assert_eq!(config.snapshots.transactions_max, 50);
    assert_eq!(config.client.total_max, Some(2));
    assert_eq!(config.limits.outstanding_max, 11);
    assert_eq!(config.limits.frame_bytes_max, 333);
    assert_eq!(config.limits.record_extra_bytes, 1024);
    assert_eq!(config.log.segment_bytes, 128 * 1024);
    assert_eq!(config.settings["jute.maxbuffer"].origin, Origin::CommandLine);
    assert_eq!(config.settings["maxCnxns"].origin, Origin::Environment("JVMFLAGS"));
    assert!(notices.iter().any(|notice| notice.level == Level::Info && notice.text.ends_with("are ignored: -Xmx1g")));
}

#[test]
fn what_only_a_property_can_set_is_not_taken_from_the_file() {
    let text =
        "4lw.commands.whitelist=conf\njute.maxbuffer=4194304\nreadonlymode.enabled=true\nfsync.warningthresholdms=0";
    let (config, notices) =
        load_with(&format!("dataDir=/d\n{text}"), &[], &["-Dzookeeper.4lw.commands.whitelist=ruok"]).unwrap();
    assert_eq!(config.whitelisted_words, ["conf"]);
    assert_eq!(config.limits.frame_bytes_max, 1_048_575);
    assert!(!config.read_only_mode);
    assert_eq!(config.log.flush_warning_ms, 0);
    let ineffective: Vec<_> = notices.iter().filter(|notice| notice.concern == Concern::Ineffective).collect();
    assert_eq!(ineffective.len(), 2, "{notices:?}");
    assert!(ineffective[0].text.contains("give -Djute.maxbuffer=4194304 in JVMFLAGS"));
    let (config, _) = load_with("dataDir=/d", &[], &["-Dreadonlymode.enabled=true"]).unwrap();
    assert!(config.read_only_mode);
}

#[test]
fn names_written_in_the_wrong_form() {
    // Dedicated keys are no properties; properties need their prefix; either way Java says nothing.
    let (config, notices) = load_with(
        "dataDir=/d",
        &[],
        &["-Dzookeeper.tickTime=1", "-DsnapCount=7", "-Dzookeeper.jute.maxbuffer=9", "-Dfile.encoding=UTF-8"],
    )
    .unwrap();
    assert_eq!((config.sessions.tick_time_ms, config.snapshots.transactions_max), (3000, 100_000));
    let texts: Vec<_> = notices.iter().map(|notice| notice.text.as_str()).collect();
    assert!(
        texts.contains(&"command line: -Dzookeeper.tickTime: has no effect as a property; write tickTime in zoo.cfg"),
        "{texts:?}"
    );
    assert!(texts.contains(&"command line: -DsnapCount: has no effect under this name; give -Dzookeeper.snapCount"));
    assert!(
        texts.contains(
            &"command line: -Dzookeeper.jute.maxbuffer: has no effect under this name; give -Djute.maxbuffer"
        )
    );
    assert!(texts.contains(&"properties of the JVM and of others are ignored: -Dfile.encoding"));
}

#[test]
fn variables_of_the_java_scripts() {
    let environment = [
        ("ZOO_LOG4J_PROP", "DEBUG,ROLLINGFILE"),
        ("ZOO_DATADIR_AUTOCREATE_DISABLE", "1"),
        ("JMXPORT", "9010"),
        ("JVMFLAGS", "-javaagent:/opt/jmx_prometheus_javaagent.jar=9404:/etc/jmx.yml"),
    ];
    let (config, notices) = load_with("dataDir=/d\nadmin.enableServer=false", &environment, &[]).unwrap();
    assert_eq!(config.runtime.log_level, Some(LogLevel::Debug));
    assert!(!config.directories.autocreate);
    let warned: Vec<_> = notices.iter().filter(|notice| notice.level == Level::Warn).collect();
    assert_eq!(warned.len(), 2, "{warned:?}");
    assert!(warned[0].text.starts_with("JMXPORT: ") && warned[1].text.contains("jmx_prometheus"));
}

#[test]
fn a_prefixed_property_wins_over_the_same_without_prefix() {
    let flags = ["-Dzookeeper.fsync.warningthresholdms=5", "-Dfsync.warningthresholdms=9"];
    assert_eq!(load_with("dataDir=/d", &[], &flags).unwrap().0.log.flush_warning_ms, 5);
    assert_eq!(load_with("dataDir=/d", &[], &flags[1..]).unwrap().0.log.flush_warning_ms, 9);
}

#[test]
fn slips_are_honoured_or_warned_about() {
    let warned = warnings(
        "maxClientCnxns=5\nmaxClientCnxns=7\nconnectionMaxTokens=3\nzookeeper.snapCount=9\nno.such.key=1\nmaxClientCnxn=2",
    );
    assert_eq!(
        warned,
        [
            "zoo.cfg:4: maxClientCnxns: also on line 3; the last one counts, so remove the other",
            "zoo.cfg:5: connectionMaxTokens: honoured; Java knows this setting only as connection_throttle_tokens",
            "zoo.cfg:6: zookeeper.snapCount: honoured as snapCount; Java ignores it with the zookeeper. in front, so write it without",
            "zoo.cfg:7: no.such.key: unknown key, ignored; remove it",
            "zoo.cfg:8: maxClientCnxn: unknown key, ignored; did you mean maxClientCnxns?",
        ]
    );
    assert_eq!(
        warnings("\u{feff}snapCount=9\nserver1=a:1:2\nforceSync=maybe\ndataLogDir=\"/x\""),
        [
            "zoo.cfg:3: bytes beyond ASCII are read as ISO-8859-1, not UTF-8; write \\uXXXX instead",
            "zoo.cfg:3: \u{ef}\u{bb}\u{bf}snapCount: honoured as snapCount; Java does not know it behind a byte order mark, so save the file without",
            "zoo.cfg:4: server1: unknown key, ignored; did you mean server.N, with the number of a server?",
            "zoo.cfg:6: dataLogDir: quotes are part of the path; write it without",
            "zoo.cfg:5: forceSync: \"maybe\" is read as yes; write no or yes",
        ]
    );
    let config = good("maxClientCnxns=5\nmaxClientCnxns=7\nconnectionMaxTokens=3\nzookeeper.snapCount=9");
    assert_eq!(config.client.per_address_max, Some(7));
    assert_eq!(config.client.throttle, ConnectThrottle { tokens: 3, ..ConnectThrottle::default() });
    let weighed = good(
        "connection_throttle_tokens=9\nconnection_throttle_freeze_time=7\nconnection_throttle_weight_enabled=true",
    );
    let ConnectThrottle { freeze_ms, new_weight, resumed_weight, local_weight, .. } = weighed.client.throttle;
    assert_eq!((freeze_ms, new_weight, resumed_weight, local_weight), (Some(7), 3, 2, 1));
    assert_eq!(config.snapshots.transactions_max, 9);
    assert_eq!(good("znode.container.checkIntervalMs=500").tree.container_check_interval_ms, 500);
    assert_eq!(good("ringkeeper.snapshotMaxMBps=40").snapshots.bytes_per_second, Some(40 << 20));
}

#[test]
fn the_sample_file_every_installation_starts_from_is_silent() {
    let (_, notices) = load(
        "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir=/tmp/zookeeper\nclientPort=2181\nadmin.enableServer=false\n",
    )
    .unwrap();
    assert_eq!(notices, []);
}

#[test]
fn clamps_and_switched_off_bounds() {
    let config = good(
        "snapCount=1\nautopurge.snapRetainCount=1\nautopurge.purgeInterval=2\nsnapSizeLimitInKb=0\nmaxClientCnxns=0\npreAllocSize=many",
    );
    assert_eq!(config.snapshots.transactions_max, 2);
    assert_eq!(config.snapshots.retain_count, 3);
    assert_eq!(config.snapshots.purge_interval_ms, Some(7_200_000));
    assert_eq!(config.snapshots.log_bytes_max, None);
    assert_eq!(config.client.per_address_max, None);
    assert_eq!(config.log.segment_bytes, 64 << 20);
    assert_eq!(warnings("preAllocSize=many").len(), 1);
    let config = good("tickTime=2147483647");
    assert_eq!(config.sessions.max_ms, i32::MAX as u32);
}

#[test]
fn unsafe_wishes_are_loud() {
    assert!(warnings("skipACL=yes")[0].contains("ACCESS CONTROL IS OFF"));
    assert!(good("skipACL=yes").auth.skip_acl);
    assert!(!good("skipACL=true").auth.skip_acl && !good("skipACL=YES").auth.skip_acl);
    let (_, notices) = load("dataDir=/d\nadmin.enableServer=no").unwrap(); // only `false` is no
    assert!(notices.iter().any(|notice| notice.concern == Concern::NotYet && notice.level == Level::Warn));
    assert!(
        warnings("dataLogDir=logs")[0]
            .ends_with("dataLogDir: logs is relative. Prepend ./ to indicate that you're sure!")
    );
    assert!(warnings("digest.enabled=ja")[0].contains("\"ja\" is read as false"));
}

#[test]
fn the_log_strategy_is_named_or_follows_from_force_sync() {
    assert_eq!(good("").log.strategy, LogStrategy::Dsync);
    for strategy in LogStrategy::ALL {
        let text = format!("dataDir=/d\nringkeeper.log.strategy={}", strategy.name());
        let (config, notices) = load(&text).unwrap();
        assert_eq!(config.log.strategy, strategy);
        let banner = notices.iter().any(|notice| notice.level == Level::Error && notice.text.contains("NOT FLUSHED"));
        assert_eq!(banner, strategy == LogStrategy::None, "{notices:?}");
    }
    // Java: anything but `no` flushes.
    for (text, strategy) in [
        ("forceSync=no", LogStrategy::None),
        ("forceSync=no\nringkeeper.log.strategy=none", LogStrategy::None),
        ("forceSync=NO", LogStrategy::Dsync),
        ("forceSync=yes\nringkeeper.log.strategy=buffered", LogStrategy::Buffered),
    ] {
        assert_eq!(load(&format!("dataDir=/d\n{text}")).unwrap().0.log.strategy, strategy, "{text}");
    }
    let (_, notices) = load("dataDir=/d\nforceSync=no").unwrap();
    assert!(
        notices.iter().any(|notice| after_file(&notice.text).contains("forceSync: THE TRANSACTION LOG")),
        "{notices:?}"
    );
}

#[test]
fn own_keys() {
    let config = good(
        "ringkeeper.cores=8,0-2\nringkeeper.pin=off\nringkeeper.spinMicros=50\nringkeeper.logThread=inline\nringkeeper.reportedVersion=3.8.4-x",
    );
    assert_eq!(
        config.runtime,
        RuntimeSettings { cpus: Some(vec![0, 1, 2, 8]), pin: Pin::Off, spin_us: Some(50), log_level: None }
    );
    assert_eq!((config.log.thread, config.log.backend), (LogThread::Inline, LogBackend::Uring));
    let log =
        good("ringkeeper.log.backend=syscalls\nringkeeper.logThread=dedicated\nringkeeper.log.batchesInFlight=8").log;
    assert_eq!((log.thread, log.backend, log.batches_in_flight), (LogThread::Dedicated, LogBackend::Syscalls, 8));
    assert_eq!(config.reported_version.as_deref(), Some("3.8.4-x"));
    let (config, _) =
        load_with("dataDir=/d", &[], &["-Dzookeeper.console.threshold=DEBUG", "-Dringkeeper.pin=on"]).unwrap();
    assert_eq!((config.runtime.log_level, config.runtime.pin), (Some(LogLevel::Debug), Pin::On));
}

#[test]
fn the_report_names_origins_and_hides_secrets() {
    let (config, notices) = load("dataDir=/d\nclientPort=2181\nclientPort=2182\nDigestAuthenticationProvider.superDigest=super:abc=\ntypo=1\nadmin.serverPort=9000").unwrap();
    let report = check::report(&config, &notices);
    for line in [
        "  tickTime=3000  [default]",
        "  maxSessionTimeout=60000  [default]",
        "  DigestAuthenticationProvider.superDigest=***  [",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert!(report.contains("zoo.cfg:3]\n") && report.contains("clientPort=2182"));
    for title in ["Duplicates:", "Unknown keys:", "Not there yet:"] {
        assert!(report.contains(title), "{title}\n{report}");
    }
    assert!(!report.contains("abc=") && !format!("{:?}", config.auth).contains("abc="));
}

#[test]
fn members_that_change_are_read_with_the_version_in_the_name_and_what_was_proposed() {
    let home = Home::new();
    home.write("myid", "2");
    home.write("zoo.cfg.dynamic.100000007", "server.1=a:1:2:participant\nserver.2=b:1:2:participant;2181");
    let text = "dataDir=DIR\ninitLimit=5\nsyncLimit=2\nreconfigEnabled=true\ndynamicConfigFile=DIR/zoo.cfg.dynamic.100000007\n";
    let ensemble = |text: &str| home.load_with(text, &[], &[]).unwrap().0.ensemble.unwrap();
    let configs = ensemble(text).configs;
    assert_eq!((configs.committed.version, configs.is_changing()), (0x1_0000_0007, false));
    let proposed = "server.2=b:1:2:participant;2181\nserver.3=c:1:2:participant;2181\nversion=100000009";
    home.write("zoo.cfg.dynamic.next", proposed);
    let configs = ensemble(text).configs;
    assert_eq!((configs.last_seen.version, configs.last_seen.members.len()), (0x1_0000_0009, 2));
    assert!(configs.is_changing());
    let off = ensemble(&text.replace("reconfigEnabled=true\n", ""));
    assert_eq!((off.configs.is_changing(), off.dynamic_files), (false, None), "members do not change here");
    home.write("zoo.cfg.dynamic.next", &proposed.replace("participant", "leader"));
    let error = home.load_with(text, &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("zoo.cfg.dynamic.next: "), "{error}");
    assert!(error.problems[0].ends_with("; correct it, or remove it"), "{error}");
    std::fs::remove_file(home.path("zoo.cfg.dynamic.next")).unwrap();
    std::fs::create_dir(home.path("zoo.cfg.dynamic.next")).unwrap(); // it is there, and cannot be read
    let error = home.load_with(text, &[], &[]).unwrap_err();
    assert!(error.problems[0].contains("zoo.cfg.dynamic.next: cannot be read: "), "{error}");
}

#[test]
fn the_newest_members_in_a_directory_of_their_own_supersede_those_of_a_file_that_cannot_be_written() {
    let home = Home::new();
    home.write("myid", "2");
    let text = "dataDir=DIR\ninitLimit=5\nsyncLimit=2\nreconfigEnabled=true\nclientPort=2181\n\
                server.1=a:1:2\nserver.2=b:1:2\nringkeeper.dynamicConfigDir=DIR\n";
    let load = |text: &str| home.load_with(text, &[], &[]).unwrap();
    assert_eq!(load(text).0.ensemble.unwrap().configs.committed.version, 0, "none is there");
    home.write("zoo.cfg.dynamic.100000007", "server.2=b:1:2:participant;2182\nserver.3=c:1:2:participant;2181");
    home.write("zoo.cfg.dynamic.ff", "server.1=a:1:2");
    home.write("zoo.cfg.dynamic.200000000.tmp", "half");
    let (config, notices) = load(text);
    let committed = config.ensemble.unwrap().configs.committed;
    assert_eq!((committed.version, committed.members.len()), (0x1_0000_0007, 2));
    assert!(committed.members.contains_key(&ServerId(3)));
    assert_eq!(config.client.port, Some(2182), "it moved");
    assert!(notices.iter().any(|notice| notice.text.contains("superseded: the members changed since")), "{notices:?}");
    // A pointer to it or to a later one is as good.
    home.write("zoo.cfg.later.100000008", "server.2=b:1:2:participant\nserver.1=a:1:2:participant");
    let pointing = text.replace("server.1=a:1:2\nserver.2=b:1:2\n", "dynamicConfigFile=DIR/zoo.cfg.later.100000008\n");
    assert_eq!(load(&pointing).0.ensemble.unwrap().configs.committed.version, 0x1_0000_0008);
    let older = pointing.replace("100000008", "100000006");
    assert_eq!(load(&older).0.ensemble.unwrap().configs.committed.version, 0x1_0000_0007);
}

#[test]
fn limits_of_an_ensemble_are_more_than_nothing() {
    let home = Home::new();
    home.write("myid", "1");
    let text = "dataDir=DIR\nserver.1=a:1:2\nserver.2=b:1:2\ninitLimit=-5\n";
    let error = home.load_with(text, &[], &[]).unwrap_err();
    let problems: Vec<_> = error.problems.iter().map(|problem| after_file(problem)).collect();
    assert_eq!(
        problems,
        [
            "zoo.cfg:4: initLimit: is -5; write a number of ticks, like initLimit=10",
            "zoo.cfg: syncLimit: is not set; write a number of ticks, like syncLimit=10"
        ]
    );
}

#[test]
fn a_number_that_looks_like_a_kind_of_node_is_refused() {
    let home = Home::new();
    let load = |server: u32, more: &str| {
        home.write("myid", &server.to_string());
        let text = format!("dataDir=DIR\ninitLimit=5\nsyncLimit=2\nserver.{server}=a:1:2;3\nserver.7=b:1:2;3\n{more}");
        home.load_with(&text, &[], &[]).map(drop).map_err(|error| error.to_string())
    };
    for (server, more, refused) in [
        (255, "", None),
        (254, "extendedTypesEnabled=true", None),
        (
            255,
            "extendedTypesEnabled=true",
            Some("extendedTypesEnabled: ephemerals of server 255 would be taken for TTL nodes;"),
        ),
        (200, "emulate353TTLNodes=true", None),
        (127, "extendedTypesEnabled=true\nemulate353TTLNodes=true", None),
        (
            128,
            "extendedTypesEnabled=true\nemulate353TTLNodes=true",
            Some("emulate353TTLNodes: ephemerals of server 128"),
        ),
    ] {
        match (load(server, more), refused) {
            (Ok(()), None) => {}
            (Err(told), Some(refused)) => assert!(told.contains(refused), "{told}"),
            (other, _) => panic!("{server} {more}: {other:?}"),
        }
    }
}
