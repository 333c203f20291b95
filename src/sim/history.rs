//! What clients saw.

/// Something a client did, or that was done to it.
#[derive(Clone, Debug)]
pub enum ClientEvent {
    Connected { client: usize },
}
