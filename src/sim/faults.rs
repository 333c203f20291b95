//! What can go wrong, how often, and how often it did.
//!
//! Each fault strikes by itself, like accidents do; which of them strike in a run, and how often, is drawn from its seed. What
//! a strike does is in `strikes.rs`.

use super::chance::{Chance, Draw};

macro_rules! faults {
    ($($fault:ident $name:literal $mean_ms:literal),* $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($fault),* }

        impl Fault {
            pub const ALL: &'static [Fault] = &[$(Fault::$fault),*];

            /// As people write it.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$fault => $name),* }
            }

            /// The time between two of them in the whole world, where it strikes at an eighth of its most.
            fn mean_ms(self) -> u64 {
                match self { $(Fault::$fault => $mean_ms),* }
            }
        }
    };
}

faults! {
    Kill "kill" 2_000,
    KillAtDiskOperation "kill-at-disk-operation" 2_000,
    KillInRecovery "kill-in-recovery" 3_000,
    PowerCut "power-cut" 2_000,
    PowerCutEverywhere "power-cut-everywhere" 15_000,
    Stop "stop" 5_000,
    WriteFails "write-fails" 8_000,
    FlushFails "flush-fails" 8_000,
    DiskFull "disk-full" 8_000,
    SlowDisk "slow-disk" 4_000,
    BitRot "bit-rot" 8_000,
    MisdirectedWrite "misdirected-write" 12_000,
    Wipe "wipe" 12_000,
    Pause "pause" 4_000,
    ClockJump "clock-jump" 3_000,
    ClockDrift "clock-drift" 5_000,
    LinkBreaks "link-breaks" 1_500,
    OneWayCut "one-way-cut" 4_000,
    Partition "partition" 6_000,
    SlowLink "slow-link" 4_000,
    ElectionLineBreaks "election-line-breaks" 2_000,
    ClientLinkBreaks "client-link-breaks" 1_000,
    ClientCut "client-cut" 4_000,
    HandOver "hand-over" 6_000,
    Nonsense "nonsense" 4_000,
    Snapshot "snapshot" 4_000,
    Strand "strand" 1_000,
}

/// The mean time between two strikes of each fault, microseconds; 0: never.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    means_us: [u64; Fault::ALL.len()],
}

impl FaultPlan {
    pub fn none() -> FaultPlan {
        FaultPlan { means_us: [0; Fault::ALL.len()] }
    }

    /// These, at their most.
    pub fn often(faults: &[Fault]) -> FaultPlan {
        let mut plan = FaultPlan::none();
        faults.iter().for_each(|fault| plan.set(*fault, fault.mean_ms() * 1000 / 4));
        plan
    }

    /// Some runs are calm, some have a little of everything, some a lot of one thing.
    pub fn draw(chance: &mut Chance) -> FaultPlan {
        let mut plan = FaultPlan::none();
        let of_ten = *chance.pick(&[1, 3, 6, 9]);
        for fault in Fault::ALL {
            let mean_us = fault.mean_ms() * 1000;
            let times = chance.any_size(1..17);
            if chance.below(10) < of_ten {
                plan.means_us[*fault as usize] = mean_us * times / 8;
            }
        }
        plan
    }

    pub fn mean_us(&self, fault: Fault) -> u64 {
        self.means_us[fault as usize]
    }

    pub fn set(&mut self, fault: Fault, mean_us: u64) {
        self.means_us[fault as usize] = mean_us;
    }

    pub fn striking(&self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(|fault| self.mean_us(*fault) > 0)
    }
}

/// How often each fault struck and found something to strike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts([u64; Fault::ALL.len()]);

impl FaultCounts {
    pub fn add(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub fn add_all(&mut self, other: &FaultCounts) {
        for (ours, theirs) in self.0.iter_mut().zip(other.0) {
            *ours += theirs;
        }
    }

    pub fn get(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl std::str::FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Fault, String> {
        by_name("fault", name, Fault::ALL, Fault::name)
    }
}

/// What people mean by a name.
pub(super) fn by_name<T: Copy>(what: &str, name: &str, all: &[T], name_of: fn(T) -> &'static str) -> Result<T, String> {
    let names = || all.iter().map(|one| name_of(*one)).collect::<Vec<_>>().join(", ");
    let found = all.iter().copied().find(|one| name_of(*one) == name);
    found.ok_or_else(|| format!("there is no {what} {name:?}; there are: {}", names()))
}
