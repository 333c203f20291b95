//! What happens to a request, station by station: [`connect`] and [`admit`], then [`prep`] for writes or [`read`] for
//! reads, [`commit`], [`reply`]. Each file adds its methods to [`super::node::Node`].

mod admit;
mod commit;
mod connect;
mod identity;
mod pending_view;
mod prep;
mod read;
mod reply;

pub(super) use commit::Outstanding;
pub(super) use connect::ConnectThrottle;
pub(super) use pending_view::PendingView;
