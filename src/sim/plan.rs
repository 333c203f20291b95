//! What a seed decides before anything happens: who is there, how their network, disks and clocks are, what goes wrong.

use std::collections::{BTreeMap, BTreeSet};

use ringkeeper_storage::{LogStrategy, StoreConfig};

use super::chance::{Chance, Draw};
use super::faults::{Fault, FaultPlan, by_name};
use super::network::NetworkPlan;
use super::server::Setup;
use crate::core::settings::Ensemble;
use crate::core::zab::membership::{Configurations, Membership, QuorumKind};
use crate::core::{ServerId, Settings};
use crate::limits;

/// No server's tick is as long as that.
pub const TICK_MS_END: u64 = 400;

/// What is not left to the seed. A shrinker narrows these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    pub voters: Option<i64>,
    pub observers: Option<i64>,
    pub clients: Option<usize>,
    /// Length of the first phase.
    pub seconds: Option<u64>,
    pub without: Vec<Fault>,
    /// If there are any: these strike, as often as they ever do, and no others.
    pub only: Vec<Fault>,
    /// After so many transactions an epoch gives way to the next.
    pub rollover_at: Option<u32>,
    /// Whether the membership changes.
    pub reconfigure: Option<bool>,
    pub emphasis: Option<Emphasis>,
    pub observer_masters: Option<bool>,
    pub local_sessions: Option<bool>,
}

/// What a run is about, beside everything else: some branches are only reached by whoever makes for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Emphasis {
    None,
    /// Sessions own so many ephemerals that their end cannot list them.
    Ephemerals,
    /// Learners need snapshots, and get them slowly.
    Snapshots,
    /// Nonsense is talked on the youngest links, when everything is still to be said there.
    Handshakes,
    /// Leaders come and go, and hardly anything is ever written.
    Beginnings,
    /// The same, and who missed anything gets it as a snapshot.
    ShortMemories,
}

impl Emphasis {
    pub const ALL: &'static [Emphasis] = &[
        Emphasis::None,
        Emphasis::Ephemerals,
        Emphasis::Snapshots,
        Emphasis::Handshakes,
        Emphasis::Beginnings,
        Emphasis::ShortMemories,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Emphasis::None => "none",
            Emphasis::Ephemerals => "ephemerals",
            Emphasis::Snapshots => "snapshots",
            Emphasis::Handshakes => "handshakes",
            Emphasis::Beginnings => "beginnings",
            Emphasis::ShortMemories => "short-memories",
        }
    }

    /// From a stream of its own: all else is drawn as if there were none.
    fn draw(seed: u64) -> Emphasis {
        match Chance(seed ^ 0x9d8a_51c3_7be1_0f42).below(32) {
            0 => Emphasis::Ephemerals,
            1 | 2 => Emphasis::Snapshots,
            3 | 4 => Emphasis::Handshakes,
            5 | 6 => Emphasis::Beginnings,
            7 => Emphasis::ShortMemories,
            _ => Emphasis::None,
        }
    }

    /// The faults it needs, and the mean time between two of them.
    fn faults(self) -> &'static [(Fault, u64)] {
        match self {
            Emphasis::None | Emphasis::Ephemerals => &[],
            Emphasis::Snapshots => {
                &[(Fault::SlowLink, 200_000), (Fault::LinkBreaks, 1_000_000), (Fault::PowerCut, 700_000)]
            }
            Emphasis::Handshakes => &[(Fault::Nonsense, 10_000), (Fault::LinkBreaks, 200_000)],
            Emphasis::Beginnings | Emphasis::ShortMemories => {
                &[(Fault::Kill, 150_000), (Fault::Partition, 400_000), (Fault::LinkBreaks, 150_000)]
            }
        }
    }
}

impl std::str::FromStr for Emphasis {
    type Err = String;

    fn from_str(name: &str) -> Result<Emphasis, String> {
        by_name("emphasis", name, Emphasis::ALL, Emphasis::name)
    }
}

