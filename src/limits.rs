//! Every bound of the server in one place, checked against each other at compile time. What happens at a bound:
//! back-pressure first, refusal with the protocol's own error second, closing the connection last.

/// Default of `jute.maxbuffer`, bytes: the longest request frame a client may send. At the bound: the connection closes.
pub const JUTE_MAX_BUFFER_DEFAULT_BYTES: usize = 0xF_FFFF;

/// Executors a connection id can name: the id carries its executor in the low byte.
pub const EXECUTORS_MAX: usize = 256;

/// Bytes read from one client socket at a time. Frames longer than this are collected over several reads.
pub const CLIENT_READ_BYTES: usize = 64 * 1024;

/// Replies waiting for one client beyond this stop the reading of its requests until it has taken some (back-pressure).
pub const CLIENT_OUTPUT_SOFT_BYTES: usize = 1024 * 1024;

/// Bytes waiting for one client beyond this close its connection: it stopped reading while notifications kept coming.
/// One reply to a client that owes nothing may be larger (`getChildren` of a million nodes), but for a `multiRead`: one
/// that would be is answered MARSHALLINGERROR.
pub const CLIENT_OUTPUT_HARD_BYTES: usize = 64 * 1024 * 1024;

/// Requests of one connection that wait for its own earlier writes beyond this stop the reading of more.
pub const CLIENT_PENDING_REQUESTS: usize = 4096;

/// Nodes that are looked at for clients before everything else has its turn: some five milliseconds, or 12,500 small requests.
pub const TURN_NODES: u64 = 100_000;

/// Bytes of requests of one connection that wait for their answers, and of the answers to its reads among them as far as they
/// can be foreseen; beyond this no more of it are read. A disk that stalls must not make a few clients' large writes fill
/// the memory, nor a flush give a client more to read at once than it can take.
pub const CLIENT_PENDING_BYTES: usize = 8 * 1024 * 1024;

/// Old images of nodes that changed while a snapshot was written and that the disk has not taken yet, bytes. At the bound
/// the snapshot is given up; the next one is tried in its turn.
pub const SNAPSHOT_BACKLOG_BYTES: usize = 512 * 1024 * 1024;

/// Node images in one chunk of a snapshot, bytes: long enough for disk and link, short enough not to be felt (some 0.1 ms to
/// gather).
pub const SNAPSHOT_CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of transactions on their way to a quorum's disks, over all clients, those included that are gone again. At the bound
/// writes wait in their sockets until some are committed; reads go on.
pub const PROPOSALS_BYTES: usize = 64 * 1024 * 1024;

/// Messages waiting for one learner, bytes; and requests of all learners' clients that wait until something may be proposed.
/// At the bound the learner, or the one whose requests take the most, is dropped, and comes back to be synchronised anew.
pub const LEARNER_QUEUE_BYTES: usize = 256 * 1024 * 1024;

/// Transactions that wait for a server's own disk, while a quorum of others commits them. Beyond that a leader's writes wait, and it
/// hands over; a learner leaves its leader until they are there.
pub const LOG_BACKLOG_BYTES: usize = 256 * 1024 * 1024;

/// `observerMaster.sizeLimit` unless it says otherwise: the same on a follower, of an observer.
pub const OBSERVER_QUEUE_BYTES: usize = 32 * 1024 * 1024;

/// `sync`s of learners' clients that wait for what is under way. At the bound the learner that asks is dropped, and comes back.
pub const LEARNER_SYNCS: usize = 1 << 18;

/// A snapshot, or what is read from the log, goes to a learner as long as it has less than this still to take, bytes.
pub const LEARNER_STREAM_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of transactions in the committed-log window, beside `commitLogCount`. At the bound the oldest go.
pub const WINDOW_BYTES: usize = 64 * 1024 * 1024;

/// Learners, and strangers that may become one, connected to a leader. At the bound newer ones are closed.
pub const LEARNERS: usize = 1024;

/// One member in it: its addresses introduce it to electors, who take 2 KiB.
pub const MEMBER_LINE_BYTES: usize = 1024;

/// The text of a configuration: an elector takes frames of half a megabyte at most.
pub const CONFIGURATION_BYTES: usize = 256 << 10;

/// Clients back with sessions that the leader does not know, which wait until it is sure that it still leads. At the bound the
/// first of them lose their connection, or their server its link to the leader, and try elsewhere.
pub const SESSIONS_DOUBTED: usize = 65_536;

/// A leader that has given out so many zxids in an epoch moves on to the next epoch. Early: at a million writes a second it
/// has another half hour for it.
pub const EPOCH_ROLLOVER_AT: u32 = 0x8000_0000;

/// No zxid's lower half ever comes to this: one more would be the next epoch's. A leader whose learners are not all able to
/// move on to the next epoch hands over before. Java: `Leader.propose`.
pub const EPOCH_COUNTER_END: u32 = u32::MAX;

/// The last epoch: zxids are signed on the wire. A peer that claims more is not believed.
pub const EPOCH_LAST: u32 = i32::MAX as u32;

/// Identities one connection may prove, and what is said for them, bytes: all of them go with each write of a follower's client to
/// the leader. At the bound: AUTHFAILED, and the connection closes.
pub const CLIENT_IDENTITIES: usize = 256;
pub const CLIENT_IDENTITIES_BYTES: usize = 64 << 10;

/// Default of `globalOutstandingLimit`: requests in flight in the whole server before busy connections are no longer read.
pub const GLOBAL_OUTSTANDING_DEFAULT: usize = 1000;

/// Frames that an io executor has read and not yet put on the bridge, bytes. At the bound it stops reading.
pub const BRIDGE_OUTBOX_BYTES: usize = 1024 * 1024;

/// Batches on the bridge from an io executor to the pipeline. At the bound the outbox waits. Few: each may hold the outbox's
/// bound and one more request, and all of them are requests that the pipeline has had no chance to hold back.
pub const BRIDGE_BATCHES_UP: usize = 8;

/// Batches on the bridge from the pipeline to an io executor: of answers, which have bounds of their own.
pub const BRIDGE_BATCHES_DOWN: usize = 1024;

const _: () = assert!(CLIENT_PENDING_BYTES < PROPOSALS_BYTES);
const _: () = assert!(PROPOSALS_BYTES < LEARNER_QUEUE_BYTES);
const _: () = assert!(LEARNER_STREAM_BYTES < LEARNER_QUEUE_BYTES && WINDOW_BYTES < LEARNER_QUEUE_BYTES);
const _: () = assert!(EPOCH_ROLLOVER_AT < EPOCH_COUNTER_END);
const _: () = assert!(CLIENT_READ_BYTES < CLIENT_OUTPUT_SOFT_BYTES);
const _: () = assert!(CLIENT_OUTPUT_SOFT_BYTES < CLIENT_OUTPUT_HARD_BYTES);
const _: () = assert!(JUTE_MAX_BUFFER_DEFAULT_BYTES < CLIENT_OUTPUT_HARD_BYTES);
const _: () = assert!(JUTE_MAX_BUFFER_DEFAULT_BYTES < CLIENT_PENDING_BYTES);
