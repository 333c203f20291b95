//! The handshake: first frame of a connection each way, without the headers of later ones. Spec: client-protocol 5.
//!
//! The one trap: the `readOnly` byte came with 3.4 and may be absent. The answer carries it if and only if the request
//! did, because old clients read a fixed number of bytes.

use crate::wire::frame::{begin_frame, end_frame};
use crate::wire::jute::{DecodeError, Limits, Reader, put_bool, put_buffer, put_i32, put_i64};

/// Bytes of a session password. Clients may send any other length, which is then simply wrong.
pub const PASSWORD_BYTES: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectRequest<'a> {
    /// Ignored by servers.
    pub protocol_version: i32,
    pub last_zxid_seen: i64,
    /// What the client wishes; any number is legal and negotiated.
    pub timeout_ms: i32,
    /// 0 asks for a new session.
    pub session_id: i64,
    pub password: Option<&'a [u8]>,
    /// `None`: the byte was absent.
    pub read_only: Option<bool>,
}

impl<'a> ConnectRequest<'a> {
    /// From a frame's payload. Any failure closes the connection without a reply.
    pub fn decode(payload: &'a [u8], limits: &Limits) -> Result<ConnectRequest<'a>, DecodeError> {
        let mut reader = Reader::new(payload, limits);
        Ok(ConnectRequest {
            protocol_version: reader.i32()?,
            last_zxid_seen: reader.i64()?,
            timeout_ms: reader.i32()?,
            session_id: reader.i64()?,
            password: reader.buffer()?,
            read_only: reader.bool().ok(),
        })
    }

    /// Appends a whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = begin_frame(out);
        put_i32(out, self.protocol_version);
        put_i64(out, self.last_zxid_seen);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session_id);
        put_buffer(out, self.password);
        self.read_only.inspect(|read_only| put_bool(out, *read_only));
        end_frame(out, frame);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectResponse {
    pub protocol_version: i32,
    /// The negotiated timeout; 0 in a refusal.
    pub timeout_ms: i32,
    /// 0 in a refusal.
    pub session_id: i64,
    pub password: [u8; PASSWORD_BYTES],
    /// `None` exactly where the request had none.
    pub read_only: Option<bool>,
}

impl ConnectResponse {
    /// What a client reads as "session expired". `read_only` as for a success; close once it is flushed.
    pub fn refusal(read_only: Option<bool>) -> ConnectResponse {
        ConnectResponse { protocol_version: 0, timeout_ms: 0, session_id: 0, password: [0; PASSWORD_BYTES], read_only }
    }

    /// Appends a whole frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let frame = begin_frame(out);
        put_i32(out, self.protocol_version);
        put_i32(out, self.timeout_ms);
        put_i64(out, self.session_id);
        put_buffer(out, Some(&self.password));
        self.read_only.inspect(|read_only| put_bool(out, *read_only));
        end_frame(out, frame);
    }

    /// From a frame's payload.
    pub fn decode(payload: &[u8]) -> Result<ConnectResponse, DecodeError> {
        let mut reader = Reader::new(payload, &Limits::FORMAT);
        Ok(ConnectResponse {
            protocol_version: reader.i32()?,
            timeout_ms: reader.i32()?,
            session_id: reader.i64()?,
            password: reader
                .buffer()?
                .and_then(|password| password.try_into().ok())
                .ok_or(DecodeError::Invalid("a password that is not 16 bytes long"))?,
            read_only: reader.bool().ok(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(read_only: Option<bool>) -> ConnectRequest<'static> {
        ConnectRequest {
            protocol_version: 7,
            last_zxid_seen: -3,
            timeout_ms: -5,
            session_id: i64::MIN,
            password: None,
            read_only,
        }
    }

    #[test]
    fn the_read_only_byte_is_there_only_if_it_was_sent() {
        for read_only in [None, Some(false), Some(true)] {
            let mut frame = Vec::new();
            request(read_only).encode(&mut frame);
            assert_eq!(ConnectRequest::decode(&frame[4..], &Limits::default()), Ok(request(read_only)));
            let mut frame = Vec::new();
            let response = ConnectResponse {
                timeout_ms: 4000,
                session_id: 5,
                password: [9; 16],
                ..ConnectResponse::refusal(read_only)
            };
            response.encode(&mut frame);
            assert_eq!(frame.len(), 4 + 36 + usize::from(read_only.is_some()));
            assert_eq!(ConnectResponse::decode(&frame[4..]), Ok(response));
        }
    }

    #[test]
    fn anything_short_of_the_read_only_byte_is_an_error_and_more_is_ignored() {
        let mut frame = Vec::new();
        request(None).encode(&mut frame);
        for cut in 4..frame.len() {
            assert!(ConnectRequest::decode(&frame[4..cut], &Limits::default()).is_err(), "cut at {cut}");
        }
        frame.extend_from_slice(&[2, 99, 99]);
        assert_eq!(ConnectRequest::decode(&frame[4..], &Limits::default()), Ok(request(Some(true))));
    }
}