#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Of most operations.
    pub latency_us: u64,
    pub sector_bytes: usize,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub voters: i64,
    pub observers: i64,
    /// The group and the weight of each voter; none: a majority decides.
    pub groups: Vec<(i64, u64)>,
    /// Servers that speak Java's protocol alone.
    pub java: Vec<bool>,
    pub clients: usize,
    /// Everything may go wrong for so long.
    pub safety_us: u64,
    /// Then everything must be well within this.
    pub liveness_us: u64,
    pub network: NetworkPlan,
    /// How many times as long as others' messages those of observers take.
    pub observer_slowness: u64,
    pub disk: DiskPlan,
    pub faults: FaultPlan,
    pub tick_ms: u32,
    pub emphasis: Emphasis,
    pub rollover_at: Option<u32>,
    /// The membership changes: servers that are in no configuration at first, and whether one voter alone may be left.
    pub reconfigures: Option<Spares>,
    /// Followers serve observers.
    pub observer_masters: bool,
    /// Sessions begin as those of one server; whether they can become everybody's.
    pub local_sessions: Option<bool>,
    chance: Chance,
}

#[derive(Clone, Copy, Debug)]
pub struct Spares {
    pub count: i64,
    pub one_is_enough: bool,
}

impl Spares {
    /// From a stream of its own, as `Emphasis`.
    fn draw(seed: u64, wish: Option<bool>) -> Option<Spares> {
        let mut chance = Chance(seed ^ 0x52c0_94d1_6be3_7a19);
        let drawn = chance.one_in(12);
        let spares = Spares { count: *chance.pick(&[0, 1, 2, 3]), one_is_enough: chance.one_in(3) };
        wish.unwrap_or(drawn).then_some(spares)
    }
}

impl Plan {
    pub fn draw(seed: u64, wishes: &Wishes) -> Plan {
        let mut chance = Chance(seed);
        // Whatever is wished, the rest is drawn as if it were not: a narrower run resembles the one it came from.
        let voters = wishes.voters.unwrap_or(*chance.pick(&[3, 3, 3, 3, 5, 5, 5, 1, 2, 4, 6, 7]));
        let observers = wishes.observers.unwrap_or(*chance.pick(&[0, 0, 0, 1, 2]));
        let clients = wishes.clients.unwrap_or(chance.between(1..9) as usize);
        // Most of what can happen happens soon; a few runs are long.
        let seconds = chance.between(3..8) * if chance.one_in(16) { 4 } else { 1 };
        let seconds = wishes.seconds.unwrap_or(seconds);
        let network = NetworkPlan {
            latency_us: chance.any_size(50..4_000),
            buffer_bytes: chance.any_size(1 << 10..1 << 18) as usize,
        };
        let disk = DiskPlan { latency_us: chance.any_size(20..4_000), sector_bytes: *chance.pick(&[512, 512, 4096]) };
        // Whoever sets an ensemble up gives it time for a few messages and flushes.
        let tick_ms_min = (network.latency_us + disk.latency_us) / 100;
        let tick_ms = chance.any_size(40..TICK_MS_END).max(tick_ms_min) as u32;
        let observer_slowness = if chance.one_in(4) { chance.any_size(2..100) } else { 1 };
        let groups = draw_groups(voters, &mut chance.fork());
        let mut java = chance.fork();
        let some_java = java.one_in(5);
        let java = (0..voters + observers).map(|_| some_java && java.coin()).collect();
        let emphasis = wishes.emphasis.unwrap_or(Emphasis::draw(seed));
        let mut faults = FaultPlan::draw(&mut chance.fork());
        for (fault, mean_us) in emphasis.faults() {
            faults.set(*fault, *mean_us);
        }
        if !wishes.only.is_empty() {
            faults = FaultPlan::often(&wishes.only);
        }
        for fault in &wishes.without {
            faults.set(*fault, 0);
        }
        let is_plain_ensemble = groups.is_empty() && voters + observers > 1;
        let reconfigures = Spares::draw(seed, wishes.reconfigure).filter(|_| is_plain_ensemble);
        // From a stream of its own: runs without them are as they were.
        let observer_masters = Chance(seed ^ 0x1f83_d9ab_fb41_bd6b).one_in(4);
        let observer_masters = wishes.observer_masters.unwrap_or(observer_masters) && observers > 0;
        let mut local = Chance(seed ^ 0x3c6e_f372_fe94_f82b);
        let (local_sessions, upgrading) = (local.one_in(10), !local.one_in(4));
        let local_sessions = wishes.local_sessions.unwrap_or(local_sessions).then_some(upgrading);
        let liveness_us = 1_000 * u64::from(tick_ms) * 200 + 60_000_000;
        let safety_us = seconds * 1_000_000;
        Plan {
            seed,
            voters,
            observers,
            groups,
            java,
            clients,
            safety_us,
            liveness_us,
            network,
            observer_slowness,
            disk,
            faults,
            tick_ms,
            emphasis,
            rollover_at: wishes.rollover_at,
            reconfigures,
            observer_masters,
            local_sessions,
            chance: chance.fork(),
        }
    }

