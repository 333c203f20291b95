//! The node from outside: inputs in, bytes out, a disk that finishes when the test says so. No clock, socket or file.

mod edge_cases;
mod edges;
mod ensemble;
mod ensemble_harness;
mod field_failures;
mod harness;
mod interleavings;
mod learner_snapshots;
mod local_sessions;
mod observer_masters;
mod ordering;
mod quota;
mod reconfiguration;
mod recovery;
mod request_throttle;
mod role_changes;
mod sessions;
mod status;
mod turns;
mod watches;
mod writes;
