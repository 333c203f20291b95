//! Where the two servers of a seed live, and what holds for a whole server: that varies from seed to seed.

use std::path::Path;

use super::Options;
use super::generate::Habits;
use crate::Result;
use crate::server::{Home, Kind, Running, Setup};
use crate::target;

const SUPER: &str = "DigestAuthenticationProvider.superDigest=super:xQJmxLMiHGwaqBvst5y6rkB6HQs=";
/// Ports that one pair of servers takes.
const PORTS: u16 = 8;

/// The reference and ringkeeper, as one seed wants them.
#[derive(Clone, Debug)]
pub struct Arena {
    pub setups: [Setup; 2],
    /// Addresses that only one of the two has, as they show in its configuration node.
    pub own_texts: [Vec<String>; 2],
    pub session_count: usize,
}

impl Arena {
    /// `job`: of those that run at the same time, each has ports of its own.
    pub fn new(options: &Options, reference: &Kind, seed: u64, job: u16) -> Arena {
        let port = options.port_base + job * PORTS;
        let ours = Kind::Ringkeeper { binary: options.binary.clone() };
        let setup = |kind: &Kind, port| setup(kind, &target().join("differential"), port, seed);
        let texts = |port: u16| vec![format!("127.0.0.1:{}:{}", port + 1, port + 2), format!("127.0.0.1:{port}")];
        Arena {
            setups: [setup(reference, port), setup(&ours, port + PORTS / 2)],
            own_texts: [texts(port), texts(port + PORTS / 2)],
            session_count: options.session_count,
        }
    }

    /// Both on empty directories.
    pub fn start(&self) -> Result<Vec<Running>> {
        self.setups.iter().try_for_each(Setup::wipe)?;
        self.start_again(&[])
    }

    /// Both on what they wrote, with more settings.
    pub fn start_again(&self, more: &[&str]) -> Result<Vec<Running>> {
        let with_more = self.setups.clone().map(|mut setup| {
            setup.extra.extend(more.iter().map(|line| (*line).to_owned()));
            setup
        });
        for (setup, with_more) in self.setups.iter().zip(&with_more) {
            std::fs::create_dir_all(setup.data())?;
            assert_eq!(setup.address(), with_more.address());
        }
        Setup::start_all(&with_more)
    }
}

fn setup(kind: &Kind, directory: &Path, port: u16, seed: u64) -> Setup {
    let mut extra = settings(seed);
    if is_member(seed) {
        extra.push("standaloneEnabled=false\ninitLimit=10\nsyncLimit=5".into());
        extra.push(format!("server.1=127.0.0.1:{}:{}", port + 1, port + 2));
    }
    // Nobody pulls a plug here. Every fourth seed flushes all the same: then writes are under way for a while.
    if matches!(kind, Kind::Java { .. }) || !seed.is_multiple_of(4) {
        extra.push("forceSync=no".into());
    }
    Setup {
        kind: kind.clone(),
        directory: directory.join(port.to_string()),
        home: Home::default(),
        port,
        tick_ms: 2000,
        my_id: is_member(seed).then_some(1),
        extra,
    }
}

/// Whether both are ensembles of one: another pipeline in the reference, and settings that only members have.
pub fn is_member(seed: u64) -> bool {
    matches!(seed % 16, 8 | 10 | 12 | 14)
}

/// Whether containers and TTL nodes go in the end.
pub fn is_reaped(seed: u64) -> bool {
    seed % 4 == 1
}

/// How requests have to be for the servers of a seed.
pub fn habits(seed: u64) -> Habits {
    Habits {
        enforces_quotas: enforces_quotas(seed),
        frame_bytes_max: match seed % 16 {
            6 => 700,
            13 => 400,
            _ => 0xf_ffff,
        },
        spares_ensembles: is_member(seed),
        has_sound_multis: matches!(seed % 16, 10 | 12),
        has_no_ephemerals: seed % 16 == 10,
        limits_outstanding: seed % 16 == 11,
        has_no_handshakes: seed % 16 == 7,
    }
}

fn enforces_quotas(seed: u64) -> bool {
    matches!(seed % 16, 2 | 4 | 8)
}

/// Nodes that have had their time are looked for so seldom that it does not happen while sessions are at work.
pub const NEVER_REAPS: &str = "-Dznode.container.checkIntervalMs=100000000";
/// And so often in the end.
pub const REAPS: &str = "-Dznode.container.checkIntervalMs=100";

fn settings(seed: u64) -> Vec<String> {
    let own: &[&str] = match seed % 16 {
        1 => &["skipACL=yes"],
        3 => &["closeSessionTxn.enabled=false"],
        5 => &["minSessionTimeout=6000"],
        6 => &["-Djute.maxbuffer=700"],
        7 => &["enforce.auth.enabled=true", "enforce.auth.schemes=digest"],
        9 => &["DigestAuthenticationProvider.enabled=false"],
        10 => &["localSessionsEnabled=true"],
        11 => &["digest.enabled=false", "globalOutstandingLimit=1"],
        12 => &["localSessionsEnabled=true", "localSessionsUpgradingEnabled=true"],
        13 => &["largeRequestThreshold=400", "largeRequestMaxBytes=300"],
        14 => &["reconfigEnabled=true"],
        _ => &[],
    };
    let extended_types = format!("extendedTypesEnabled={}", !seed.is_multiple_of(3));
    // Sessions take turns, and nobody's ends because the machine is busy.
    let patience = "maxSessionTimeout=900000";
    let quotas = format!("enforceQuota={}", enforces_quotas(seed));
    own.iter().chain(&[SUPER, &extended_types, &quotas, patience, NEVER_REAPS]).map(|line| (*line).to_owned()).collect()
}