    pub fn servers(&self) -> Vec<ServerId> {
        let spares = self.reconfigures.map_or(0, |spares| spares.count);
        (1..=self.voters + self.observers + spares).map(ServerId).collect()
    }

    /// Clients, and who administers the ensemble behind them.
    pub fn all_clients(&self) -> usize {
        self.clients + usize::from(self.reconfigures.is_some())
    }

    pub fn tick_us(&self) -> u64 {
        u64::from(self.tick_ms) * 1_000
    }

    pub fn speaks_java(&self, place: usize) -> bool {
        self.java.get(place).is_some_and(|java| *java)
    }

    pub fn membership(&self) -> Membership {
        let mut membership = Membership::of(self.voters, self.observers);
        if !self.groups.is_empty() {
            let (mut groups, mut weights) = (BTreeMap::<i64, BTreeSet<ServerId>>::new(), BTreeMap::new());
            for (id, (group, weight)) in (1..).map(ServerId).zip(&self.groups) {
                groups.entry(*group).or_default().insert(id);
                weights.insert(id, *weight);
            }
            membership.kind = QuorumKind::Hierarchical { groups, weights };
        }
        membership
    }

    pub fn is_ensemble(&self) -> bool {
        self.voters + self.observers > 1
    }

    /// For each server the same settings, as operators should have it, but for what is drawn at each.
    pub fn setups(&self) -> Vec<Setup> {
        let mut shared = self.chance.clone();
        let drawn = if shared.one_in(3) { shared.any_size(20..2_000) as u32 } else { 0x8000_0000 };
        let rollover_at = self.rollover_at.unwrap_or(drawn);
        let left = if shared.coin() { shared.any_size(64..2_000) as u32 } else { u32::MAX };
        let mut ensemble = Ensemble {
            tick_ms: self.tick_ms,
            init_limit: shared.between(5..12) as u32,
            sync_limit: shared.between(3..8) as u32,
            epoch_wait_ms: self.epoch_wait_ms(),
            notification_min_ms: (self.tick_ms / 4).max(10),
            notification_max_ms: self.tick_ms * 4,
            finalize_wait_ms: (self.tick_ms / 4).max(10),
            commit_log_count: shared.any_size(1..500) as usize,
            snapshot_size_factor: *shared.pick(&[Some(0.33), Some(0.33), Some(10.0), None]),
            force_snapshot_sync: shared.one_in(8),
            read_only_mode: shared.one_in(4),
            rollover_at,
            counter_end: rollover_at.saturating_add(left),
            learner_queue_max_bytes: shared.any_size(1 << 13..1 << 21) as usize,
            ..Ensemble::default()
        };
        let mut settings = Settings {
            tick_ms: self.tick_ms,
            session_timeout_min_ms: 2 * self.tick_ms as i32,
            session_timeout_max_ms: 20 * self.tick_ms as i32,
            container_check_interval_ms: 1_000,
            container_max_never_used_ms: *shared.pick(&[0, 5_000]),
            extended_types: true,
            local_sessions: self.local_sessions.is_some(),
            local_sessions_upgrading: self.local_sessions == Some(true),
            snapshot_backlog_max_bytes: shared.any_size(1 << 9..1 << 22) as usize,
            // Of half of the seeds.
            turn_nodes: if self.tick_ms.is_multiple_of(2) { 100 } else { limits::TURN_NODES },
            ..Settings::default()
        };
        match self.emphasis {
            Emphasis::None | Emphasis::Handshakes | Emphasis::Beginnings => {}
            Emphasis::Ephemerals => (settings.jute_max_buffer_bytes, settings.jute_extra_bytes) = (1, 0),
            Emphasis::Snapshots => {
                settings.snapshot_backlog_max_bytes = 512;
                settings.snapshot_chunk_bytes = 256;
                ensemble.force_snapshot_sync = true;
                // So many small pieces take their time, and nobody gets by without them: whoever wants that allows for it, the
                // more the longer the tree grows.
                let pieces = 60 * (self.safety_us / 1_000_000).max(10);
                let storing_ticks = pieces * self.disk.latency_us / self.tick_us();
                ensemble.init_limit = ensemble.init_limit.max(storing_ticks as u32);
            }
            Emphasis::ShortMemories => {
                ensemble.force_snapshot_sync = false;
                ensemble.commit_log_count = 1;
                ensemble.snapshot_size_factor = None;
            }
        }
        if let Some(spares) = self.reconfigures {
            (settings.reconfig_enabled, settings.skip_acl) = (true, true);
            settings.standalone_enabled = !spares.one_is_enough;
        }
        let strategy =
            *shared.pick(&[LogStrategy::Dsync, LogStrategy::Linked, LogStrategy::ODsync, LogStrategy::TwoStep]);
        let configs = self.is_ensemble().then(|| Configurations::settled(self.membership()));
        let setup = |server: &ServerId| {
            let batch_bytes_max = shared.any_size(1 << 13..1 << 15) as usize;
            let store = StoreConfig {
                segment_bytes: shared.any_size(1 << 15..1 << 18),
                batches_in_flight: shared.between(1..4) as usize,
                batch_bytes_max,
                reserve_bytes: 1 << 14,
                mark_bytes: shared.any_size(1 << 13..1 << 16),
                snapshot_run_nodes: shared.any_size(16..10_000) as u32,
                snapshots_kept: shared.between(1..4) as usize,
                strategy,
                has_peers: self.is_ensemble(),
                ..StoreConfig::new("/sim", "/sim")
            };
            let mut ensemble = ensemble.clone();
            self.throttle_syncs(&mut ensemble);
            ensemble.observer_delay_ms = shared.below(u64::from(self.tick_ms)) as u32;
            self.observe_masters(*server, &mut ensemble);
            Setup {
                server: *server,
                settings: Settings {
                    server: *server,
                    ensemble,
                    hash_seed: server.0.cast_unsigned(),
                    ..settings.clone()
                },
                store,
                configs: configs.clone(),
                snap_count: shared.any_size(20..4_000),
            }
        };
        self.servers().iter().map(setup).collect()
    }

