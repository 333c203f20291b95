//! What is going to happen, in the order of its time; at one moment in the order in which it was decided.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::faults::Fault;

/// A connection of the network, never used twice.
pub type TcpId = u32;

/// What is going to happen. What belongs to one life of a server is void in the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// Time passed for a server: its own timer, or its tick.
    Wake {
        server: usize,
        life: u32,
    },
    /// A turn is over: what it wants of the disk is handed over.
    DiskSubmit {
        server: usize,
        life: u32,
    },
    /// An operation is done; its place in the server's list.
    DiskDone {
        server: usize,
        life: u32,
        op: usize,
    },
    /// A server has time to spare: for its snapshot, or for what it starts from.
    Spare {
        server: usize,
        life: u32,
    },
    /// Everybody who was ready had a turn.
    NextTurn {
        server: usize,
        life: u32,
    },
    /// The front of one direction of a connection has crossed the network.
    Arrival {
        tcp: TcpId,
        side: usize,
    },
    /// A new connection reaches the server it is for.
    Knock {
        knock: u32,
    },
    /// An election message is taken up by the connection, and arrives.
    ElectionSent {
        from: usize,
        to: usize,
    },
    ElectionArrival {
        from: usize,
        to: usize,
    },
    /// A server tries again to reach its master.
    MasterRetry {
        server: usize,
        life: u32,
        attempt: u32,
    },
    ClientAlarm {
        client: usize,
        alarm: u32,
    },
    /// A fault strikes, or is over.
    Strike {
        fault: Fault,
    },
    Strand,
    Relief {
        relief: u32,
    },
    Start {
        server: usize,
        life: u32,
    },
    /// A process that has failed, or been told to stop and is done, ends.
    Exit {
        server: usize,
        life: u32,
    },
    Heal,
    /// Is everybody well again?
    Look,
}

/// Its time and the number of its decision, as one number.
#[derive(Debug)]
struct Due(u128, Happening);

#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Due>,
    decided: u64,
}

impl Queue {
    pub fn at(&mut self, us: u64, happening: Happening) {
        self.decided += 1;
        self.heap.push(Due(u128::from(us) << 64 | u128::from(self.decided), happening));
    }

    pub fn pop(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|Due(at, happening)| ((at >> 64) as u64, happening))
    }
}

// The heap gives the greatest: the earliest.
impl Ord for Due {
    fn cmp(&self, other: &Due) -> Ordering {
        other.0.cmp(&self.0)
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        self.0 == other.0
    }
}

impl Eq for Due {}
