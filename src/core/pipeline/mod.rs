//! What happens to a request, station by station: `connect` and `admit`, then `prep` for writes or `read` for
//! reads, `commit`, `reply`. In an ensemble, `forward` is a learner's way to its leader, and `lead` what the leader
//! makes of that, `relay` the way of observers through a learner; `local` is about
//! sessions that one server keeps for itself; `read_only` is what is left without one; `eager` refuses before anybody else
//! hears of it; `liveness` is about clients that say nothing; `request_throttle` lets them wait; `quota_alarms` says what quotas refuse. Each file adds its methods to `Node`.

mod admit;
mod commit;
mod connect;
mod connect_throttle;
mod eager;
mod forward;
mod identity;
mod lead;
mod liveness;
mod local;
mod pending_view;
mod prep;
mod quota_alarms;
mod read;
mod read_only;
mod relay;
mod reply;
mod request_throttle;
mod turn_work;

pub(super) use commit::Outstanding;
pub(super) use connect_throttle::ConnectThrottle;
pub(super) use forward::Forwarded;
pub(super) use lead::{Doubted, WaitingRequests};
pub(super) use pending_view::PendingView;
pub(super) use quota_alarms::QuotaAlarms;
pub(super) use turn_work::TurnWork;