    /// From a stream of its own.
    fn epoch_wait_ms(&self) -> Option<u32> {
        let mut chance = Chance(self.seed ^ 0x6a09_e667_f3bc_c908);
        let wait_ms = chance.below(2 * u64::from(self.tick_ms)) as u32;
        chance.one_in(8).then_some(wait_ms)
    }

    /// Observers that have to wait for one another.
    fn throttle_syncs(&self, ensemble: &mut Ensemble) {
        let mut chance = Chance(self.seed ^ 0x243f_6a88_85a3_08d3);
        if chance.one_in(6) {
            ensemble.snap_syncs_max = chance.between(1..3) as usize;
            ensemble.diff_syncs_max = chance.between(1..3) as usize;
        }
    }

    fn observe_masters(&self, server: ServerId, ensemble: &mut Ensemble) {
        if self.observer_masters {
            let mut chance = Chance(self.seed ^ 0x5be0_cd19_137e_2179);
            ensemble.observer_masters = true;
            ensemble.observer_queue_max_bytes = chance.any_size(1 << 12..1 << 20) as usize;
            ensemble.observer_reconnect_ms = chance.below(2 * u64::from(self.tick_ms)) as u32;
            ensemble.observer_master_order = chance.fork().0.wrapping_add(server.0 as u64);
        }
    }
}

/// Two or three groups with weights, sometimes.
fn draw_groups(voters: i64, chance: &mut Chance) -> Vec<(i64, u64)> {
    if voters < 3 || !chance.one_in(8) {
        return Vec::new();
    }
    let groups = chance.between(2..4) as i64;
    let voter = |voter| (1 + voter % groups, *chance.pick(&[1, 1, 1, 2, 0]));
    let mut drawn: Vec<(i64, u64)> = (0..voters).map(voter).collect();
    drawn[0].1 = drawn[0].1.max(1);
    drawn
}
