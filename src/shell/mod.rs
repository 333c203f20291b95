//! IO and nothing but. The thinking is in [`crate::core`]; this folder reads clocks and sockets, feeds what happened to the
//! core and carries out what it answers.
//!
//! ```text
//!  accept thread --sockets--> executor 0: connections, core, log       (run.rs, pipeline.rs, log_task.rs)
//!        |                       ^   |  batches (bridge.rs)
//!        +-------sockets-------> |   v
//!                             executors 1..n: connections              (io_executor.rs)
//! ```
//!
//! * [`node_host`]: the core, made from configuration and disk. * [`settings`]: what the shell has to know. * [`start`]: from settings
//!   to a serving process; [`run`]: executor 0 from its first task to its last. * [`reactor`]: what an executor waits for.
//! * [`java_data`]: what Java left in the directories; [`initialize`]: the word that an empty disk is a new one.
//! * [`pipeline`]: inputs into the core, outputs carried out. * [`log_task`]: when a batch leaves for the disk and what its
//!   completion wakes. * [`snapshot_trigger`]: when a snapshot is due; [`snapshot_pace`], [`snapshot_task`]: how fast it is written.
//! * [`stall`]: a disk that hangs.
//! * [`ensemble`]: the other servers: election port, quorum port, links.
//! * [`client_listener`]: the accept thread, limits per address, which executor; [`client_door`]: the client port that moves, [`door`]: as any port of this server may. * [`client_connection`]: one client's socket.
//! * [`four_letter`]: texts for operators, [`host`]: what the process knows of itself for them.
//! * [`bridge`]: bounded queues between executors; [`mailbox`]: from a thread that may block to an executor.
//! * [`placement`]: which CPU runs what; [`cpus`]: which there are. * [`resolve`]: names. * [`signals`], [`clock`], [`logging`].
//!
//! Only this folder names glommio, which places threads and runs tasks; what they wait for is [`reactor`]'s. Every connection task
//! catches its panics (one would end the executor), and long work is cut into chunks by count.

pub mod bridge;
pub mod client_connection;
pub mod client_door;
pub mod client_listener;
pub mod clock;
pub mod cpus;
pub mod door;
pub mod ensemble;
pub mod flag;
pub mod four_letter;
pub mod host;
pub mod initialize;
pub mod io_executor;
pub mod java_data;
pub mod log_task;
pub mod logging;
pub mod mailbox;
pub mod node_host;
pub mod pipeline;
pub mod placement;
pub mod reactor;
pub mod resolve;
pub mod run;
pub mod settings;
pub mod signals;
pub mod snapshot_pace;
pub mod snapshot_task;
pub mod snapshot_trigger;
pub mod stall;
pub mod start;
